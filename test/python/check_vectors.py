#!/usr/bin/python3
"""
Holds the Python verifier against test/vectors.

    check_vectors.py DIRECTORY

Each line of output is a vector that does not hold, the last one how many hold and do not.
"""
import json
import os
import sys

import bcrypt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ledger_maker import audit_path, fields_of, public_fields, sized
from verifier import sealed
from verifier.block import read_entries, read_final, read_line
from verifier.coding import Malformed
from verifier.contract import Contract
from verifier.digests import consistent, merkle_root, root_by_path, standing
from verifier.items import read_items
from verifier.predicate import parse
from verifier.proofs import Consistency, Digest, Proof
from verifier.replay import replay
from verifier.tables import Tables
from verifier.transaction import NODE, ORIGIN, read_signed, read_transaction


class Checks:
    def __init__(self, directory):
        self.directory = directory
        self.good = self.bad = 0

    def check(self, holds, name):
        self.good, self.bad = self.good + bool(holds), self.bad + (not holds)
        if not holds:
            print("does not hold: %s" % name)

    def refuses(self, read, data, name):
        """Refused with a byte less, a byte more, and another version."""
        for spoiled in (data[:-1], data + b"\0", data[:1] + b"\2" + data[2:]):
            try:
                read(spoiled)
            except Malformed:
                self.check(True, name)
            else:
                self.check(False, name + ": spoiled, and read")

    def text(self, name):
        with open(os.path.join(self.directory, name), encoding="ascii") as file:
            return file.read()

    def vectors(self, name):
        return [(vector["name"], vector) for vector in json.loads(self.text(name))]


def unhexed(vector):
    """Members that are bytes, as bytes."""
    return {key: bytes.fromhex(value) for key, value in vector.items()
            if isinstance(value, str) and key not in ("name", "apid", "pseudonym", "private 1", "private 2")}


def encoded_again(tx):
    """The encoding of what was read, by another hand than the reader's."""
    of = dict(tx.of)
    if "items" in of:
        of["items"] = [item.encoding for item in of["items"]]
    return b"T\x01" + bytes([tx.kind]) + tx.chain + tx.origin + tx.time.to_bytes(8, "big") + tx.actor \
        + tx.roles.to_bytes(2, "big") + sized(public_fields(tx.public)) + fields_of(tx.kind, of)


def transactions(checks):
    for name, vector in checks.vectors("transactions.json"):
        data, signed = unhexed(vector), read_signed(bytes.fromhex(vector["signed"]))
        tx = signed.transaction
        checks.check((tx.kind, tx.time) == (vector["kind"], vector["time"]), name + ": kind and time")
        checks.check((signed.nonce, signed.encoding) == (data["nonce"], data["transaction"]), name + ": parts")
        checks.check((signed.leaf, signed.tid) == (data["leaf"], data["tid"]), name + ": leaf and Tid")
        checks.check(encoded_again(tx) == data["transaction"], name + ": encoded again")
        checks.check(signed.proof.signed_by(data["origin"], signed.leaf), name + ": signature")
        checks.refuses(read_transaction, data["transaction"], name)
        checks.refuses(read_signed, data["signed"], name + ", signed")


def padded(name, vector, data):
    """(the text of a padded seal, its digest or None)."""
    key, apid = data["key"], vector.get("apid", "").encode()
    if "record" in name and "rid" in data and "generation" not in vector:
        return sealed.open_record(data["sealed"], key, data["rid"], apid), None
    if name == "waiting record":
        return sealed.open_waiting(data["sealed"], key, vector["generation"], data["rid"]), None
    if name == "profile":
        return sealed.open_profile(data["sealed"], key, apid, vector["version"]), \
            sealed.profile_digest(vector["version"], data["sealed"])
    if name == "note":
        return sealed.open_note(data["sealed"], key, apid), sealed.note_digest(data["sealed"])
    return sealed.open_last_values(data["sealed"], key, apid), None


def envelope(checks, name, vector, data):
    for member in ("private 1", "private 2"):
        if member in vector:
            key = load_pem_private_key(vector[member].replace("|", "\n").encode(), None)
            checks.check(sealed.open_envelope(data["sealed"], key) == data["text"], name + ": " + member)
    checks.refuses(sealed.read_envelope, data["sealed"], name)


def pseudonym(checks, name, vector, data):
    attributes = {data["name %d" % n].decode(): data["value %d" % n].decode() for n in (1, 2) if "name %d" % n in data}
    secret, made = sealed.pseudonym_secret(data["pepper"], attributes, data["key"]), vector["pseudonym"].encode()
    checks.check(len(secret) == 44 and bcrypt.hashpw(secret, made) == made, name)


def sealed_things(checks):
    for name, vector in checks.vectors("sealed.json"):
        data = unhexed(vector)
        if name == "wrapped key":
            opened = sealed.unwrap_key(data["wrapped"], data["wrapping"], vector["generation"], vector["apid"].encode())
            checks.check(opened == data["key"], name)
        elif "pseudonym" in vector:
            pseudonym(checks, name, vector, data)
        elif "private 1" in vector:
            envelope(checks, name, vector, data)
        else:
            text, digest = padded(name, vector, data)
            checks.check(text == data["text"], name)
            checks.check(digest == data.get("digest"), name + ": digest")
            checks.refuses(lambda spoiled, n=name, v=vector, d=data: padded(n, v, {**d, "sealed": spoiled}),
                           data["sealed"], name)


def unhexed_list(texts):
    return [bytes.fromhex(text) for text in texts]


def trees(checks):
    for name, vector in checks.vectors("trees.json"):
        path = unhexed_list(vector["path"])
        if name == "path":
            leaves, index = unhexed_list(vector["leaves"]), vector["index"]
            checks.check(merkle_root(leaves).hex() == vector["root"], "root of %d" % len(leaves))
            checks.check(audit_path(leaves, index) == path, "path of %d" % index)
            checks.check(root_by_path(leaves[index], index, len(leaves), path).hex() == vector["root"], "root by path")
        else:
            roots = [bytes.fromhex(vector[key]) for key in ("old root", "new root")]
            checks.check(consistent(vector["old"], vector["new"], *roots, path), "consistency of %d" % vector["old"])
            checks.check(not consistent(vector["old"], vector["new"], *roots, path[:-1]), "a shorter path")


def predicate(checks, name, vector):
    try:
        parse(bytes.fromhex(vector["predicate"]), vector["kind"])
        good = 1
    except Malformed:
        good = 0
    checks.check(good == vector["good"], name)


def contract_digest(checks, name, vector):
    contract = Contract(Tables())
    contract.apply([item for text in vector["items"] for item in read_items(1, bytes.fromhex(text))], 0)
    for member, ids in ((NODE, vector["nodes"]), (ORIGIN, vector["origins"])):
        contract.in_force[member].update((text, bytes.fromhex(text)) for text in ids)
    checks.check(contract.digest().hex() == vector["digest"], name)


def entries(checks, name, vector):
    data = bytes.fromhex(vector["entries"])
    read = read_entries(data)
    stand = [standing(tid, kind, leaf, rule) for tid, kind, rule, leaf in read]
    checks.check(stand == unhexed_list(vector["stand"]), name + ": what stands")
    checks.check(merkle_root(stand).hex() == vector["root"], name + ": root")
    checks.check(read_final(b"F\1" + bytes(32) + bytes(7) + b"\5" + data) == (bytes(32), 5, read), "final transaction")
    checks.refuses(read_entries, data, name)


def contracts(checks):
    for name, vector in checks.vectors("contract.json"):
        {"predicate": predicate, "contract digest": contract_digest, "entries": entries}[name](checks, name, vector)


def ledger(checks):
    blocks = [read_line(line) for line in checks.text("ledger.txt").splitlines()]
    finding, state = replay(blocks)
    checks.check(finding is None, "the ledger: %s" % (finding,))
    old, new = Digest(checks.text("old-digest.json")), Digest(checks.text("digest.json"))
    checks.check((old.hash, new.hash) == (blocks[old.height].hash, blocks[-1].hash), "the digests")
    Consistency(checks.text("consistency.json")).check(old, new)
    for name in ("proof-record.json", "proof-refused-query.json"):
        proof = Proof(checks.text(name))
        proof.check(new)
        row = blocks[proof.header.height].rows[proof.said["position"]]
        checks.check((row.tid, row.rule) == (proof.signed.tid, proof.said["rule"]), name)
    checks.check(state.erased > 0 and state.not_rerun > 0, "something erased, something refused")
    checks.check([block.encode() for block in blocks] == checks.text("ledger.txt").splitlines(), "lines made again")


def main():
    checks = Checks(sys.argv[1])
    for group in (transactions, sealed_things, contracts, trees, ledger):
        group(checks)
    print("%d hold, %d do not" % (checks.good, checks.bad))
    return 1 if checks.bad or not checks.good else 0


if __name__ == "__main__":
    sys.exit(main())
