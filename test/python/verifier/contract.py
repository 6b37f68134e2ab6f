"""What is in force: policies, lists, templates, rules, data rules, members; and what was until lately."""
import struct
from collections import namedtuple

from . import items as it
from .coding import Malformed, need
from .digests import sha256
from .fields import fits, read_wanted
from .keys import key_id
from .predicate import parse
from .transaction import NODE, ORIGIN, PRIMARY, QUERY, CONSENT

PURPOSES = (b"treatment", b"payment", b"operations", b"emergency", b"patient-request", b"audit", b"research")
REASONS = (b"unconscious", b"life-threatening", b"danger-to-others", b"disaster", b"other-emergency",
           b"no-longer-needed", b"consent-withdrawn", b"objection", b"unlawful", b"legal-obligation")
FIRST = {it.PURPOSE: PURPOSES, it.REASON: REASONS}
EMERGENCY_REASONS, ERASURE_REASONS = range(1, 6), range(6, 11)

RULE_NAMES = ("", "template", "chain", "origin", "signature", "fresh", "patient", "erased", "home", "time",
              "actor", "purpose", "profile", "amends", "membership", "consent", "self", "cap", "rate",
              "emergency", "basis", "ruleset", "release", "item", "erasure")
FIRST_NUMBER, LAST_NUMBER = 1000, 32767
MOST_VALUE = {it.DIFFICULTY: (0, 48), it.ACCESS: (1, 2), it.PURPOSE_NEEDED: (0, 1), it.EMERGENCY: (0, 2),
              it.EXPORT: (1, 2), it.FETCH_CAP: (0, 2 ** 31 - 1), it.QUERY_RATE: (0, 2 ** 31 - 1)}
DEFAULTS = {it.ACCESS: 1, it.PURPOSE_NEEDED: 0, it.EMERGENCY: 1, it.FETCH_CAP: 1000, it.QUERY_RATE: 0}
MOST_TEMPLATES, MOST_RULES, MOST_DATA_RULES, MOST_COUNTERS = 64, 32, 64, 15

NEVER = -1
MINUTE, DAY = 60 * 1000000, 24 * 3600 * 1000000

Template = namedtuple("Template", "kind wanted encoding begun")
Rule = namedtuple("Rule", "number kind tree counters encoding")
Key = namedtuple("Key", "home spki ended")


class Contract:
    """
    What was in force from one block time until another counts for a while after it.  What
    came and went at one block time was in force at no moment.
    """

    def __init__(self, tables):
        self.tables = tables
        self.policy = {}
        self.lists = {it.PURPOSE: {}, it.REASON: {}}
        self.templates, self.rules, self.data_rules = {}, {}, {}
        self.next = {"number": FIRST_NUMBER}
        self.ended_templates, self.ended_none, self.ended_rulesets = {}, {}, {}
        self.begun_none, self.begun_ruleset = {}, {}
        self.keys = {NODE: {}, ORIGIN: {}}
        self.in_force = {NODE: {}, ORIGIN: {}}

    def policy_of(self, key):
        """A policy's value; where no item gives one, its default."""
        value = self.policy.get(key, DEFAULTS.get(key))
        return self.policy_of(it.ACCESS) if value is None and key == it.EXPORT else value

    # Members

    def origin_key(self, origin, now):
        """The key by which this origin may send at this block time, or None."""
        key = self.keys[ORIGIN].get(origin)
        if key is None or (key.ended is not None and now > key.ended + DAY):
            return None
        return key

    def home(self, origin):
        """The member that an origin's key belongs to."""
        return self.keys[ORIGIN][origin].home

    def signer(self, node):
        """The node key in force of this id, or None."""
        key = self.keys[NODE].get(node)
        return key if key is not None and key.ended is None else None

    def admit(self, transaction, now):
        """Applies a valid membership."""
        of = transaction
        known, mine = self.keys[of.member], key_id(of.spki)
        home = mine
        if of.replaced in known:
            old = known[of.replaced]
            home = old.home
            self.tables.put(known, of.replaced, old._replace(ended=now))
        self.tables.put(known, mine, Key(home, of.spki, None))
        self.tables.put(self.in_force[of.member], home, mine)

    # Items

    def apply(self, items, now):
        """Applies items in their order; Malformed if one cannot be applied, and then nothing is."""
        mark = self.tables.mark()
        try:
            for item in items:
                self._apply(item, now)
        except Malformed:
            self.tables.undo(mark)
            raise

    def _apply(self, item, now):
        if item.type == it.POLICY:
            least, most = MOST_VALUE.get(item.code, (1, 0))
            need(least <= item.value <= most, "a policy's value")
            self.tables.put(self.policy, item.code, item.value)
        elif item.type in it.LISTS:
            self._list(item)
        elif item.type == it.TEMPLATE:
            self._template(item, now)
        elif item.type == it.RULE:
            self._rule(item)
        else:
            self._rest(item, now)

    def _list(self, item):
        named, first = self.lists[item.type], FIRST[item.type]
        code = item.code or max([len(first)] + list(named)) + 1
        need(code <= 999 and code not in named and item.name not in named.values(), "a code or a name twice")
        if item.type == it.PURPOSE:
            mine = first[code - 1] if code <= len(first) else None
            need(item.name == mine if mine else item.name not in first, "a purpose of another name")
        self.tables.put(named, code, item.name)

    def _template(self, item, now):
        need(item.kind in (PRIMARY, QUERY, CONSENT), "a template for another kind")
        made = Template(item.kind, read_wanted(item.body), item.encoding, now)
        if item.name in self.templates:
            self._end_template(item.name, now)
        if not self._of_kind(item.kind) and self.begun_none.get(item.kind, NEVER) < now:
            self.tables.put(self.ended_none, item.kind, now)
        self.tables.put(self.templates, item.name, made)
        need(len(self.templates) <= MOST_TEMPLATES, "too many templates")

    def _of_kind(self, kind):
        return [template.wanted for template in self.templates.values() if template.kind == kind]

    def _end_template(self, name, now):
        old = self.templates[name]
        if old.begun < now:
            self.tables.put(self.ended_templates, (old.kind, old.encoding), (old.wanted, now))
        self.tables.drop(self.templates, name)
        if not self._of_kind(old.kind):
            self.tables.put(self.begun_none, old.kind, now)

    def _end_ruleset(self, now):
        if self.begun_ruleset.get(0, NEVER) < now:
            self.tables.put(self.ended_rulesets, self.ruleset(), now)
            self.tables.put(self.begun_ruleset, 0, now)

    def _rule(self, item):
        need(item.kind in (1, 2, 3, 4, 6), "a rule for another kind")
        need(item.name.decode() not in RULE_NAMES, "the name of a built-in rule")
        tree, counters = parse(item.body, item.kind)
        number = self.next["number"]
        need(number <= LAST_NUMBER, "no more numbers")
        self.tables.put(self.next, "number", number + 1)
        self.tables.put(self.rules, item.name, Rule(number, item.kind, tree, counters, item.encoding))
        need(len(self.rules) <= MOST_RULES, "too many rules")
        asked = frozenset().union(*(r.counters for r in self.rules.values()))
        need(len(asked) <= MOST_COUNTERS, "too many counters")

    def _rest(self, item, now):
        kind = it.DROPS.get(item.type, it.DATA_RULE)
        table = {it.TEMPLATE: self.templates, it.RULE: self.rules, it.DATA_RULE: self.data_rules}[kind]
        if kind == it.DATA_RULE:
            self._end_ruleset(now)
        if item.type == it.DATA_RULE:
            self.tables.put(table, item.name, item.encoding)
            need(len(table) <= MOST_DATA_RULES, "too many data rules")
            return
        need(item.name in table, "nothing of that name in force")
        if kind == it.TEMPLATE:
            self._end_template(item.name, now)
        else:
            self.tables.drop(table, item.name)

    # What a transaction is held to

    def ruleset(self):
        """Digest of the data rules in force; zeros for none."""
        encodings = [self.data_rules[n] for n in sorted(self.data_rules)]
        return sha256(b"".join(encodings)) if encodings else bytes(32)

    def had_ruleset(self, digest, since):
        """Were these the data rules at any moment since then?"""
        return digest == self.ruleset() or self.ended_rulesets.get(digest, NEVER) > since

    def takes_public(self, kind, public, since):
        """Are these the public fields of a template, or none where none was asked, at any moment since then?"""
        mine = self._of_kind(kind)
        if not public and (not mine or self.ended_none.get(kind, NEVER) > since):
            return True
        mine += [wanted for (k, _), (wanted, ended) in self.ended_templates.items() if k == kind and ended > since]
        return any(fits(public, wanted) for wanted in mine)

    def numbers(self):
        """Of all rules that the contract has or had."""
        return range(FIRST_NUMBER, self.next["number"])

    def judging(self):
        """The rules of the chain that are in force now, by number."""
        return sorted(self.rules.values())

    def digest(self):
        encodings = [struct.pack(">BHQ", it.POLICY, key, self.policy[key]) for key in sorted(self.policy)]
        for kind in it.LISTS:
            for code, name in sorted(self.lists[kind].items()):
                encodings.append(struct.pack(">BHI", kind, code, len(name)) + name)
        for table in (self.templates, self.rules):
            encodings += [table[name].encoding for name in sorted(table)]
        encodings += [self.data_rules[name] for name in sorted(self.data_rules)]
        parts = [b"C\x01", struct.pack(">II", 1, len(encodings))] + encodings
        for member in (NODE, ORIGIN):
            ids = sorted(self.in_force[member].values())
            parts += [struct.pack(">I", len(ids))] + ids
        return sha256(b"".join(parts))
