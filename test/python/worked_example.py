#!/usr/bin/python3
"""
The worked example of doc/format.md: the second block of test/vectors/ledger.txt, byte by byte.

    worked_example.py LEDGER DOCUMENT            is it the one that the document has?
    worked_example.py --write LEDGER DOCUMENT    puts it there
"""
import sys

from verifier.block import read_line
from verifier.coding import sized
from verifier.digests import merkle_root, node, refused_leaf, sha256, tid_of
from verifier.keys import block_digest, origin_digest
from verifier.replay import replay

BEGIN, END = "<!-- worked example: begin -->\n", "<!-- worked example: end -->\n"


class Table:
    """Lines of bytes in hexadecimal and what they are, cut into fields one after the other."""

    def __init__(self, data):
        self.data, self.at, self.lines = data, 0, []

    def field(self, length, what):
        piece = self.data[self.at:self.at + length]
        self.at += length
        self.lines += lines(piece, what)
        return self

    def sized(self, what):
        length = int.from_bytes(self.data[self.at:self.at + 4], "big")
        return self.field(4, "length of what follows").field(length, what) if length else \
            self.field(4, what)

    def end(self):
        if self.at != len(self.data):
            raise ValueError("%d of %d bytes" % (self.at, len(self.data)))
        return self.lines


def lines(data, what):
    """At most 32 bytes a line, what they are beside the first."""
    text = data.hex()
    pieces = [text[at:at + 64] for at in range(0, len(text), 64)]
    return ["%-64s  %s" % (pieces[0], what)] + pieces[1:]


def transaction(data):
    table = Table(data).field(2, "tag T, version 1").field(1, "kind 1, patient").field(32, "chain")
    table.field(32, "origin: id of its signing key").field(8, "time, microseconds").field(16, "actor")
    table.field(2, "roles: registrar").sized("public fields: none").sized("aPid, %r" % "r.third")
    return table.field(4, "version").field(32, "profile before: none").field(32, "profile").end()


def header(data):
    table = Table(data).field(2, "tag B, version 1").field(32, "chain").field(8, "height")
    table.field(32, "previous: hash of the genesis block").field(32, "root, as above").field(4, "count")
    table.field(32, "history: H(00 ‖ hash of the genesis block), a tree of one leaf").field(32, "contract")
    return table.field(8, "time").field(4, "bits").field(32, "node").field(8, "nonce").end()


def example(blocks):
    """The section's text, recomputed from what is stored; ValueError if that is not so."""
    if replay(blocks)[0]:
        raise ValueError("not a good ledger")
    block = blocks[1]
    valid, refused = block.rows
    body, proof = valid.body, valid.signed.proof
    stands = refused_leaf(refused.tid, refused.kind, refused.leaf, refused.rule)
    computed = [sha256(b"\0" + body.nonce + body.transaction) == valid.leaf,
                tid_of(valid.signed.transaction.time, valid.leaf) == valid.tid,
                node(valid.leaf, stands) == merkle_root([valid.leaf, stands]) == block.header.root,
                sha256(sha256(block.header_bytes)) == block.hash]
    if not all(computed):
        raise ValueError("something is not as computed")
    milliseconds = valid.signed.transaction.time // 1000
    parts = [
        ("The first entry's transaction registers a patient.", transaction(body.transaction)),
        ("Nonce; leaf = H(00 ‖ nonce ‖ transaction); Tid: %d ms (`%012x`), `7`, 12 bits of the leaf, `10` in two bits, "
         "62 more bits of the leaf." % (milliseconds, milliseconds),
         lines(body.nonce, "nonce") + lines(valid.leaf, "leaf") + lines(valid.tid, "Tid")),
        ("Its origin proof stands alone under its signature, so the root is the leaf, and what is signed "
         "H(\"apm origin\" ‖ 00 ‖ 00000001 ‖ leaf).",
         lines(origin_digest(1, valid.leaf), "signed") +
         Table(body.proof).field(2, "tag O, version 1").field(64, "signature, r ‖ s").field(4, "index")
         .field(4, "size").end()),
        ("The second entry is a record of a patient who is not registered. It was refused by rule 6, its body is gone; "
         "what stands in the tree is H(00 ‖ \"apm refused\" ‖ Tid ‖ 02 ‖ leaf ‖ 0006).",
         lines(refused.tid, "Tid") + lines(refused.leaf, "leaf") + lines(stands, "what stands in the tree")),
        ("Root = H(01 ‖ leaf of the first ‖ what stands for the second).", lines(block.header.root, "root")),
        ("The header.", header(block.header_bytes)),
        ("Hash = H(H(header)), which begins with four zero bits; the node signs H(\"apm block\" ‖ 00 ‖ hash).",
         lines(block.hash, "hash") + lines(block_digest(block.hash), "signed") +
         lines(block.signature, "signature, r ‖ s")),
    ]
    assert proof.size == 1 and refused.rule == 6 and sized(b"r.third") in body.transaction
    return "\n".join("%s\n\n```\n%s\n```\n" % (said, "\n".join(shown)) for said, shown in parts)


def main():
    write = sys.argv[1] == "--write"
    ledger, document = sys.argv[1 + write:]
    with open(ledger, encoding="ascii") as file:
        text = example([read_line(line.rstrip("\n")) for line in file])
    with open(document, encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN)
    shown, after = rest.split(END)
    if write:
        with open(document, "w", encoding="utf-8") as file:
            file.write(before + BEGIN + text + END + after)
    elif shown != text:
        sys.exit("%s has another example than %s" % (document, ledger))


if __name__ == "__main__":
    main()
