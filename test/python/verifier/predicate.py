"""
Predicates: a tree in prefix order that says what must hold for a transaction.

parse() gives the tree as nested tuples and checks all that can be checked of it alone;
holds() evaluates it.  What an operand is worth comes from the transaction and from the
counters, through the two functions that holds() is given.
"""
from .coding import Malformed, Reader, graphic, name, need

AND, OR, NOT, EQ, NE, LT, LE, GT, GE, IN, ROLE = range(1, 12)
CONST_INTEGER, CONST_TEXT, FIELD, PUBLIC, COUNT = range(12, 17)
(HOUR, WEEKDAY, AGE, BATCH, PURPOSE, SCOPE, REASON, SIZE, AMENDS, FLAGGED, LATE, ACTION) = range(1, 13)
(ACTOR_QUERIES, ACTOR_RECORDS, ACTOR_EMERGENCIES, PATIENT_QUERIES, PATIENT_RECORDS) = range(1, 6)

PATIENT, PRIMARY, QUERY, CONSENT, EXPORT = 1, 2, 3, 4, 6
ANY = (PATIENT, PRIMARY, QUERY, CONSENT, EXPORT)
FIELD_KINDS = {HOUR: ANY, WEEKDAY: ANY, AGE: ANY, BATCH: ANY, PURPOSE: (QUERY, CONSENT), SCOPE: (QUERY,),
               REASON: (QUERY,), SIZE: (PRIMARY,), AMENDS: (PRIMARY,), FLAGGED: (PRIMARY,), LATE: (PRIMARY,),
               ACTION: (CONSENT,)}
TEXT_FIELDS = (PURPOSE, SCOPE, REASON, ACTION)


class _Parser:
    def __init__(self, data, kind):
        self.reader = Reader(data)
        self.kind = kind
        self.nodes = 0
        self.counters = set()

    def node(self):
        self.nodes += 1
        need(self.nodes <= 64, "too many nodes")
        return self.reader.u8()

    def condition(self, level):
        need(level <= 8, "too deep")
        code = self.node()
        if code in (AND, OR):
            return code, [self.condition(level + 1) for _ in range(self.reader.among(1, 16))]
        if code == NOT:
            return code, self.condition(level + 1)
        if EQ <= code <= GE:
            left_type, left = self.operand()
            right_type, right = self.operand()
            need(None in (left_type, right_type) or left_type == right_type, "operands of two types")
            need(code <= NE or str not in (left_type, right_type), "an order of texts")
            return code, left, right
        if code == IN:
            kind, operand = self.operand()
            constants = []
            for _ in range(self.reader.among(1, 32)):
                kind, constant = self.constant(kind)
                constants.append(constant)
            return code, operand, constants
        if code == ROLE:
            mask = self.reader.u16()
            need(mask and not mask & ~0x3f, "a role that is none")
            return code, mask
        raise Malformed("not a condition")

    def constant(self, kind):
        found, operand = self.operand()
        need(operand[0] in (CONST_INTEGER, CONST_TEXT), "not a constant")
        need(kind in (None, found), "a constant of another type")
        return found, operand

    def operand(self):
        """(type, operand); the type of a public field is not known before the transaction."""
        code = self.node()
        if code == CONST_INTEGER:
            return int, (code, self.reader.i64())
        if code == CONST_TEXT:
            data = self.reader.bytes(0, 64)
            need(graphic(data, 0, 64, space=True), "a text that is not graphic")
            return str, (code, data)
        if code == FIELD:
            field = self.reader.u8()
            need(self.kind in FIELD_KINDS.get(field, ()), "not a field of this kind")
            return (str if field in TEXT_FIELDS else int), (code, field)
        if code == PUBLIC:
            need(self.kind in (PRIMARY, QUERY, CONSENT), "a kind without public fields")
            return None, (code, name(self.reader.bytes(1, 63), dash=False))
        if code == COUNT:
            counter = self.reader.among(ACTOR_QUERIES, PATIENT_RECORDS)
            need(counter < PATIENT_QUERIES or self.kind != EXPORT, "a patient's counter without a patient")
            key = (counter, self.reader.u32())
            self.counters.add(key)
            return int, (code, key)
        raise Malformed("not an operand")


def parse(data, kind):
    """The tree of a predicate for this kind, and the counters (with their seconds) that it asks for."""
    need(1 <= len(data) <= 1024, "a predicate's length")
    parser = _Parser(data, kind)
    tree = parser.condition(1)
    parser.reader.end()
    need(len(parser.counters) <= 4, "too many counters")
    return tree, frozenset(parser.counters)


def holds(tree, value, roles):
    """Does it hold?  `value(operand)` is an integer, bytes for a text, or None for what is not there."""
    code = tree[0]
    if code == AND:
        return all(holds(t, value, roles) for t in tree[1])
    if code == OR:
        return any(holds(t, value, roles) for t in tree[1])
    if code == NOT:
        return not holds(tree[1], value, roles)
    if code == ROLE:
        return bool(roles & tree[1])
    left = value(tree[1])
    if left is None:
        return False
    if code == IN:
        return any(left == value(constant) for constant in tree[2])
    right = value(tree[2])
    if right is None or type(left) is not type(right):
        return False
    if code in (EQ, NE):
        return (left == right) == (code == EQ)
    if isinstance(left, bytes):
        return False
    return {LT: left < right, LE: left <= right, GT: left > right, GE: left >= right}[code]
