"""
A ledger of random transactions, about half of which are refused, for two verifiers to judge.

Everything is drawn from few: few patients, actors, roles, codes, names and steps of time,
among them those that are a bound, or beside one.  So rules meet each other often.  Keys,
nonces and signatures are new each time; what is decided follows from the seed.
"""
import random
import struct

from ledger_maker import Key, Maker, endorse, sign_batch, transaction
from verifier import items as it
from verifier import transaction as tx
from verifier.coding import ZEROS16, ZEROS32, sized
from verifier.contract import PURPOSES, REASONS

SECOND, MINUTE, HOUR, DAY = 1000000, 60000000, 3600000000, 86400000000
STEPS = [0, 0, 1, SECOND, 30 * SECOND, MINUTE - 1, MINUTE, MINUTE + 1, HOUR, HOUR + 1, 11 * HOUR, DAY - 1, DAY, DAY + 1]
START = 1769860800000000
NAMES = [b"ward", b"unit", b"a_b", b"study-1", b"x"]
FIELD_NAMES = [b"ward", b"unit", b"a_b", b"x"]
CODES = [b"north", b"south", b"west"]
TEXTS = [b"", b"records", b"match", b"emergency", b"treatment", b"research", b"unconscious", b"grant", b"north"]


def item_text(kind, name):
    return bytes([kind]) + sized(name)


class Chance:
    """Draws transactions of all kinds, mostly sensible ones."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pick = self.random.choice
        self.chain = self.bytes(32)
        self.origins, self.nodes = [Key(), Key()], [Key(), Key()]
        self.old_origins, self.old_nodes = [], []
        self.patients = [b"r." + bytes([65 + n]) * 32 for n in range(5)]
        self.actors = [self.bytes(16) for _ in range(4)]
        self.groups = [self.bytes(16) for _ in range(4)]
        self.rids = [self.bytes(16) for _ in range(12)]
        self.studies = [self.bytes(16) for _ in range(2)]
        self.digests = [self.bytes(32) for _ in range(3)]
        self.now = START
        self.maker = Maker(self.chain)
        self.sent = []

    def bytes(self, length):
        return bytes(self.random.getrandbits(8) for _ in range(length))

    def often(self, percent=90):
        return self.random.randrange(100) < percent

    def some(self, values, most=3):
        return self.random.sample(values, self.random.randint(0, min(most, len(values))))

    @property
    def contract(self):
        return self.maker.live.contract

    @property
    def history(self):
        return self.maker.live.history

    # Contract

    def predicate_operand(self):
        draw = self.random.randrange(5)
        if draw == 0:
            return b"\x0c" + struct.pack(">q", self.pick([-1, 0, 1, 2, 3, 12, 60, 86400, 100]))
        if draw == 1:
            return b"\x0d" + sized(self.pick(TEXTS))
        if draw == 2:
            return b"\x0e" + bytes([self.random.randint(1, 12)])
        if draw == 3:
            return b"\x0f" + sized(self.pick(FIELD_NAMES))
        return b"\x10" + bytes([self.random.randint(1, 5)]) + struct.pack(">I", self.pick([0, 1, 60, 3600, 86400]))

    def predicate(self, depth=0):
        draw = self.random.randrange(12)
        if draw < 2 and depth < 9:
            count = self.random.randint(1, 3)
            return bytes([1 + draw, count]) + b"".join(self.predicate(depth + 1) for _ in range(count))
        if draw == 2 and depth < 9:
            return b"\x03" + self.predicate(depth + 1)
        if draw == 3:
            count = self.random.randint(1, 3)
            kind_of = self.random.randrange(2)
            constants = [b"\x0c" + struct.pack(">q", self.random.randint(0, 9)) if kind_of else
                         b"\x0d" + sized(self.pick(TEXTS)) for _ in range(count)]
            return b"\x0a" + self.predicate_operand() + bytes([count]) + b"".join(constants)
        if draw == 4:
            return b"\x0b" + struct.pack(">H", self.random.randint(0, 0x3f) if self.often(95) else 0x40)
        return bytes([self.random.randint(4, 9)]) + self.predicate_operand() + self.predicate_operand()

    def likely_rule(self):
        """A predicate that is well formed and does not refuse nearly everything."""
        kind = self.pick([1, 2, 3, 4, 6])
        counter = self.pick([1, 2, 3] if kind == 6 else [1, 2, 3, 4, 5])
        count = b"\x10" + bytes([counter]) + struct.pack(">I", self.pick([0, 1, 60, 3600, 86400]))
        test = b"\x06" + count + b"\x0c" + struct.pack(">q", self.random.randint(1, 8))
        return kind, self.pick([test, b"\x02\x02" + test + b"\x0b" + struct.pack(">H", self.random.randint(1, 0x3f)),
                                b"\x06\x0e\x03\x0c" + struct.pack(">q", 86400),
                                b"\x02\x02" + test + self.predicate()])

    def wanted(self):
        names = sorted(set(self.random.choices(FIELD_NAMES, k=self.random.randint(1, 3))))
        parts = [bytes([len(names)])]
        for name in names:
            kind = self.random.randint(1, 3)
            parts.append(sized(name) + bytes([kind, self.random.randint(0, 1)]))
            if kind == 1:
                parts.append(struct.pack(">qq", self.pick([0, -5]), self.pick([3, 100])))
            if kind == 3:
                codes = sorted(set(self.random.choices(CODES, k=2)))
                parts.append(bytes([len(codes)]) + b"".join(sized(code) for code in codes))
        return b"".join(parts)

    def item(self):
        kind = self.pick([1, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9])
        name = self.pick(NAMES)
        if kind == it.POLICY:
            return b"\x01" + struct.pack(">HQ", self.random.randint(2, 7) if self.often(97) else self.pick([0, 1, 8]),
                                         self.pick([0, 1, 1, 2, 2, 3, 5, 5, 50]))
        if kind in it.LISTS:
            return bytes([kind]) + struct.pack(">H", self.pick([0, 0, 5, 8, 11, 12, 100])) + \
                sized(name + b"%d" % self.random.randrange(20))
        head = item_text(kind, name)
        if kind == it.TEMPLATE:
            return head + bytes([self.pick([2, 3, 4] if self.often(95) else [1, 5, 6])]) + sized(self.wanted())
        if kind == it.RULE:
            of, predicate = self.likely_rule() if self.often(80) else (self.random.randint(1, 8), self.predicate())
            return head + bytes([of]) + sized(predicate)
        if kind == it.DATA_RULE:
            check = self.pick([b'{"most":1}', b"true"])
            return head + sized(b"heart rate") + sized(check) + bytes([self.random.randint(1, 2)])
        return head

    def contract_change(self):
        return {"items": [self.item() for _ in range(self.pick([1, 1, 1, 2, 3]))]}

    # Transactions

    def public(self, kind, time):
        """Mostly the public fields of a template in force, if there is one."""
        mine = [t for t in self.contract.templates.values() if t.kind == kind]
        if not mine or not self.often(90):
            return {} if self.often(90) else {b"x": (1, 1)}
        values = {}
        for field in self.pick(mine).wanted.values():
            if field.required or self.often(50):
                value = self.pick(list(field.codes)) if field.type == 3 else self.random.randint(0, 1)
                values[field.name] = (field.type, value)
        return values

    def emergency_tid(self):
        known = list(self.history.emergencies)
        return self.pick(known) if known and self.often(95) else self.bytes(16)

    def patient(self, apid):
        known = self.history.patients.get(apid)
        version = known.version + 1 if known else 1
        before = known.profile if known else ZEROS32
        if not self.often():
            version, before = self.random.randint(1, 3), self.pick(self.digests)
        return {"apid": apid, "version": version, "before": before if version > 1 else ZEROS32,
                "profile": self.pick(self.digests)}

    def primary(self, apid):
        of = {"apid": apid, "rid": self.pick(self.rids), "flags": self.pick([0, 0, 2, 4, 6]),
              "ruleset": self.contract.ruleset() if self.often() else self.pick([ZEROS32] + self.digests),
              "tokens": self.some(self.groups), "record": self.bytes(self.random.randint(1, 40))}
        old = list(self.contract.ended_rulesets)
        if old and self.often(30):
            of["ruleset"] = self.pick(old)
        if self.often(25):
            of.update(flags=of["flags"] | 1, amended=self.pick(self.rids))
        return of

    def query(self, apid):
        scope = self.random.randint(1, 7)
        of = {"scope": scope, "apid": b"" if scope == 3 else apid, "purpose": self.pick([0, 1, 1, 2, 5, 8, 9]),
              "acting": self.pick(self.groups), "groups": self.some(self.groups)}
        if scope == 3:
            of["tokens"] = self.some(self.rids) or [ZEROS16]
        if scope == 4:
            known = list(self.history.searches)
            of["basis"] = self.pick(known) if known else self.bytes(16)
        if scope == 5:
            of.update(basis=self.pick(self.studies), purpose=7 if self.often() else 1)
        if scope == 6:
            of.update(reason=self.pick([1, 2, 5, 6, 11, 12]), note=self.pick(self.digests),
                      purpose=4 if self.often() else 1)
        if scope == 7:
            of["basis"] = self.emergency_tid()
            if of["basis"] in self.history.emergencies and self.often():
                of["apid"] = self.history.emergencies[of["basis"]].apid
        return of

    def consent(self, apid):
        action = self.pick([1, 1, 2, 2, 3])
        of = {"action": action, "apid": apid, "groups": self.some(self.groups)}
        if action == 3:
            of.update(reviewed=self.emergency_tid(), finding=self.random.randint(1, 2))
            if of["reviewed"] in self.history.emergencies and self.often():
                of["apid"] = self.history.emergencies[of["reviewed"]].apid
            return of
        of.update(grantee=self.pick(self.groups + ([ZEROS16] if action == 2 else [])),
                  purpose=self.pick([0, 0, 1, 2, 4, 5, 7, 8]))
        if action == 1 and self.often(40):
            of["until"] = self.now + self.pick(STEPS)
        return of

    def erasure(self, apid):
        voids = sorted(self.history.leaves.get(apid, []))
        if not voids or not self.often():
            voids = sorted(voids + [(self.bytes(32), 2, self.pick(self.actors), self.bytes(16))])
        elif not self.often():
            voids = [(leaf, 3 - kind, actor, tid) for leaf, kind, actor, tid in voids]
        return {"apid": apid, "reason": self.pick([6, 7, 8, 10, 11] if self.often() else [1, 900]), "voids": voids}

    def export(self, _):
        study = self.pick(self.studies)
        next_release = self.history.releases.get(study, 0) + 1
        return {"study": study, "release": next_release if self.often() else self.random.randint(1, 3)}

    def rotation(self, _):
        member = self.random.randint(1, 2)
        keys = self.nodes if member == 1 else self.origins
        gone = self.old_nodes if member == 1 else self.old_origins
        old = self.pick(keys if self.often() or not gone else gone)
        new = Key() if self.often() else self.pick(self.nodes + self.origins + gone)
        of = {"member": member, "spki": new.spki, "replaced": old.id,
              "endorsement": endorse(old if self.often() else new, self.chain, member, new.spki)}
        self.made_key = (member, old, new)
        return of

    def draw(self):
        """(origin key, encoding) of a random transaction."""
        kind = self.random.choices(range(1, 9), [12, 30, 40, 20, 2, 3, 3, 8])[0]
        apid = self.pick(self.patients)
        known = self.history.patients.get(apid)
        home = self.pick(self.origins)
        if known and self.often():
            home = next((k for k in self.origins if self.contract.home(k.id) == known.home), home)
        if self.old_origins and self.often(8):
            home = self.pick(self.old_origins)
        self.made_key = None
        makers = {1: self.patient, 2: self.primary, 3: self.query, 4: self.consent, 5: self.erasure, 6: self.export,
                  7: self.rotation, 8: lambda _: self.contract_change()}
        of = makers[kind](apid)
        if self.made_key and self.made_key[0] == 2 and self.often():
            home = self.made_key[1]
        time = self.now - self.pick([0, 0, 0, 1] + STEPS) + (0 if self.often(98) else 1)
        data = transaction(kind, self.chain if self.often(99) else ZEROS32, home.id, time, self.pick(self.actors),
                           self.roles(kind, of), self.public(kind, time), **of)
        if not self.often(97):
            data = self.spoil(data)
        return home, data, self.made_key

    def roles(self, kind, of):
        right = {1: 2, 2: 4, 3: 4, 4: 2, 5: 2, 6: 16, 7: 1, 8: 1}[kind]
        if kind == 3:
            right = {5: 16, 7: 32, 2: 32}.get(of["scope"], 4)
        if kind == 4 and of["action"] == 3:
            right = 32
        return right if self.often(85) else self.random.randrange(64)

    def spoil(self, data):
        """Changes a byte, or the length."""
        at = self.random.randrange(len(data))
        return self.pick([data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1:],
                          data[:at] + bytes([self.random.randrange(4)]) + data[at + 1:], data[:-1], data + b"\0"])

    # Blocks

    def batch(self):
        """Bodies of one statement, with the keys that they make."""
        home, data, made = self.draw()
        drawn, keys = [data], [made]
        for _ in range(self.pick([0, 0, 0, 1, 4])):
            other, data, made = self.draw()
            if other is home:
                drawn.append(data)
                keys.append(made)
        bodies = sign_batch(home if self.often(98) else Key(), drawn)
        if not self.often(97):
            at = self.random.randrange(len(bodies[0].proof))
            bodies[0] = bodies[0]._replace(proof=bodies[0].proof[:at] + b"\x07" + bodies[0].proof[at + 1:])
        return list(zip(bodies, keys))

    def genesis(self):
        first = self.origins[0]
        policies = {it.DIFFICULTY: 4, it.ACCESS: self.random.randint(1, 2), it.PURPOSE_NEEDED: self.random.randint(0, 1),
                    it.EMERGENCY: self.random.randint(0, 2), it.EXPORT: self.random.randint(1, 2), it.FETCH_CAP: 3,
                    it.QUERY_RATE: self.pick([0, 5])}
        items = [b"\x01" + struct.pack(">HQ", key, value) for key, value in policies.items()]
        lists = [bytes([kind]) + struct.pack(">H", code) + sized(name)
                 for kind, names in ((it.PURPOSE, PURPOSES), (it.REASON, REASONS)) for code, name in enumerate(names, 1)]
        bodies = []
        for key in self.origins:
            bodies += sign_batch(key, [self.admin(tx.MEMBERSHIP, key, member=2, spki=key.spki)])
        own = [self.admin(tx.MEMBERSHIP, first, member=1, spki=key.spki) for key in self.nodes]
        bodies += sign_batch(first, own + [self.admin(tx.CONTRACT, first, items=items + lists)])
        self.maker.add(bodies, self.now, self.nodes[0])

    def admin(self, kind, key, **of):
        return transaction(kind, self.chain, key.id, self.now, self.actors[0], 1, **of)

    def block(self):
        self.now += self.pick(STEPS)
        drawn = [one for _ in range(self.random.randint(0, 5)) for one in self.batch()]
        if self.sent and self.often(10):
            drawn.append((self.pick(self.sent), None))
        self.sent = (self.sent + [body for body, _ in drawn])[-20:]
        rules = self.maker.add([body for body, _ in drawn], self.now, self.pick(self.nodes))
        for rule, (_, made) in zip(rules, drawn):
            if rule == 0 and made:
                member, old, new = made
                keys, gone = ((self.nodes, self.old_nodes), (self.origins, self.old_origins))[member - 1]
                if old in keys and new not in keys:
                    keys[keys.index(old)] = new
                    gone.append(old)
        return rules
