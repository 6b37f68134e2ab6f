"""What is sealed: envelope, inner record, profile, note, wrapped key, pseudonym's secret; given the keys."""
import base64
import hmac
import struct
import unicodedata
from collections import namedtuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .coding import Malformed, Reader, need, sized
from .digests import sha256

Envelope = namedtuple("Envelope", "protected recipients nonce ciphertext tag")
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def hkdf(key, salt, info, length):
    return HKDF(hashes.SHA256(), length, salt or None, info).derive(key)


def secret_key_id(key):
    return hmac.digest(key, b"apm key id", "sha256")[:8]


def open_gcm(key, nonce, data, tag, aad):
    try:
        return AESGCM(key).decrypt(nonce, data + tag, aad)
    except InvalidTag:
        raise Malformed("does not open") from None


# Envelope

def read_envelope(data):
    reader = Reader(data)
    reader.tag("E")
    protected = reader.bytes()
    recipients = [(reader.take(8), reader.bytes()) for _ in range(reader.among(1, 8))]
    nonce, ciphertext, tag = reader.take(12), reader.bytes(), reader.take(16)
    reader.end()
    kid = ',"kid":"%s"' % recipients[0][0].hex() if len(recipients) == 1 else ""
    need(protected == ('{"alg":"RSA-OAEP-256","enc":"A256GCM"%s}' % kid).encode(), "another protected header")
    return Envelope(protected, recipients, nonce, ciphertext, tag)


def rsa_key_id(private):
    spki = private.public_key().public_bytes(serialization.Encoding.DER,
                                             serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki)[:8]


def open_envelope(data, private):
    """What an envelope holds, for the owner of this RSA key."""
    envelope = read_envelope(data)
    wrapped = dict(envelope.recipients).get(rsa_key_id(private))
    need(wrapped is not None, "not for this key")
    try:
        content_key = private.decrypt(wrapped, OAEP)
    except ValueError:
        raise Malformed("does not open") from None
    need(len(content_key) == 32, "a content key of another length")
    aad = base64.urlsafe_b64encode(envelope.protected).rstrip(b"=")
    return open_gcm(content_key, envelope.nonce, envelope.ciphertext, envelope.tag, aad)


# Inner record, profile, last values, note

def open_padded(data, key, salt, context):
    """The text that is sealed under a patient's key for this context."""
    reader = Reader(data)
    reader.tag("R")
    head = reader.take(8)
    commitment, nonce = reader.take(32), reader.take(12)
    need(len(data) >= 54 + 16 and (len(data) - 70) % 256 == 0 and len(data) > 70, "another length")
    made = hkdf(key, salt, b"apm padded seal", 64)
    need(head == secret_key_id(key) and made[32:] == commitment, "another key's")
    plain = open_gcm(made[:32], nonce, data[54:-16], data[-16:], b"R\x01" + head + context)
    length = struct.unpack(">I", plain[:4])[0]
    text, zeros = plain[4:4 + length], plain[4 + length:]
    need(len(text) == length and len(zeros) < 256 and not any(zeros), "another padding")
    return text


def open_record(data, key, rid, apid):
    return open_padded(data, key, rid, b"record" + rid + sized(apid))


def open_profile(data, key, apid, version):
    return open_padded(data, key, apid, b"profile" + sized(apid) + struct.pack(">I", version))


def open_last_values(data, key, apid):
    return open_padded(data, key, apid, b"last values" + sized(apid))


def open_note(data, key, apid):
    return open_padded(data, key, apid, b"note" + sized(apid))


def open_waiting(data, wrapping, generation, rid):
    """What waits for its patient, sealed for the APM under a wrapping key of a generation."""
    key = hkdf(wrapping, rid, b"apm waiting", 32)
    return open_padded(data, key, rid, b"waiting" + struct.pack(">I", generation) + rid)


def profile_digest(version, sealed):
    return sha256(b"\x00apm profile" + struct.pack(">I", version) + sized(sealed))


def note_digest(sealed):
    return sha256(b"\x00apm note" + sized(sealed))


def unwrap_key(data, wrapping, generation, apid):
    """A patient's key."""
    need(len(data) == 60, "another length")
    return open_gcm(wrapping, data[:12], data[12:44], data[44:], b"wrap" + struct.pack(">I", generation) + sized(apid))


# What is keyed

def pseudonym_secret(pepper, attributes, key):
    """What bcrypt gets: 44 characters, of an identity's attributes (name -> value) and a patient's key."""
    blind = hkdf(key, b"", b"apm pseudonym", 32)
    data = b"".join(sized(_nfc(n)) + sized(_nfc(attributes[n])) for n in sorted(attributes, key=_nfc))
    return base64.b64encode(hmac.digest(pepper, data + blind, "sha256"))


def _nfc(text):
    return unicodedata.normalize("NFC", text).encode()


def role_pseudonym(staff_key, name):
    return hmac.digest(staff_key, sized(b"") + sized(name.encode()), "sha256")[:16]


def search_token(search_key, name, canonical):
    return hmac.digest(search_key, sized(_nfc(name)) + sized(canonical), "sha256")[:16]
