"""Rules of the encoding: big-endian integers, lengths before bytes, one encoding of a value."""
import struct

ZEROS16 = bytes(16)
ZEROS32 = bytes(32)
ZEROS64 = bytes(64)


class Malformed(ValueError):
    """What was read is not an encoding of anything."""


class Reader:
    """Reads fields in their order; each method refuses what is too short or out of its bounds."""

    __slots__ = ("data", "at")

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, length):
        end = self.at + length
        if end > len(self.data):
            raise Malformed("too short")
        piece = self.data[self.at:end]
        self.at = end
        return piece

    def u8(self):
        if self.at >= len(self.data):
            raise Malformed("too short")
        self.at += 1
        return self.data[self.at - 1]

    def u16(self):
        return struct.unpack(">H", self.take(2))[0]

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def u64(self):
        return struct.unpack(">Q", self.take(8))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def bytes(self, least=0, most=0xffffffff):
        length = self.u32()
        if not least <= length <= most:
            raise Malformed("a length out of its bounds")
        return self.take(length)

    def tag(self, letter, version=1):
        if self.u8() != ord(letter) or self.u8() != version:
            raise Malformed("another tag or version")

    def among(self, least, most):
        """A u8 within bounds."""
        value = self.u8()
        if not least <= value <= most:
            raise Malformed("a value out of its bounds")
        return value

    def end(self):
        if self.at != len(self.data):
            raise Malformed("trailing bytes")


def need(condition, what):
    if not condition:
        raise Malformed(what)


def ascending(values, what):
    """Refuses a list that is not in strictly ascending order."""
    need(all(a < b for a, b in zip(values, values[1:])), what + " not ascending")
    return values


def sized(data):
    """The encoding of a `bytes` field."""
    return struct.pack(">I", len(data)) + data


def graphic(data, least, most, space=False):
    """Is it so many characters of graphic ASCII?"""
    low = 0x20 if space else 0x21
    return least <= len(data) <= most and all(low <= c <= 0x7e for c in data)


def name(data, dash):
    """A name: a lower case letter, then such letters, digits and `_`, and in items `-` too."""
    need(1 <= len(data) <= 63 and 0x61 <= data[0] <= 0x7a, "not a name")
    for c in data:
        need(0x61 <= c <= 0x7a or 0x30 <= c <= 0x39 or c == 0x5f or (dash and c == 0x2d), "not a name")
    return data


def text(data):
    """Valid UTF-8, without a NUL."""
    need(0 not in data, "a NUL")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None
    return data
