"""A block as stored: its line, its header, its rows, and what each row says of itself."""
import base64
import binascii
import struct
from collections import namedtuple
from functools import cached_property

from .coding import Malformed, Reader, need, sized
from .digests import block_hash
from .transaction import Signed, or_none

HEADER_LENGTH = 226
MOST_ENTRIES, MOST_ROWS = 4096, 65536
HEADER = struct.Struct(">cB32sQ32s32sI32s32sQI32sQ")

Header = namedtuple("Header", "chain height previous root count history contract time bits node nonce")
Body = namedtuple("Body", "nonce transaction proof")


def read_header(data):
    need(len(data) == HEADER_LENGTH, "a header of another length")
    tag, version, *rest = HEADER.unpack(data)
    need(tag == b"B" and version == 1, "another tag or version")
    header = Header(*rest)
    need(header.height < 2 ** 63 and header.time < 2 ** 63, "a number out of its bounds")
    return header


def write_header(header):
    return HEADER.pack(b"B", 1, *header)


def read_entries(data):
    """(Tid, kind, rule, leaf) of each entry of a block."""
    reader = Reader(data)
    entries = _entries(reader)
    reader.end()
    return entries


def _entries(reader):
    reader.tag("L")
    count = reader.u32()
    need(count <= MOST_ENTRIES, "too many entries")
    return [(reader.take(16), reader.u8(), reader.u16(), reader.take(32)) for _ in range(count)]


def read_final(data):
    """(block hash, height, entries) of a final transaction."""
    reader = Reader(data)
    reader.tag("F")
    final = (reader.take(32), reader.u64(), _entries(reader))
    reader.end()
    return final


class Row:
    """A leaf row and its body.  Not changed once made, so that what was found out about it stays true."""

    def __init__(self, position, tid, kind, rule, leaf, body):
        self.position, self.tid, self.kind, self.rule, self.leaf, self.body = position, tid, kind, rule, leaf, body

    def altered(self, **parts):
        """Another row, with some parts replaced."""
        mine = {key: getattr(self, key) for key in ("position", "tid", "kind", "rule", "leaf", "body")}
        return Row(**{**mine, **parts})

    @cached_property
    def foreseen(self):
        """The transaction, if the row says that it is a valid one, its kind and its leaf, whatever else is wrong."""
        if self.rule or not self.signed or self.leaf != self.signed.leaf:
            return None
        made = self.signed.transaction
        return made if made and made.kind == self.kind else None

    @cached_property
    def signed(self):
        """The signed transaction of the body; None if it is none, or there is no body."""
        return or_none(lambda body: Signed(*body), self.body) if self.body else None

    @cached_property
    def shape(self):
        """The first check that the row fails by itself, or None."""
        if self.kind > 255:
            return "kind"
        return "body" if self.body and not self.signed else None

    @cached_property
    def match(self):
        """The first check that the row fails against its body, or None."""
        for check in ("leaf", "tid", "kind"):
            if getattr(self, check) != getattr(self.signed, check):
                return check
        return None

    def encode(self):
        parts = struct.pack(">I16sHH32sB", self.position, self.tid, self.kind, self.rule, self.leaf,
                            self.body is not None)
        return parts + b"".join(sized(part) for part in self.body or ())


class Block:
    """One line of an exported ledger.  Not changed once made."""

    def __init__(self, height, stored_hash, header_bytes, signature, rows):
        self.height, self.stored_hash, self.rows = height, stored_hash, rows
        self.header_bytes, self.signature = header_bytes, signature

    def altered(self, **parts):
        mine = {key: getattr(self, key) for key in ("height", "stored_hash", "header_bytes", "signature", "rows")}
        made = Block(**{**mine, **parts})
        if "header_bytes" not in parts:
            made.header, made.hash = self.header, self.hash
        return made

    @cached_property
    def header(self):
        """The header, or None if it cannot be read."""
        return or_none(read_header, self.header_bytes)

    @cached_property
    def hash(self):
        return block_hash(self.header_bytes)

    def encode(self):
        """The line."""
        rows = b"".join(row.encode() for row in self.rows)
        data = b"X\x01" + struct.pack(">Q32s", self.height, self.stored_hash) + sized(self.header_bytes) \
            + sized(self.signature) + struct.pack(">I", len(self.rows)) + rows
        return base64.b64encode(data).decode()


def _row(reader):
    position, tid, kind, rule = reader.u32(), reader.take(16), reader.u16(), reader.u16()
    leaf, kept = reader.take(32), reader.among(0, 1)
    body = Body(reader.bytes(), reader.bytes(), reader.bytes()) if kept else None
    return Row(position, tid, kind, rule, leaf, body)


def read_line(line):
    """A block from a line of an exported ledger; Malformed if it is none."""
    try:
        data = base64.b64decode(line, validate=True)
    except binascii.Error:
        raise Malformed("not base64") from None
    need(base64.b64encode(data).decode() == line, "base64 with bits left over")
    reader = Reader(data)
    reader.tag("X")
    height, stored_hash, header, signature = reader.u64(), reader.take(32), reader.bytes(), reader.bytes()
    count = reader.u32()
    need(count <= MOST_ROWS, "too many rows")
    block = Block(height, stored_hash, header, signature, [_row(reader) for _ in range(count)])
    reader.end()
    return block
