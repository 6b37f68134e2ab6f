#!/usr/bin/python3
"""
Opens what can be opened of the bytes of a backup, with every key that there is.

Reads JSON from standard input: {"keys": a key directory, "today": [patient ...], "patients": [patient ...],
"sealed": [thing ...]}.  A patient is {"goes", "pid", "apid", "generation", "wrapped"}, as apm.patient has him; those of
today are another database's, whose wrapped keys lend theirs.  A thing is {"goes", "kind", "data"} and what its
context is made of.  Every 32 bytes in the directory are tried as a wrapping key of every generation and as a
patient's key, every RSA key on every envelope.

Writes JSON: how many opened of each kind, of those who go and those who stay, and for each pid whose key was found what
bcrypt makes its pseudonym of.
"""
import json
import pathlib
import sys
from collections import Counter

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from verifier import sealed
from verifier.coding import Malformed
from verifier.transaction import read_signed

GENERATIONS = range(1, 5)


class Keys:
    """What a directory has, and the patients' keys that it gives."""

    def __init__(self, directory):
        files = [path for path in pathlib.Path(directory).iterdir() if path.is_file()]
        self.secrets = [path.read_bytes() for path in files if path.stat().st_size == 32]
        pems = [path.read_bytes() for path in files if path.name.endswith(".pem") and ".pub." not in path.name]
        pairs = [load_pem_private_key(pem, None) for pem in pems]
        self.pairs = [pair for pair in pairs if isinstance(pair, RSAPrivateKey)]
        self.pepper = (pathlib.Path(directory) / "apm-pepper.key").read_bytes()
        self.patients = set(self.secrets)

    def first(self, opens, keys):
        """What the first key that fits gives; None if there is none."""
        for key in keys:
            try:
                return opens(key)
            except Malformed:
                pass
        return None

    def unwrap(self, patient):
        data, apid = bytes.fromhex(patient["wrapped"]), patient["apid"].encode()
        key = self.first(lambda how: sealed.unwrap_key(data, how[0], how[1], apid),
                         [(secret, generation) for secret in self.secrets for generation in GENERATIONS])
        if key is not None:
            self.patients.add(key)
        return key

    def open(self, thing):
        data = bytes.fromhex(thing["data"])
        if thing["kind"] == "record":
            return self.open_record(data)
        if thing["kind"] == "waiting":
            rid = bytes.fromhex(thing["rid"].replace("-", ""))
            return self.first(lambda how: sealed.open_waiting(data, how[0], how[1], rid),
                              [(secret, generation) for secret in self.secrets for generation in GENERATIONS])
        apid = thing["apid"].encode()
        return self.first({
            "profile": lambda key: sealed.open_profile(data, key, apid, thing["version"]),
            "last value": lambda key: sealed.open_last_values(data, key, apid),
            "note": lambda key: sealed.open_note(data, key, apid),
        }[thing["kind"]], self.patients)

    def open_record(self, data):
        """An aPR: the outer layer, which does open, and the inner record."""
        signed = self.first(lambda pair: sealed.open_envelope(data, pair), self.pairs)
        if signed is None:
            raise Malformed("the outer layer of an aPR does not open")
        record = read_signed(signed).transaction
        return self.first(lambda key: sealed.open_record(record.record, key, record.rid, record.apid), self.patients)


def main():
    task = json.load(sys.stdin)
    keys = Keys(task["keys"])
    opened = {"goes": Counter(), "stays": Counter()}
    secrets = {}
    for patient in task["today"]:
        keys.unwrap(patient)
    for patient in task["patients"]:
        key = keys.unwrap(patient)
        opened["goes" if patient["goes"] else "stays"]["wrapped key"] += key is not None
        if key is not None:
            secrets[patient["pid"]] = sealed.pseudonym_secret(keys.pepper, {"pid": patient["pid"]}, key).decode()
    for thing in task["sealed"]:
        opened["goes" if thing["goes"] else "stays"][thing["kind"]] += keys.open(thing) is not None
    json.dump({"opened": opened, "secrets": secrets}, sys.stdout)


main()
