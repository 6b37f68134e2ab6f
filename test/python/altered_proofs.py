#!/usr/bin/python3
"""
Alters digests and proofs of test/vectors, for another verifier to look at.

    altered_proofs.py SEED COUNT VECTORS DIRECTORY

Each line of `expected` in the directory has a file's name, the vector that it was made of, and the exit status that a
verifier has for it: 0 good, 1 a fault, 2 it says nothing, because it is not of the format or for other digests.
"""
import json
import os
import random
import sys

from verifier.coding import Malformed
from verifier.proofs import Consistency, Digest, Fault, Proof

PROOFS = ("proof-record.json", "proof-refused-query.json")
FILES = PROOFS + ("digest.json", "consistency.json")
NUMBERS = (-1, 0, 1, 6, 2 ** 16, 2 ** 32, 2 ** 63 - 1, 2 ** 63, 1.0, 0.5, "1", True, None)


class Alterer:
    def __init__(self, seed, texts):
        self.random, self.pick, self.texts = random.Random(seed), random.Random(seed).choice, texts

    def text(self, text):
        """With a character changed, taken away or put in, or something before or behind."""
        at, new = self.random.randrange(len(text)), self.pick('09afAFZ_-"{}[],:\\ \n.\x7f\u00e9')
        return self.pick([text[:at] + new + text[at + 1:], text[:at] + text[at + 1:], text[:at] + new + text[at:],
                          self.pick([" ", "\n", "\ufeff", "x"]) + text, text + self.pick([" ", "x", "{}"])])

    def value(self, value):
        """Another value of a member."""
        if isinstance(value, int):
            return self.pick(NUMBERS + (value + 1, max(value - 1, 0)))
        if isinstance(value, list):
            return self.pick([value[:-1], value + ["00" * 32], value[::-1], [one.upper() for one in value], value * 40,
                              value + [1], []])
        return self.pick([value.upper(), value[:-2], value + "00", value[::-1], "", 5, None, value[2:] + value[:2]])

    def members(self, text):
        """With a member changed, taken from elsewhere, missing, added, or in another place or twice."""
        made, others = json.loads(text), json.loads(self.texts[self.pick(FILES)])
        key, draw = self.pick(list(made)), self.random.randrange(6)
        if draw < 3:
            made[key] = self.value(made[key])
        elif draw == 3:
            made[key] = others.get(key, made[key])
        elif draw == 4:
            made.update({"more": ""}) if self.random.randrange(2) else made.pop(key)
        else:
            again = json.dumps({key: made[key]})[1:-1]
            return "{" + again + ", " + json.dumps(made)[1:] if self.random.randrange(2) else \
                json.dumps({key: made.pop(key), **made}, indent=1)
        return json.dumps(made)


def status(name, text, texts):
    """What a verifier says of this text in the place of that vector."""
    try:
        if name == "digest.json":
            Digest(text)
        elif name in PROOFS:
            Proof(text).check(Digest(texts["digest.json"]))
        else:
            Consistency(text).check(Digest(texts["old-digest.json"]), Digest(texts["digest.json"]))
    except Fault:
        return 1
    except Malformed:
        return 2
    return 0


def main():
    seed, count, vectors, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    texts = {}
    for name in FILES + ("old-digest.json",):
        with open(os.path.join(vectors, name), encoding="ascii") as file:
            texts[name] = file.read()
    alterer, statuses = Alterer(seed, texts), [0, 0, 0]
    with open(os.path.join(directory, "expected"), "w", encoding="ascii") as expected:
        for number in range(count):
            name = alterer.pick(FILES)
            text = alterer.pick([alterer.text, alterer.members])(texts[name])
            with open(os.path.join(directory, "%d.json" % number), "w", encoding="utf-8") as file:
                file.write(text)
            found = status(name, text, texts)
            statuses[found] += 1
            expected.write("%d.json|%s|%d\n" % (number, name, found))
    print("%d good, %d with a fault, %d that say nothing" % tuple(statuses))


if __name__ == "__main__":
    main()
