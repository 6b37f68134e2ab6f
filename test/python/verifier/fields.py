"""Public fields: what a template of the contract asks of a transaction in clear."""
from dataclasses import dataclass

from .coding import Reader, ascending, graphic, name, need

INTEGER, BOOLEAN, CODE = 1, 2, 3


@dataclass(frozen=True)
class Wanted:
    """A field of a template."""
    name: bytes
    type: int
    required: bool
    least: int = 0
    most: int = 0
    codes: tuple = ()

    def takes(self, value):
        if self.type == INTEGER:
            return self.least <= value <= self.most
        return self.type == BOOLEAN or value in self.codes


def _code(reader):
    code = reader.bytes(1, 64)
    need(graphic(code, 1, 64), "a code that is not graphic")
    return code


def read_values(data):
    """The public fields of a transaction: name -> (type, value)."""
    if not data:
        return {}
    reader = Reader(data)
    names, values = [], {}
    for _ in range(reader.among(1, 16)):
        key = name(reader.bytes(1, 63), dash=False)
        kind = reader.among(INTEGER, CODE)
        value = _code(reader) if kind == CODE else reader.i64()
        need(kind != BOOLEAN or value in (0, 1), "a boolean that is neither")
        names.append(key)
        values[key] = (kind, value)
    ascending(names, "public fields")
    reader.end()
    return values


def read_wanted(data):
    """The public fields of a template, by name."""
    reader = Reader(data)
    fields = []
    for _ in range(reader.among(1, 16)):
        key = name(reader.bytes(1, 63), dash=False)
        kind = reader.among(INTEGER, CODE)
        required = bool(reader.among(0, 1))
        if kind == INTEGER:
            least, most = reader.i64(), reader.i64()
            need(least <= most, "an empty range")
            fields.append(Wanted(key, kind, required, least, most))
        elif kind == CODE:
            codes = [_code(reader) for _ in range(reader.among(1, 32))]
            fields.append(Wanted(key, kind, required, codes=tuple(ascending(codes, "codes"))))
        else:
            fields.append(Wanted(key, kind, required))
    ascending([f.name for f in fields], "fields of a template")
    reader.end()
    return {f.name: f for f in fields}


def fits(values, wanted):
    """Are these the public fields of one template: all that must be there, none that is not its own?"""
    for key, (kind, value) in values.items():
        field = wanted.get(key)
        if field is None or field.type != kind or not field.takes(value):
            return False
    return all(key in values for key, field in wanted.items() if field.required)
