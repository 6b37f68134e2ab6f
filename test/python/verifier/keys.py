"""P-256 keys as the ledger names them, and their signatures."""
import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

from .coding import Malformed
from .digests import sha256

SPKI_LENGTH = 91
SPKI_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200" "04")
ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
PREHASHED = ec.ECDSA(utils.Prehashed(hashes.SHA256()))


@functools.lru_cache(maxsize=1024)
def load(spki):
    """The key of a SubjectPublicKeyInfo in its one form, on the curve."""
    if len(spki) != SPKI_LENGTH or not spki.startswith(SPKI_HEAD):
        raise Malformed("not a P-256 key")
    try:
        return load_der_public_key(spki)
    except ValueError:
        raise Malformed("not a P-256 key") from None


def key_id(spki):
    return sha256(spki)


@functools.lru_cache(maxsize=65536)
def verifies(spki, digest, signature):
    """Is it this key's signature, r and s of 32 bytes each, over this SHA-256 digest?  The larger s is refused."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if s > ORDER // 2:
        return False
    try:
        load(spki).verify(utils.encode_dss_signature(r, s), digest, PREHASHED)
    except InvalidSignature:
        return False
    return True


def origin_digest(size, root):
    return sha256(b"apm origin\x00" + size.to_bytes(4, "big") + root)


def block_digest(blockhash):
    return sha256(b"apm block\x00" + blockhash)


def member_digest(chain, member, replaced, spki):
    return sha256(b"apm member\x00" + chain + bytes([member]) + replaced + spki)
