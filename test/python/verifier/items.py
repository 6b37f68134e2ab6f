"""Items of the contract: what a transaction of kind contract changes."""
from dataclasses import dataclass

from .coding import Reader, name, need, text

(POLICY, PURPOSE, REASON, TEMPLATE, RULE, DATA_RULE, DROP_TEMPLATE, DROP_RULE, DROP_DATA_RULE) = range(1, 10)
LISTS = (PURPOSE, REASON)
DROPS = {DROP_TEMPLATE: TEMPLATE, DROP_RULE: RULE, DROP_DATA_RULE: DATA_RULE}

DIFFICULTY, ACCESS, PURPOSE_NEEDED, EMERGENCY, EXPORT, FETCH_CAP, QUERY_RATE = range(1, 8)


@dataclass(frozen=True)
class Item:
    """One item; `code` is a policy's key or a list's code, `body` what follows a name."""
    type: int
    encoding: bytes
    code: int = 0
    value: int = 0
    name: bytes = b""
    kind: int = 0
    body: bytes = b""
    action: int = 0


def read_item(reader):
    start = reader.at
    kind = reader.among(POLICY, DROP_DATA_RULE)
    parts = {}
    if kind == POLICY:
        parts = {"code": reader.u16(), "value": reader.u64()}
    elif kind in LISTS:
        parts = {"code": reader.u16(), "name": name(reader.bytes(1, 63), dash=True)}
        need(parts["code"] <= 999, "a code out of its bounds")
    else:
        parts["name"] = name(reader.bytes(1, 63), dash=True)
    if kind in (TEMPLATE, RULE):
        parts["kind"] = reader.among(1, 8)
        parts["body"] = reader.bytes(least=1)
    if kind == DATA_RULE:
        attribute, check = text(reader.bytes(1, 1024)), text(reader.bytes(1, 4096))
        parts["body"] = attribute + check
        parts["action"] = reader.among(1, 2)
    return Item(kind, reader.data[start:reader.at], **parts)


def read_items(count, data):
    """So many items, and nothing behind them."""
    reader = Reader(data)
    items = [read_item(reader) for _ in range(count)]
    reader.end()
    return items
