"""Digest, proof of a transaction and proof of consistency: JSON that leaves the server."""
import base64
import binascii
import json
import re

from .block import read_header
from .coding import Malformed, need
from .digests import block_hash, consistent, history_leaf, meets, root_by_path, standing
from .keys import block_digest, key_id, load, verifies
from .transaction import QUERY, read_signed

MOST_NUMBER = 2 ** 63 - 1
YEAR_10000 = 253402300800 * 1000000
DIGEST = {"chain": str, "height": int, "time": str, "hash": str, "header": str, "signature": str, "node": str}
PROOF = {"head": int, "header": str, "history": list, "position": int, "path": list, "rule": int,
         "transaction": str}
CONSISTENCY = {"old": int, "new": int, "history": list, "inclusion": list}


class Fault(Exception):
    """It can be read, and what it says is not so."""


def _pairs(pairs):
    made = dict(pairs)
    need(len(made) == len(pairs), "a member twice")
    return made


def _whole(digits):
    need(digits.isdigit() and int(digits) <= MOST_NUMBER, "a number out of its bounds")
    return int(digits)


def _refuse(_):
    raise Malformed("not a whole number")


def read_members(text, type_name, members):
    """The members of an object of this type: each of them once, and no others."""
    need("\\" not in text, "a string with an escape")
    try:
        made = json.loads(text, object_pairs_hook=_pairs, parse_int=_whole, parse_float=_refuse,
                          parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Malformed("not such JSON") from None
    need(isinstance(made, dict) and set(made) == {"type", "version"} | set(members), "other members")
    need(made["type"] == type_name and made["version"] == 1 and type(made["version"]) is int, "another type")
    for key, kind in members.items():
        need(type(made[key]) is kind, "a member of another type")
        need(kind is not list or all(isinstance(one, str) for one in made[key]), "an array of other things")
    return made


def unhex(text, length):
    need(re.fullmatch("[0-9a-f]*", text) and len(text) == 2 * length, "not so many bytes in hexadecimal")
    return bytes.fromhex(text)


def unbase64url(text):
    need(re.fullmatch("[A-Za-z0-9_-]*", text), "not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Malformed("not base64url") from None
    need(base64.urlsafe_b64encode(data).decode().rstrip("=") == text, "base64url with bits left over")
    return data


def _path(texts):
    need(len(texts) <= 64, "a path that is too long")
    return [unhex(text, 32) for text in texts]


def time_text(time):
    """2026-01-31T12:00:00.000000Z"""
    seconds, fraction = divmod(time, 1000000)
    days, seconds = divmod(seconds, 86400)
    era, day = divmod(days + 719468, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5 - 1
    month += 3 if month < 10 else -9
    year += era * 400 + (month <= 2)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % (year, month, day, seconds // 3600, seconds // 60 % 60,
                                                   seconds % 60, fraction)


class Digest:
    """The head of a chain as its node signed it; Malformed if it cannot be read, Fault if it is not good."""

    def __init__(self, text):
        said = read_members(text, "apm digest", DIGEST)
        header, signature, spki = unhex(said["header"], 226), unhex(said["signature"], 64), unhex(said["node"], 91)
        chain, stored = unhex(said["chain"], 32), unhex(said["hash"], 32)
        self.header, self.hash = read_header(header), block_hash(header)
        load(spki)
        need(self.header.time < YEAR_10000, "a time that has no text")
        if (chain, said["height"], stored) != (self.header.chain, self.header.height, self.hash) \
                or said["time"] != time_text(self.header.time):
            raise Fault("digest")
        if not meets(self.hash, self.header.bits):
            raise Fault("work")
        if key_id(spki) != self.header.node:
            raise Fault("signer")
        if not verifies(spki, block_digest(self.hash), signature):
            raise Fault("signature")
        self.height = self.header.height


class Proof:
    """That a transaction is in the chain of a digest."""

    def __init__(self, text):
        self.said = said = read_members(text, "apm proof", PROOF)
        header = unhex(said["header"], 226)
        self.header, self.hash = read_header(header), block_hash(header)
        self.history, self.path = _path(said["history"]), _path(said["path"])
        need(said["rule"] < 2 ** 16 and said["position"] < 2 ** 32, "a number out of its bounds")
        self.signed = read_signed(unbase64url(said["transaction"]))
        need(self.signed.kind != 0, "not a transaction with its proof")

    def check(self, digest):
        """Raises Fault unless it proves what it says, and Malformed where it says nothing about this digest."""
        said, signed, header = self.said, self.signed, self.header
        need(digest.height == said["head"], "not for a digest of this height")
        if not header.chain == signed.transaction.chain == digest.header.chain:
            raise Fault("chain")
        if said["rule"] and signed.kind != QUERY:
            raise Fault("a refused transaction that is no query")
        stands = standing(signed.tid, signed.kind, signed.leaf, said["rule"])
        if not _leads(stands, said["position"], header.count, self.path, header.root):
            raise Fault("root")
        if header.height == digest.height:
            if self.history or self.hash != digest.hash:
                raise Fault("history")
        elif not _leads(history_leaf(self.hash), header.height, digest.height, self.history,
                        digest.header.history):
            raise Fault("history")


def _leads(leaf, index, size, path, root):
    try:
        return root_by_path(leaf, index, size, path) == root
    except Malformed:
        return False


class Consistency:
    """That the chain of one digest is the beginning of another's."""

    def __init__(self, text):
        self.said = said = read_members(text, "apm consistency", CONSISTENCY)
        need(said["old"] <= said["new"], "an old digest that is newer")
        self.history, self.inclusion = _path(said["history"]), _path(said["inclusion"])

    def check(self, old, new):
        """Raises Fault unless it proves what it says, and Malformed where it says nothing about these digests."""
        need((self.said["old"], self.said["new"]) == (old.height, new.height), "not for digests of these heights")
        if old.header.chain != new.header.chain:
            raise Fault("chain")
        if old.height == new.height:
            if self.history or self.inclusion or old.hash != new.hash:
                raise Fault("hash")
            return
        if old.height == 0:
            if self.history:
                raise Fault("history")
        elif not consistent(old.height, new.height, old.header.history, new.header.history, self.history):
            raise Fault("history")
        if not _leads(history_leaf(old.hash), old.height, new.height, self.inclusion, new.header.history):
            raise Fault("inclusion")
