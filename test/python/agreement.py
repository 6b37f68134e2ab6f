#!/usr/bin/python3
"""
Alters an exported ledger in every way, and sees that a verifier finds each.

    agreement.py try LEDGER DIGEST STRIDE DIRECTORY SAMPLE

tries every STRIDE-th bit of everything that is stored, and everything that can be done to rows
and blocks as a whole, against the Python verifier.  Every SAMPLE-th altered ledger goes to the
directory, with what was found in the file `expected`, for another verifier.

    agreement.py compare DIRECTORY DIGEST

holds what another verifier found (`told` in the directory: file, height, position, check)
against what the Python verifier finds of the same files.

What cannot be found without a digest, a tail that was cut off, is found with it.
"""
import os
import sys
import time
from collections import Counter

from alterations import (Trial, exported, flip, flips, mined, mined_anew, removed_rows, rooted, swapped_rows,
                         without_body)
from verifier.block import read_line
from verifier.proofs import Digest
from verifier.replay import Finding, replay

# What apm_verify() asks of what stands beside the ledger, which an exported one has not.
BESIDE = ("derived", "profile", "tip", "row")


def read_ledger(name):
    with open(name, encoding="ascii") as file:
        return [read_line(line.rstrip("\n")) for line in file]


def read_digest(name):
    with open(name, encoding="ascii") as file:
        return Digest(file.read())


def told(finding):
    if finding is None:
        return "good"
    return "%d|%s|%s" % (finding.height, "" if finding.position is None else finding.position, finding.check)


def found_with(digest, blocks, finding):
    """The finding, or that this is not the digest's chain."""
    if finding is None and not any(b.height == digest.height and b.hash == digest.hash for b in blocks):
        return Finding(digest.height, None, "digest")
    return finding


class Sample:
    """Writes every so many-th altered ledger down, and counts what was found."""

    def __init__(self, digest, directory, every):
        self.digest, self.directory, self.every = digest, directory, every
        self.found, self.unfound, self.tried = Counter(), [], 0
        self.expected = open(os.path.join(directory, "expected"), "w", encoding="ascii")

    def take(self, what, finding, ledger):
        """`ledger` makes the blocks of the altered ledger, where they are asked for."""
        self.tried += 1
        keep = self.tried % self.every == 0
        blocks = ledger() if keep or finding is None else None
        if finding is None:
            finding = found_with(self.digest, blocks, None)
        self.found[(what, finding.check if finding else None)] += 1
        if finding is None:
            self.unfound.append(what)
        if keep:
            name = "%d.ledger" % self.tried
            with open(os.path.join(self.directory, name), "w", encoding="ascii") as file:
                file.writelines(block.encode() + "\n" for block in blocks)
            self.expected.write("%s|%s\n" % (name, told(finding)))


def try_bits(trial, sample, stride):
    """Every so many-th bit, at each block in its turn."""
    blocks = trial.blocks
    for at, block in enumerate(blocks):
        for change in flips(block, stride):
            altered = flip(block, change)
            sample.take("bit of " + change.column, trial.finding(altered),
                        lambda at=at, altered=altered: exported(blocks[:at] + [altered] + blocks[at + 1:]))
        for what, alter in (("two rows exchanged", swapped_rows), ("a row removed", removed_rows),
                            ("a body removed", without_body)):
            for _, altered in alter(block):
                for stored in (altered, mined(rooted(altered))):
                    sample.take(what, trial.finding(stored),
                                lambda at=at, stored=stored: exported(blocks[:at] + [stored] + blocks[at + 1:]))
        trial.step()


def try_blocks(blocks, sample, stride):
    """What can be done to blocks as a whole, to every so many-th."""
    for at in range(0, len(blocks), stride):
        block = blocks[at]
        other = blocks[at - 2] if at > 1 else blocks[-1]
        later = block.header.time + 1 if at + 1 == len(blocks) else blocks[at + 1].header.time
        renumbered = rooted(block).altered(rows=[row.altered(leaf=row.tid * 2) for row in block.rows])
        ledgers = {
            "a block removed": blocks[:at] + blocks[at + 1:],
            "a block doubled": exported(blocks + [mined(block, nonce=block.header.nonce + 1)]),
            "another parent": exported(blocks[:at] + [mined(block, previous=other.hash)] + blocks[at + 1:]),
            "a tail cut off": blocks[:at],
            "a tail mined anew": mined_anew(blocks, rooted(renumbered)),
            "a tail mined anew at another time": mined_anew(blocks, mined(block, time=later)),
        }
        for what, altered in ledgers.items():
            sample.take(what, replay(altered)[0], lambda altered=altered: altered)


def report(sample, seconds):
    print("%d alterations in %d s" % (sample.tried, seconds))
    for (what, check), count in sorted(sample.found.items(), key=str):
        print("%7d  %-36s %s" % (count, what, check or "NOT FOUND"))


def try_all(ledger, digest, stride, directory, every):
    blocks, began = read_ledger(ledger), time.monotonic()
    sample = Sample(read_digest(digest), directory, int(every))
    finding = found_with(sample.digest, blocks, replay(blocks)[0])
    if finding:
        sys.exit("the ledger is not good: %s" % told(finding))
    try_bits(Trial(blocks), sample, int(stride))
    try_blocks(blocks, sample, min(int(stride), 7))
    sample.expected.close()
    report(sample, time.monotonic() - began)
    return 1 if sample.unfound else 0


def agree(mine, other):
    """
    The same.  Or what stands beside the ledger does not follow from it, and there is nothing before that: what was
    done to a block may show in the derived rows of an earlier one.
    """
    if mine == other:
        return True
    height, _, check = other.split("|") if other != "good" else (0, "", "")
    return check in BESIDE and (mine == "good" or int(height) < int(mine.split("|")[0]))


def compare(directory, digest):
    head, differ, found = read_digest(digest), 0, Counter()
    with open(os.path.join(directory, "told"), encoding="ascii") as file:
        lines = [line.rstrip("\n").split("|", 1) for line in file]
    for name, other in lines:
        blocks = read_ledger(os.path.join(directory, name))
        without = told(replay(blocks)[0])
        mine = told(found_with(head, blocks, None)) if without == "good" and "digest" in other else without
        found[mine.split("|")[-1]] += 1
        if not agree(mine, other):
            differ += 1
            print("%s: %s here, %s there" % (name, mine, other))
    print("%d ledgers, %d differ: %s" % (len(lines), differ, ", ".join("%s %d" % one for one in sorted(found.items()))))
    return 1 if differ or not lines else 0


def main():
    run = {"try": try_all, "compare": compare}[sys.argv[1]]
    return run(*sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
