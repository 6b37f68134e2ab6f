"""
Makes ledgers, to be verified: encodes and signs transactions, and mines blocks of them.

The rows of a block get the verdicts of the Python verifier's rules.  So a ledger made
here is good to the Python verifier by itself, and another verifier that finds a fault in
it reads doc/format.md otherwise.
"""
import os
import struct

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from verifier import keys
from verifier.block import Block, Body, Header, Row, write_header
from verifier.coding import ZEROS16, ZEROS32, ZEROS64, sized
from verifier.digests import block_hash, history_leaf, meets, merkle_root, standing
from verifier.replay import Replay, Voids
from verifier.rules import Judge
from verifier.transaction import (CONSENT, ERASURE, EXPORT, MEMBERSHIP, PATIENT, PRIMARY, QUERY, Signed)


class Key:
    """A P-256 key that signs."""

    def __init__(self):
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.spki = self.private.public_key().public_bytes(serialization.Encoding.DER,
                                                           serialization.PublicFormat.SubjectPublicKeyInfo)
        self.id = keys.key_id(self.spki)

    def sign(self, digest):
        r, s = utils.decode_dss_signature(self.private.sign(digest, keys.PREHASHED))
        s = min(s, keys.ORDER - s)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def ids(values):
    values = sorted(set(values))
    return bytes([len(values)]) + b"".join(values)


def public_fields(fields):
    """Of name -> (type, value)."""
    if not fields:
        return b""
    parts = [bytes([len(fields)])]
    for name in sorted(fields):
        kind, value = fields[name]
        parts.append(sized(name) + bytes([kind]) + (sized(value) if kind == 3 else struct.pack(">q", value)))
    return b"".join(parts)


def fields_of(kind, of):
    """The fields of a kind, from their names in verifier.transaction; what is not named is zeros."""
    get = of.get
    if kind == PATIENT:
        return sized(of["apid"]) + struct.pack(">I", of["version"]) + get("before", ZEROS32) + of["profile"]
    if kind == PRIMARY:
        return of["rid"] + sized(of["apid"]) + bytes([get("flags", 0)]) + get("amended", ZEROS16) \
            + get("ruleset", ZEROS32) + ids(get("tokens", [])) + sized(get("record", b"record"))
    if kind == QUERY:
        return bytes([of["scope"]]) + sized(get("apid", b"")) \
            + struct.pack(">HH", get("purpose", 0), get("reason", 0)) + get("note", ZEROS32) + get("basis", ZEROS16) \
            + ids(get("tokens", [])) + get("acting", ZEROS16) + ids(get("groups", []))
    if kind == CONSENT:
        return bytes([of["action"]]) + sized(of["apid"]) + get("grantee", ZEROS16) \
            + struct.pack(">HQ", get("purpose", 0), get("until", 0)) + get("reviewed", ZEROS16) \
            + bytes([get("finding", 0)]) + ids(get("groups", []))
    if kind == ERASURE:
        return sized(of["apid"]) + struct.pack(">HI", of["reason"], len(of["voids"])) \
            + b"".join(leaf + bytes([k]) + actor + tid for leaf, k, actor, tid in of["voids"])
    if kind == EXPORT:
        return of["study"] + struct.pack(">I", of["release"]) + sized(get("parameters", b"{}")) \
            + struct.pack(">Q", get("rows", 0)) + get("file", ZEROS32)
    if kind == MEMBERSHIP:
        return bytes([of["member"]]) + of["spki"] + get("replaced", ZEROS32) + get("endorsement", ZEROS64)
    return struct.pack(">H", len(of["items"])) + sized(b"".join(of["items"]))


def transaction(kind, chain, origin, time, actor, roles, public=None, **of):
    return bytes([ord("T"), 1, kind]) + chain + origin + struct.pack(">Q", time) + actor + struct.pack(">H", roles) \
        + sized(public_fields(public)) + fields_of(kind, of)


def audit_path(leaves, index):
    """RFC 9162, 2.1.3.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return audit_path(leaves[:split], index) + [merkle_root(leaves[split:])]
    return audit_path(leaves[split:], index - split) + [merkle_root(leaves[:split])]


def sign_batch(key, transactions):
    """Signed transactions of one statement."""
    nonces = [os.urandom(32) for _ in transactions]
    bare = [Signed(n, t, b"") for n, t in zip(nonces, transactions)]
    leaves = [one.leaf for one in bare]
    signature = key.sign(keys.origin_digest(len(leaves), merkle_root(leaves)))
    bodies = []
    for at, one in enumerate(bare):
        proof = b"O\x01" + signature + struct.pack(">II", at, len(leaves)) + b"".join(audit_path(leaves, at))
        bodies.append(Body(one.nonce, one.encoding, proof))
    return bodies


def endorse(old, chain, member, spki):
    return old.sign(keys.member_digest(chain, member, old.id, spki))


class Maker:
    """A chain that grows.  Blocks keep all bodies until ledger() takes away what was voided."""

    def __init__(self, chain):
        self.chain = chain
        self.live = Replay(Voids().done())
        self.blocks = []

    def add(self, bodies, time, node_key):
        """Mines a block of these bodies; gives the rules by which they were judged."""
        live, height = self.live, len(self.blocks)
        header = Header(self.chain, height, self.blocks[-1].hash if self.blocks else ZEROS32, ZEROS32, len(bodies),
                        live.blocks.root(), ZEROS32, time, 0, node_key.id, 0)
        judge = Judge(live.contract, live.history, header, height == 0)
        rows = [self.judged(judge, body, (height, at), time) for at, body in enumerate(bodies)]
        stand = [standing(row.tid, row.kind, row.leaf, row.rule) for row in rows]
        header = header._replace(root=merkle_root(stand), contract=live.contract.digest(),
                                 bits=live.contract.policy[1])
        block = mined(header, rows, node_key)
        live.tables.keep()
        live.blocks.add(history_leaf(block.hash))
        live.tip = block
        self.blocks.append(block)
        return [row.rule for row in rows]

    def judged(self, judge, body, place, now):
        signed = Signed(*body)
        rule = judge.verdict(signed)
        if rule == 0 and signed.kind == ERASURE:
            self.live.history.apply(signed.transaction, None, signed, place, now)
        elif rule == 0:
            row = Row(place[1], signed.tid, signed.kind, rule, signed.leaf, body)
            self.live.apply(row, place, now)
        if rule == 0:
            self.live.tables.put(self.live.history.tids, signed.tid, True)
        keep = rule == 0 or signed.kind == QUERY
        return Row(place[1], signed.tid, signed.kind, rule, signed.leaf, body if keep else None)

    def ledger(self):
        """The blocks without what erasures voided."""
        voids = Voids()
        for block in self.blocks:
            voids.add(block)
        of = voids.done().of
        return [block.altered(rows=[row.altered(body=None) if row.rule == 0 and row.leaf in of else row
                                    for row in block.rows]) for block in self.blocks]


def mined(header, rows, key):
    """The block of this header with a nonce that meets its bits, signed."""
    header = header._replace(nonce=0)
    while not meets(block_hash(write_header(header)), header.bits):
        header = header._replace(nonce=header.nonce + 1)
    data = write_header(header)
    stored = block_hash(data)
    return Block(header.height, stored, data, key.sign(keys.block_digest(stored)), rows)
