#!/usr/bin/python3
"""
Makes many ledgers, most of them with one thing altered, for another verifier to look at.

    altered_ledgers.py SEED COUNT DIRECTORY

The ledgers are of random transactions.  What is altered is drawn, and how far whoever
altered it went: not at all, or he stored the block under its new hash, or mined it and all
behind it anew, or has the keys of all nodes and signed them as well, so that nothing but
the contract is left to find it.  Each line of `expected` in the directory has a file's
name and what this verifier finds: height, position and check, or `good`.
"""
import os
import sys

from alterations import BODY_COLUMNS, ROW_COLUMNS, exported, flipped, mined, mined_anew, rooted, sealed_anew, with_rows
from random_ledger import Chance
from verifier.digests import block_hash
from verifier.replay import replay

HEADER_BITS = {"chain": None, "height": 64, "previous": None, "root": None, "count": 32, "history": None,
               "contract": None, "time": 64, "bits": 32, "node": None, "nonce": 64}
BLOCKS = 30


class Alterer:
    def __init__(self, chance):
        self.chance, self.random, self.pick = chance, chance.random, chance.pick
        self.blocks = chance.maker.ledger()
        keys = chance.nodes + chance.old_nodes
        self.keys = {key.id: key for key in keys}
        self.rows = [row for block in self.blocks for row in block.rows]

    def flip(self, value, width=None):
        return flipped(value, self.random.randrange(width or 8 * len(value)), width) if width or value else value

    def row(self, row):
        """A row with something else in it."""
        other = self.pick(self.rows)
        draw = self.random.randrange(8)
        if draw == 0:
            column = self.pick(list(ROW_COLUMNS))
            return row.altered(**{column: self.flip(getattr(row, column), {"tid": None, "leaf": None}.get(
                column, ROW_COLUMNS[column]))})
        if draw == 1 and row.body:
            column = self.pick(BODY_COLUMNS)
            return row.altered(body=row.body._replace(**{column: self.flip(getattr(row.body, column))}))
        if draw == 2:
            return row.altered(body=None)
        if draw == 3:
            return row.altered(body=other.body)
        if draw == 4:
            return row.altered(rule=self.pick([0, 1, 4, 5, 6, 15, 24, 25, 1000, 1001]))
        if draw == 5:
            return row.altered(kind=self.pick([0, 1, 2, 3, 5, 9, 255, 256]))
        if draw == 6:
            return other.altered(position=row.position)
        return row.altered(leaf=other.leaf, tid=other.tid, kind=other.kind, body=None, rule=self.pick([0, row.rule]))

    def altered(self, block):
        """The block with other rows or another header."""
        rows = block.rows
        draw = self.random.randrange(9)
        if draw == 0 or not rows:
            column = self.pick(list(HEADER_BITS))
            return mined(block, **{column: self.flip(getattr(block.header, column), HEADER_BITS[column])}) \
                if column != "bits" else block
        at = self.random.randrange(len(rows))
        if draw == 1:
            return with_rows(block, rows[:at] + rows[at + 1:])
        if draw == 2:
            return with_rows(block, rows + [self.pick(self.rows).altered(position=len(rows))])
        if draw == 3:
            other = self.random.randrange(len(rows))
            moved = list(rows)
            moved[at], moved[other] = rows[other].altered(position=at), rows[at].altered(position=other)
            return with_rows(block, moved)
        return with_rows(block, rows[:at] + [self.row(rows[at])] + rows[at + 1:])

    def ledger(self):
        blocks = self.blocks
        at = self.random.randrange(len(blocks))
        block = blocks[at]

        def instead(other):
            return exported(blocks[:at] + [other] + blocks[at + 1:])

        draw = self.random.randrange(12)
        if draw == 0:
            return exported(blocks[:at] + blocks[at + 1:])
        if draw == 1:
            return exported(blocks + [mined(block, nonce=self.random.getrandbits(64))])
        if draw == 2:
            return blocks[:at + 1]
        if draw == 3:
            return instead(mined(block, previous=self.pick(blocks).hash))
        if draw == 4:
            return instead(block.altered(height=self.random.randrange(len(blocks) + 2)))
        altered = self.altered(block)
        if draw < 7:
            return instead(altered)
        if draw == 7:
            data = self.flip(altered.header_bytes)
            return instead(altered.altered(header_bytes=data, stored_hash=block_hash(data)))
        if altered.header is None or altered.header.height != at:
            return instead(altered)
        altered = rooted(altered) if altered.rows is not block.rows else altered
        return mined_anew(blocks, altered) if draw == 8 else sealed_anew(blocks, altered, self.keys.get)


def told(finding):
    if finding is None:
        return "good"
    return "%d|%s|%s" % (finding.height, "" if finding.position is None else finding.position, finding.check)


def main():
    seed, count, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    found = {}
    with open(os.path.join(directory, "expected"), "w", encoding="ascii") as expected:
        for number in range(count):
            if number % 10 == 0:
                chance = Chance(seed + number)
                chance.genesis()
                for _ in range(BLOCKS):
                    chance.block()
                alterer = Alterer(chance)
            blocks = alterer.blocks if number % 10 == 0 else alterer.ledger()
            finding = replay(blocks)[0]
            check = finding.check if finding else "good"
            found[check] = found.get(check, 0) + 1
            name = "%d.ledger" % number
            with open(os.path.join(directory, name), "w", encoding="ascii") as file:
                file.writelines(block.encode() + "\n" for block in blocks)
            expected.write("%s|%s\n" % (name, told(finding)))
    print(", ".join("%s %d" % one for one in sorted(found.items())))


if __name__ == "__main__":
    main()
