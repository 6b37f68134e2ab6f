"""Transactions of the eight kinds, the origin proof, and the signed transaction."""
from dataclasses import dataclass, field

from . import keys
from .coding import ZEROS16, ZEROS32, ZEROS64, Malformed, Reader, ascending, graphic, need
from .digests import leaf_of, path_length, root_by_path, tid_of
from .fields import read_values
from .items import read_items

PATIENT, PRIMARY, QUERY, CONSENT, ERASURE, EXPORT, MEMBERSHIP, CONTRACT = range(1, 9)
ADMIN, REGISTRAR, CLINICIAN, SENSOR, RESEARCHER, AUDITOR = (1 << n for n in range(6))
RECORDS, HISTORY, SEARCH, MATCH, EXPORT_SCOPE, EMERGENCY, NOTE = range(1, 8)
GRANT, REVOCATION, REVIEW = 1, 2, 3
AMENDS, FLAGGED, LATE = 1, 2, 4
NODE, ORIGIN = 1, 2

MOST_TIME = 2 ** 48 * 1000 - 1
MOST_VOIDS = 1000000
MOST_RECORD = 64 * 1024 * 1024
MOST_TRANSACTION = MOST_RECORD + 8192
MOST_PROOF = 1098


@dataclass
class Transaction:
    """What all kinds have, and in `of` the fields of its kind by name."""
    kind: int
    chain: bytes
    origin: bytes
    time: int
    actor: bytes
    roles: int
    public: dict
    of: dict = field(default_factory=dict)

    def __getattr__(self, key):
        try:
            return self.__dict__["of"][key]
        except KeyError:
            raise AttributeError(key) from None

    @property
    def patient(self):
        """The aPid that it names, or None."""
        return self.of.get("apid") or None


def _apid(reader):
    apid = reader.bytes(1, 64)
    need(graphic(apid, 1, 64), "an aPid that is not graphic")
    return apid


def _ids(reader, most=255):
    """Tokens or groups."""
    count = reader.u8()
    need(count <= most, "too many")
    return ascending([reader.take(16) for _ in range(count)], "ids")


def _patient(reader):
    of = {"apid": _apid(reader), "version": reader.u32(), "before": reader.take(32), "profile": reader.take(32)}
    need(of["version"] >= 1, "a version that is none")
    return of


def _primary(reader):
    of = {"rid": reader.take(16), "apid": _apid(reader), "flags": reader.u8(), "amended": reader.take(16),
          "ruleset": reader.take(32), "tokens": _ids(reader, 64), "record": reader.bytes(1, MOST_RECORD)}
    need(not of["flags"] & ~(AMENDS | FLAGGED | LATE), "an unknown flag")
    need(of["flags"] & AMENDS or of["amended"] == ZEROS16, "an amended record of what amends none")
    return of


def _query(reader):
    scope = reader.among(RECORDS, NOTE)
    apid = b"" if scope == SEARCH else None
    if apid is None:
        apid = _apid(reader)
    else:
        need(reader.u32() == 0, "a search for a patient")
    of = {"scope": scope, "apid": apid, "purpose": reader.u16(), "reason": reader.u16(),
          "note": reader.take(32), "basis": reader.take(16), "tokens": _ids(reader), "acting": reader.take(16),
          "groups": _ids(reader)}
    need(scope == EMERGENCY or of["reason"] == 0, "a reason of another scope")
    need(scope == EMERGENCY or of["note"] == ZEROS32, "a note of another scope")
    need(scope in (MATCH, EXPORT_SCOPE, NOTE) or of["basis"] == ZEROS16, "a basis of another scope")
    need(1 <= len(of["tokens"]) <= 16 if scope == SEARCH else not of["tokens"], "tokens of another scope, or none")
    return of


def _consent(reader):
    of = {"action": reader.among(GRANT, REVIEW), "apid": _apid(reader), "grantee": reader.take(16),
          "purpose": reader.u16(), "until": reader.u64(), "reviewed": reader.take(16), "finding": reader.u8(),
          "groups": _ids(reader)}
    action = of["action"]
    if action == REVIEW:
        need(of["grantee"] == ZEROS16 and of["purpose"] == 0, "a review with a grantee or a purpose")
        need(of["finding"] in (1, 2), "a review that finds nothing")
    else:
        need(of["reviewed"] == ZEROS16 and of["finding"] == 0, "a finding that is no review's")
    need(action != GRANT or of["grantee"] != ZEROS16, "a grant to nobody")
    need(action == GRANT or of["until"] == 0, "an end that is no grant's")
    need(of["until"] <= MOST_TIME, "a time out of its bounds")
    return of


def _erasure(reader):
    of = {"apid": _apid(reader), "reason": reader.u16()}
    need(of["reason"] != 0, "an erasure without a reason")
    count = reader.u32()
    need(1 <= count <= MOST_VOIDS and count * 65 == len(reader.data) - reader.at, "not so many voids")
    of["voids"] = [(reader.take(32), reader.among(PATIENT, PRIMARY), reader.take(16), reader.take(16))
                   for _ in range(count)]
    ascending([void[0] for void in of["voids"]], "voids")
    return of


def _export(reader):
    of = {"study": reader.take(16), "release": reader.u32(), "parameters": reader.bytes(1, 8192),
          "rows": reader.u64(), "file": reader.take(32)}
    need(1 <= of["release"] < 2 ** 31 and of["rows"] < 2 ** 63, "a number out of its bounds")
    return of


def _membership(reader):
    of = {"member": reader.among(NODE, ORIGIN), "spki": reader.take(91), "replaced": reader.take(32),
          "endorsement": reader.take(64)}
    need((of["replaced"] == ZEROS32) == (of["endorsement"] == ZEROS64), "a key or an endorsement without the other")
    keys.load(of["spki"])
    return of


def _contract(reader):
    count = reader.u16()
    need(1 <= count <= 64, "a count of items out of its bounds")
    return {"items": read_items(count, reader.bytes(0, 65536))}


KINDS = {PATIENT: _patient, PRIMARY: _primary, QUERY: _query, CONSENT: _consent, ERASURE: _erasure,
         EXPORT: _export, MEMBERSHIP: _membership, CONTRACT: _contract}


def read_transaction(data):
    """A transaction of a known kind; Malformed for whatever else it is."""
    reader = Reader(data)
    reader.tag("T")
    kind = reader.among(PATIENT, CONTRACT)
    made = Transaction(kind, reader.take(32), reader.take(32), reader.u64(), reader.take(16), reader.u16(),
                       read_values(reader.bytes()))
    need(made.time <= MOST_TIME, "a time out of its bounds")
    need(not made.roles & ~0x3f, "an unknown role")
    made.of = KINDS[kind](reader)
    reader.end()
    return made


@dataclass(frozen=True)
class Proof:
    """That the origin signed the leaf, as one of `size`."""
    signature: bytes
    index: int
    size: int
    path: tuple

    def root(self, leaf):
        return root_by_path(leaf, self.index, self.size, self.path)

    def signed_by(self, spki, leaf):
        return keys.verifies(spki, keys.origin_digest(self.size, self.root(leaf)), self.signature)


def read_proof(data):
    reader = Reader(data)
    reader.tag("O")
    signature, index, size = reader.take(64), reader.u32(), reader.u32()
    need(index < size, "an index beyond its tree")
    path = tuple(reader.take(32) for _ in range(path_length(index, size)))
    reader.end()
    return Proof(signature, index, size, path)


class Signed:
    """
    Nonce, transaction and proof, with what follows from them.  A transaction that is of no
    known kind is None, a proof that cannot be read as well; the kind is 0 then.
    """

    __slots__ = ("nonce", "encoding", "proof", "leaf", "transaction", "tid", "kind")

    def __init__(self, nonce, encoding, proof):
        need(len(nonce) == 32, "a nonce of another length")
        need(len(encoding) <= MOST_TRANSACTION and len(proof) <= MOST_PROOF, "a part that is too long")
        self.nonce, self.encoding = nonce, encoding
        self.leaf = leaf_of(nonce, encoding)
        self.proof = or_none(read_proof, proof)
        self.transaction = or_none(read_transaction, encoding)
        self.kind = self.transaction.kind if self.transaction and self.proof else 0
        self.tid = tid_of(self.transaction.time if self.transaction else 0, self.leaf)


def or_none(read, data):
    """What is read, or None if it is malformed."""
    try:
        return read(data)
    except Malformed:
        return None


def read_signed(data):
    reader = Reader(data)
    reader.tag("A")
    signed = Signed(reader.take(32), reader.bytes(0, MOST_TRANSACTION), reader.bytes(0, MOST_PROOF))
    reader.end()
    return signed
