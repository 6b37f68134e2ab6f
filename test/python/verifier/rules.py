"""
The verdict: the number of the first rule that refuses a transaction, or 0.

A rule is a method of its name that says whether it refuses.  Which of them concern a
kind, they know themselves.
"""
from . import items as it
from .coding import ZEROS32, Malformed
from .contract import DAY, EMERGENCY_REASONS, ERASURE_REASONS, MINUTE, RULE_NAMES
from .keys import key_id, member_digest, verifies
from .predicate import (ACTION, ACTOR_QUERIES, AGE, AMENDS as AMENDS_FIELD, BATCH, CONST_INTEGER, CONST_TEXT, COUNT,
                        FIELD, FLAGGED as FLAGGED_FIELD, HOUR, LATE as LATE_FIELD, PATIENT_QUERIES, PURPOSE, REASON,
                        SCOPE, SIZE, WEEKDAY, holds)
from .transaction import (ADMIN, AMENDS, AUDITOR, CLINICIAN, CONSENT, CONTRACT, EMERGENCY, ERASURE, EXPORT,
                          EXPORT_SCOPE, FLAGGED, GRANT, HISTORY, LATE, MATCH, MEMBERSHIP, NOTE, ORIGIN, PATIENT,
                          PRIMARY, QUERY, RECORDS, REGISTRAR, RESEARCHER, REVIEW, SEARCH, SENSOR)

ROLES_NEEDED = {PATIENT: REGISTRAR | ADMIN | CLINICIAN, ERASURE: REGISTRAR | ADMIN,
                PRIMARY: CLINICIAN | ADMIN | SENSOR, EXPORT: RESEARCHER, MEMBERSHIP: ADMIN, CONTRACT: ADMIN}
SCOPE_ROLES = {SEARCH: CLINICIAN | RESEARCHER, EXPORT_SCOPE: RESEARCHER, EMERGENCY: CLINICIAN, NOTE: AUDITOR}
SCOPE_NAMES = (b"", b"records", b"history", b"search", b"match", b"export", b"emergency", b"note")
ACTION_NAMES = (b"", b"grant", b"revoke", b"review")
EMERGENCY_PURPOSE, PATIENT_REQUEST, RESEARCH_PURPOSE = 4, 5, 7


class Judge:
    """Judges transactions of one block, one after the other, each as of those before it."""

    def __init__(self, contract, history, header, genesis):
        self.contract, self.history, self.header, self.genesis = contract, history, header, genesis
        self.rules = contract.judging()

    def verdict(self, signed):
        """Number of the rule that refuses; 0 for a valid transaction."""
        self.signed, self.tx = signed, signed.transaction
        for number, name in enumerate(RULE_NAMES):
            if name and getattr(self, name)():
                return number
        for rule in self.rules:
            if rule.kind == self.tx.kind and not holds(rule.tree, self.value, self.tx.roles):
                return rule.number
        return 0

    def policy(self, key):
        return self.contract.policy_of(key)

    def is_query(self, *scopes):
        return self.tx.kind == QUERY and self.tx.scope in scopes

    def template(self):
        if self.tx is None or self.signed.proof is None:
            return True
        since = self.tx.time - (MINUTE if self.tx.kind == QUERY else DAY)
        return not self.contract.takes_public(self.tx.kind, self.tx.public, since)

    def chain(self):
        return self.tx.chain != self.header.chain

    def sender(self):
        """The SubjectPublicKeyInfo that the transaction must be signed with, or None."""
        key = self.contract.origin_key(self.tx.origin, self.header.time)
        if key:
            return key.spki
        own = self.genesis and self.tx.kind == MEMBERSHIP and self.tx.member == ORIGIN
        return self.tx.spki if own and key_id(self.tx.spki) == self.tx.origin else None

    def origin(self):
        return self.sender() is None

    def signature(self):
        return not self.signed.proof.signed_by(self.sender(), self.signed.leaf)

    def fresh(self):
        return self.signed.tid in self.history.tids or \
            (self.tx.kind == PRIMARY and self.tx.rid in self.history.records)

    def patient(self):
        if self.tx.patient is None:
            return False
        known = self.tx.patient in self.history.patients
        return known if self.tx.kind == PATIENT and self.tx.version == 1 else not known

    def erased(self):
        return self.tx.patient is not None and self.tx.patient in self.history.patients \
            and self.history.patients[self.tx.patient].erased

    def home(self):
        known = self.history.patients.get(self.tx.patient)
        return known is not None and known.home != self.contract.home(self.tx.origin)

    def time(self):
        return self.tx.time > self.header.time

    def actor(self):
        roles, tx = self.tx.roles, self.tx
        if tx.kind == CONSENT:
            return not roles & (AUDITOR | ADMIN if tx.action == REVIEW else REGISTRAR)
        if tx.kind != QUERY:
            return not roles & ROLES_NEEDED[tx.kind]
        if roles & REGISTRAR or (roles & SENSOR and not roles & CLINICIAN):
            return True
        return not roles & SCOPE_ROLES.get(tx.scope, roles | 1) and tx.scope in SCOPE_ROLES

    def purpose(self):
        tx, listed = self.tx, self.contract.lists[it.PURPOSE]
        if tx.kind == QUERY:
            if tx.scope == EMERGENCY:
                return tx.purpose != EMERGENCY_PURPOSE
            if tx.scope == EXPORT_SCOPE:
                return tx.purpose != RESEARCH_PURPOSE
            return self.policy(it.PURPOSE_NEEDED) == 1 if tx.purpose == 0 else tx.purpose not in listed
        return tx.kind == CONSENT and tx.purpose != 0 and tx.purpose not in listed

    def profile(self):
        if self.tx.kind != PATIENT:
            return False
        if self.tx.version == 1:
            return self.tx.before != ZEROS32
        known = self.history.patients[self.tx.apid]
        return (self.tx.version, self.tx.before) != (known.version + 1, known.profile)

    def amends(self):
        if self.tx.kind != PRIMARY or not self.tx.flags & AMENDS:
            return False
        old = self.history.records.get(self.tx.amended)
        return old is None or old.superseded or old.apid != self.tx.apid

    def membership(self):
        tx = self.tx
        if tx.kind == CONTRACT:
            return not self.genesis and any(i.type == it.POLICY and i.code == it.DIFFICULTY for i in tx.items)
        if tx.kind != MEMBERSHIP:
            return False
        known, mine = self.contract.keys[tx.member], key_id(tx.spki)
        if mine in known or self.genesis != (tx.replaced == ZEROS32):
            return True
        if self.genesis:
            return tx.member == ORIGIN and mine != tx.origin
        old = known.get(tx.replaced)
        if old is None or old.ended is not None:
            return True
        if tx.member == ORIGIN and old.home != self.contract.home(tx.origin):
            return True
        return not verifies(old.spki, member_digest(tx.chain, tx.member, tx.replaced, tx.spki), tx.endorsement)

    def consent(self):
        tx = self.tx
        if tx.kind != QUERY or tx.scope in (SEARCH, NOTE):
            return False
        purpose = PATIENT_REQUEST if tx.scope == HISTORY else tx.purpose
        bar, everybody = self.history.bar(tx.apid, tx.groups, purpose)
        if self.history.granted(tx.apid, tx.groups, purpose, self.header.time):
            return False
        if tx.scope in (RECORDS, MATCH):
            return not (self.policy(it.ACCESS) == 1 and tx.roles & CLINICIAN and bar is None)
        if tx.scope == HISTORY:
            return not tx.roles & AUDITOR
        if tx.scope == EXPORT_SCOPE:
            return not (self.policy(it.EXPORT) == 1 and bar is None)
        return self.policy(it.EMERGENCY) == 1 and everybody

    def self(self):
        tx = self.tx
        if tx.kind != CONSENT:
            return False
        if tx.action == GRANT:
            return tx.grantee in tx.groups
        read = self.history.emergencies.get(tx.reviewed) if tx.action == REVIEW else None
        return read is not None and (read.actor == tx.actor or read.acting in tx.groups)

    def cap(self):
        most = self.policy(it.FETCH_CAP)
        return self.is_query(RECORDS, HISTORY, SEARCH, MATCH, NOTE) and 0 < most < self.signed.proof.size

    def rate(self):
        most = self.policy(it.QUERY_RATE)
        return self.is_query(RECORDS, HISTORY, SEARCH, MATCH, NOTE) and most > 0 and \
            self.history.count(ACTOR_QUERIES, self.tx.actor, self.header.time, 3600) >= most

    def emergency(self):
        if not self.is_query(EMERGENCY):
            return False
        return self.policy(it.EMERGENCY) == 0 or self.tx.reason in ERASURE_REASONS or \
            self.tx.reason not in self.contract.lists[it.REASON]

    def basis(self):
        tx = self.tx
        if self.is_query(MATCH):
            return self.history.searches.get(tx.basis) != tx.actor
        if self.is_query(NOTE):
            return not self.is_emergency(tx.basis)
        if tx.kind == CONSENT and tx.action == REVIEW:
            return not self.is_emergency(tx.reviewed) or tx.reviewed in self.history.reviewed
        return False

    def is_emergency(self, tid):
        read = self.history.emergencies.get(tid)
        return read is not None and read.apid == self.tx.apid

    def ruleset(self):
        return self.tx.kind == PRIMARY and not self.contract.had_ruleset(self.tx.ruleset, self.tx.time - DAY)

    def release(self):
        return self.tx.kind == EXPORT and self.tx.release != self.history.releases.get(self.tx.study, 0) + 1

    def item(self):
        if self.tx.kind != CONTRACT:
            return False
        mark = self.contract.tables.mark()
        try:
            self.contract.apply(self.tx.items, self.header.time)
        except Malformed:
            return True
        self.contract.tables.undo(mark)
        return False

    def erasure(self):
        tx = self.tx
        if tx.kind != ERASURE:
            return False
        return tx.reason in EMERGENCY_REASONS or tx.reason not in self.contract.lists[it.REASON] or \
            tx.voids != sorted(self.history.leaves[tx.apid])

    # Operands of predicates

    def value(self, operand):
        code, what = operand
        if code in (CONST_INTEGER, CONST_TEXT):
            return what
        if code == FIELD:
            return self.field(what)
        if code == COUNT:
            return self.counted(*what)
        return self.tx.public.get(what, (0, None))[1]

    def counted(self, counter, seconds):
        of = self.tx.patient if counter >= PATIENT_QUERIES else self.tx.actor
        return self.history.count(counter, of, self.header.time, seconds)

    def field(self, code):
        tx, now = self.tx, self.header.time
        return {
            HOUR: lambda: now // 3600000000 % 24,
            WEEKDAY: lambda: (now // 86400000000 + 4) % 7,
            AGE: lambda: (now - tx.time) // 1000000,
            BATCH: lambda: self.signed.proof.size,
            PURPOSE: lambda: self.contract.lists[it.PURPOSE].get(tx.purpose, b""),
            SCOPE: lambda: SCOPE_NAMES[tx.scope],
            REASON: lambda: self.contract.lists[it.REASON].get(tx.reason, b""),
            SIZE: lambda: len(tx.record),
            AMENDS_FIELD: lambda: int(bool(tx.flags & AMENDS)),
            FLAGGED_FIELD: lambda: int(bool(tx.flags & FLAGGED)),
            LATE_FIELD: lambda: int(bool(tx.flags & LATE)),
            ACTION: lambda: ACTION_NAMES[tx.action],
        }[code]()
