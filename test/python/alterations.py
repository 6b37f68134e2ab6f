"""
Alterations of an exported ledger, and what a verifier finds of each.

A ledger is altered as a server's tables could be: a bit of a column, two rows that change
places, a row or a block gone, twice, or with another parent, a tail cut off, or mined
anew without the keys.  Blocks are not changed but replaced, so that what was found out
about the parts that stayed need not be found out again: millions of alterations are tried
in a minute.
"""
from collections import namedtuple

from verifier.block import write_header
from verifier.keys import block_digest
from verifier.digests import Tree, block_hash, history_leaf, meets, merkle_root, standing
from verifier.replay import Replay, Voids, replay

# `column` of the block's row, or of the leaf or body row at `position`; `bit` counts from the first byte's high bit.
Flip = namedtuple("Flip", "column position bit")

BLOCK_COLUMNS = {"height": 64, "hash": 256}
ROW_COLUMNS = {"position": 32, "tid": 128, "kind": 16, "rule": 16, "leaf": 256}
BODY_COLUMNS = ("nonce", "transaction", "proof")


def flipped(value, bit, width=None):
    """Bytes, or a number of so many bits, with one bit changed."""
    if isinstance(value, int):
        return value ^ 1 << width - 1 - bit
    return value[:bit >> 3] + bytes([value[bit >> 3] ^ 0x80 >> (bit & 7)]) + value[(bit >> 3) + 1:]


def flips(block, stride=1):
    """All flips of a block's bits, or every so many-th of them."""
    widths = [(column, None, bits) for column, bits in BLOCK_COLUMNS.items()]
    widths += [("header", None, 8 * len(block.header_bytes)), ("signature", None, 8 * len(block.signature))]
    for at, row in enumerate(block.rows):
        widths += [(column, at, bits) for column, bits in ROW_COLUMNS.items()]
        widths += [(column, at, 8 * len(getattr(row.body, column))) for column in BODY_COLUMNS if row.body]
    behind = block.height % stride
    for column, position, bits in widths:
        for bit in range(behind, bits, stride):
            yield Flip(column, position, bit)
        behind = (behind - bits) % stride


def flip(block, change):
    """The block with this bit changed."""
    column, position, bit = change
    if position is None:
        name = {"hash": "stored_hash", "header": "header_bytes"}.get(column, column)
        return block.altered(**{name: flipped(getattr(block, name), bit, BLOCK_COLUMNS.get(column))})
    row = block.rows[position]
    if column in ROW_COLUMNS:
        row = row.altered(**{column: flipped(getattr(row, column), bit, ROW_COLUMNS[column])})
    else:
        row = row.altered(body=row.body._replace(**{column: flipped(getattr(row.body, column), bit)}))
    return with_rows(block, block.rows[:position] + [row] + block.rows[position + 1:])


def with_rows(block, rows):
    """The block with these rows, in the order of their positions as a server would give them."""
    return block.altered(rows=sorted(rows, key=lambda row: row.position))


def exported(blocks):
    """Blocks in the order of an export."""
    return sorted(blocks, key=lambda block: (block.height, block.stored_hash))


class Trial:
    """Walks along a good ledger, and tries at each block what is found in place of it."""

    def __init__(self, blocks):
        self.blocks = blocks
        voids = Voids()
        for block in blocks:
            voids.add(block)
        self.replay = Replay(voids.done())
        self.at = 0

    def step(self):
        """Goes on behind the block."""
        finding = self.replay.check(self.blocks[self.at])
        if finding:
            raise ValueError("the ledger is not good: %s" % (finding,))
        self.at += 1

    def finding(self, altered):
        """What a verifier finds of the ledger with this block in place of the one that it has come to."""
        block = self.blocks[self.at]
        if altered.height == block.height and foreseen(altered) == foreseen(block):
            found = self.replay.wrong(altered)
            if found:
                return found
        elif altered.height > block.height:
            return self.replay.wrong(exported(self.blocks[self.at + 1:] + [altered])[0])
        return replay(exported(self.blocks[:self.at] + [altered] + self.blocks[self.at + 1:]))[0]


def foreseen(block):
    """What the first pass sees in a block."""
    return [(row.position, row.foreseen) for row in block.rows if row.kind in (5, 7)]


# Rows and blocks as a whole

def swapped_rows(block):
    """Each two neighbours with their places exchanged: (positions, block)."""
    for at in range(len(block.rows) - 1):
        one, other = block.rows[at], block.rows[at + 1]
        yield at, with_rows(block, block.rows[:at] + [other.altered(position=one.position),
                                                      one.altered(position=other.position)] + block.rows[at + 2:])


def removed_rows(block):
    for at in range(len(block.rows)):
        yield at, with_rows(block, block.rows[:at] + block.rows[at + 1:])


def without_body(block):
    for at, row in enumerate(block.rows):
        if row.body:
            yield at, with_rows(block, block.rows[:at] + [row.altered(body=None)] + block.rows[at + 1:])


def mined(block, **parts):
    """The block with another header, mined and stored under its hash, but not signed anew."""
    header = block.header._replace(**parts)
    while True:
        data = write_header(header)
        stored = block_hash(data)
        if meets(stored, header.bits):
            return block.altered(header_bytes=data, stored_hash=stored)
        header = header._replace(nonce=(header.nonce + 1) % 2 ** 64)


def rooted(block):
    """The block with a header that fits its rows; neither mined nor signed."""
    stand = [standing(row.tid, row.kind & 0xff, row.leaf, row.rule) for row in block.rows]
    header = block.header._replace(root=merkle_root(stand), count=len(block.rows))
    return block.altered(header_bytes=write_header(header))


def mined_anew(blocks, first):
    """The chain with this block in place of its own, and all behind it linked and mined anew; nobody signs it."""
    made, tree = blocks[:first.height] + [mined(first)], Tree()
    for block in made:
        tree.add(history_leaf(block.hash))
    for block in blocks[first.height + 1:]:
        made.append(mined(block, previous=made[-1].hash, history=tree.root()))
        tree.add(history_leaf(made[-1].hash))
    return made


def sealed_anew(blocks, first, key_of):
    """As mined_anew(), and signed: key_of(node id) gives a key, or None where the header names nobody's."""
    made = mined_anew(blocks, first)
    for at in range(first.height, len(made)):
        key = key_of(made[at].header.node)
        if key:
            made[at] = made[at].altered(signature=key.sign(block_digest(made[at].hash)))
    return made
