#!/usr/bin/python3
"""
Opens a JWE as RFC 7516, 5.2 says, with PyCryptodome and nothing of apm.

Reads JSON from standard input: {"key": PEM of a private key, "jwe": text, "plain": hex,
"kid": kid}.  Exits with 0 if the JWE is of the given form, RSA-OAEP-256 with A256GCM,
addresses the kid and opens to the plaintext; else says why on standard error.
"""
import base64
import json
import re
import sys

from Cryptodome.Cipher import AES, PKCS1_OAEP
from Cryptodome.Hash import SHA256
from Cryptodome.PublicKey import RSA
from Cryptodome.Signature.pss import MGF1


def decode(text):
    """BASE64URL without padding, and no other text for the same bytes."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("not base64url: " + text[:20])
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise ValueError("base64url with bits left over")
    return data


def parts(jwe, kid):
    """Protected header as text, header of the recipient, wrapped key, nonce, ciphertext, tag."""
    if not jwe.startswith("{"):
        protected, wrapped, nonce, ciphertext, tag = jwe.split(".")
        return protected, json.loads(decode(protected)), wrapped, nonce, ciphertext, tag
    general = json.loads(jwe)
    if set(general) != {"protected", "recipients", "iv", "ciphertext", "tag"}:
        raise ValueError("unexpected members")
    header = json.loads(decode(general["protected"]))
    for recipient in general["recipients"]:
        if recipient["header"]["kid"] == kid:
            if set(recipient["header"]) & set(header):
                raise ValueError("a header parameter twice")
            header.update(recipient["header"])
            return (general["protected"], header, recipient["encrypted_key"], general["iv"],
                    general["ciphertext"], general["tag"])
    raise ValueError("no such recipient")


def main():
    task = json.load(sys.stdin)
    protected, header, wrapped, nonce, ciphertext, tag = parts(task["jwe"], task["kid"])
    if header != {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": task["kid"]}:
        raise ValueError("header is %r" % header)
    key = RSA.import_key(task["key"])
    oaep = PKCS1_OAEP.new(key, hashAlgo=SHA256, mgfunc=lambda seed, n: MGF1(seed, n, SHA256))
    content_key = oaep.decrypt(decode(wrapped))
    if len(content_key) != 32 or len(decode(nonce)) != 12 or len(decode(tag)) != 16:
        raise ValueError("a part has the wrong length")
    gcm = AES.new(content_key, AES.MODE_GCM, nonce=decode(nonce), mac_len=16)
    gcm.update(protected.encode("ascii"))
    plain = gcm.decrypt_and_verify(decode(ciphertext), decode(tag))
    if plain != bytes.fromhex(task["plain"]):
        raise ValueError("another plaintext")


try:
    main()
except Exception as error:
    sys.exit("open_jwe: %s: %s" % (type(error).__name__, error))
