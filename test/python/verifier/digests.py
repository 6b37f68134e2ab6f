"""SHA-256, the Merkle trees of RFC 6962 and RFC 9162, and the digests and identifiers made of them."""
import hashlib
import struct

from .coding import Malformed


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_of(nonce, transaction):
    return sha256(b"\x00" + nonce + transaction)


def refused_leaf(tid, kind, leaf, rule):
    """What stands in a block's tree for a refused transaction."""
    return sha256(b"\x00apm refused" + tid + bytes([kind]) + leaf + struct.pack(">H", rule))


def standing(tid, kind, leaf, rule):
    """What stands in a block's tree for an entry."""
    return leaf if rule == 0 else refused_leaf(tid, kind, leaf, rule)


def block_hash(header):
    return sha256(sha256(header))


def history_leaf(blockhash):
    """What stands for a block in the tree over the hashes of blocks."""
    return sha256(b"\x00" + blockhash)


def node(left, right):
    return sha256(b"\x01" + left + right)


def meets(digest, bits):
    """Are the first so many bits zero?"""
    return bits <= 256 and int.from_bytes(digest, "big") >> (256 - bits) == 0


def tid_of(time, leaf):
    """UUID version 7 of a time in microseconds and the first 74 bits of a leaf."""
    bits = int.from_bytes(leaf[:10], "big") >> 6
    value = ((time // 1000) & (2 ** 48 - 1)) << 80
    value |= 7 << 76 | bits >> 62 << 64
    value |= 2 << 62 | bits & (2 ** 62 - 1)
    return value.to_bytes(16, "big")


class Tree:
    """A Merkle tree that grows at its right end.  Holds the roots of its complete subtrees."""

    def __init__(self):
        self.size = 0
        self.peaks = []

    def add(self, leaf):
        self.peaks.append(leaf)
        self.size += 1
        full = self.size
        while full & 1 == 0:
            right = self.peaks.pop()
            self.peaks[-1] = node(self.peaks[-1], right)
            full >>= 1

    def root(self):
        if not self.peaks:
            return sha256(b"")
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node(peak, root)
        return root

    def copy(self):
        other = Tree()
        other.size, other.peaks = self.size, list(self.peaks)
        return other


def merkle_root(leaves):
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


def path_length(index, size):
    """How many digests an audit path has."""
    last, length = size - 1, 0
    while last:
        if index & 1 or index < last:
            length += 1
        index, last = index >> 1, last >> 1
    return length


def root_by_path(leaf, index, size, path):
    """The root to which an audit path leads (RFC 9162, 2.1.3.2)."""
    if index >= size or len(path) != path_length(index, size):
        raise Malformed("a path of another length")
    last, steps = size - 1, iter(path)
    while last:
        if index & 1:
            leaf = node(next(steps), leaf)
        elif index < last:
            leaf = node(leaf, next(steps))
        index, last = index >> 1, last >> 1
    return leaf


def consistent(old_size, new_size, old_root, new_root, path):
    """RFC 9162, 2.1.4.2, for 0 < old_size < new_size."""
    path = list(path)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for piece in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node(piece, old), node(piece, new)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new = node(new, piece)
        at, last = at >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root
