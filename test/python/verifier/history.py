"""What was before a transaction: patients, records, consents, queries, and how many of what."""
from bisect import bisect_right
from collections import namedtuple

from .coding import ZEROS16
from .predicate import ACTOR_EMERGENCIES, ACTOR_QUERIES, ACTOR_RECORDS, PATIENT_QUERIES, PATIENT_RECORDS
from .transaction import (AMENDS, CONSENT, EMERGENCY, ERASURE, EXPORT, EXPORT_SCOPE, GRANT, PATIENT, PRIMARY, QUERY,
                          REVIEW, REVOCATION, SEARCH)

Patient = namedtuple("Patient", "home version profile erased")
Record = namedtuple("Record", "apid superseded")
Emergency = namedtuple("Emergency", "apid actor acting")


class History:
    def __init__(self, tables):
        self.tables = tables
        self.tids = {}
        self.patients = {}
        self.leaves = {}
        self.rids = {}
        self.records = {}
        self.searches = {}
        self.emergencies = {}
        self.reviewed = {}
        self.grants = {}
        self.revocations = {}
        self.releases = {}
        self.times = {}

    def count(self, counter, of, now, seconds):
        """How many of what `counter` counts, of an actor or patient, in blocks later than so long before now."""
        times = self.times.get((counter, of), [])
        return len(times) - bisect_right(times, now - seconds * 1000000) if seconds else len(times)

    def bar(self, apid, groups, purpose):
        """Place of the latest revocation that concerns these groups and this purpose, and whether one is for all."""
        places = [self.revocations.get((apid, grantee, p)) for grantee in groups for p in {0, purpose}]
        general = [self.revocations.get((apid, ZEROS16, p)) for p in {0, purpose}]
        everybody = any(place is not None for place in general)
        return max((p for p in places + general if p is not None), default=None), everybody

    def granted(self, apid, groups, purpose, now):
        """Is there a grant that counts?"""
        bar, _ = self.bar(apid, groups, purpose)
        for grantee in groups:
            for p in {0, purpose}:
                grant = self.grants.get((apid, grantee, p))
                if grant is None:
                    continue
                place, until = grant
                if (until == 0 or until > now) and (bar is None or place > bar):
                    return True
        return False

    # What a valid transaction leaves

    def apply(self, transaction, home, signed, place, now):
        """`place` is (height, position), `now` the block's time."""
        apply = {PATIENT: self._patient, PRIMARY: self._primary, QUERY: self._query, CONSENT: self._consent,
                 ERASURE: self._erasure, EXPORT: self._export}.get(transaction.kind)
        if apply:
            apply(transaction, home, signed, place, now)

    def _counted(self, counter, of, now):
        self.tables.append(self.times, (counter, of), now)

    def _patient(self, tx, home, signed, _, __):
        self.tables.put(self.patients, tx.apid, Patient(home, tx.version, tx.profile, False))
        self.tables.append(self.leaves, tx.apid, (signed.leaf, PATIENT, tx.actor, signed.tid))

    def _primary(self, tx, _, signed, __, now):
        if tx.flags & AMENDS:
            self.tables.put(self.records, tx.amended, self.records[tx.amended]._replace(superseded=True))
        self.tables.put(self.records, tx.rid, Record(tx.apid, False))
        self.tables.append(self.rids, tx.apid, tx.rid)
        self.tables.append(self.leaves, tx.apid, (signed.leaf, PRIMARY, tx.actor, signed.tid))
        self._counted(ACTOR_RECORDS, tx.actor, now)
        self._counted(PATIENT_RECORDS, tx.apid, now)

    def _query(self, tx, _, signed, __, now):
        if tx.scope == SEARCH:
            self.tables.put(self.searches, signed.tid, tx.actor)
        else:
            self._counted(PATIENT_QUERIES, tx.apid, now)
        if tx.scope != EXPORT_SCOPE:
            self._counted(ACTOR_QUERIES, tx.actor, now)
        if tx.scope == EMERGENCY:
            self._counted(ACTOR_EMERGENCIES, tx.actor, now)
            self.tables.put(self.emergencies, signed.tid, Emergency(tx.apid, tx.actor, tx.acting))

    def _consent(self, tx, _, __, place, ___):
        key = (tx.apid, tx.grantee, tx.purpose)
        if tx.action == GRANT:
            self.tables.put(self.grants, key, (place, tx.until))
        elif tx.action == REVOCATION:
            self.tables.put(self.revocations, key, place)
        elif tx.action == REVIEW:
            self.tables.put(self.reviewed, tx.reviewed, True)

    def _erasure(self, tx, _, __, ___, ____):
        self.tables.put(self.patients, tx.apid, self.patients[tx.apid]._replace(erased=True))
        for rid in self.rids.get(tx.apid, []):
            self.tables.drop(self.records, rid)

    def _export(self, tx, _, __, ___, ____):
        self.tables.put(self.releases, tx.study, tx.release)

    def apply_void(self, void, now):
        """What is left of a transaction that an erasure voided."""
        if void.apid not in self.patients:
            self.tables.put(self.patients, void.apid, Patient(void.home, 0, b"", False))
        self.tables.append(self.leaves, void.apid, (void.leaf, void.kind, void.actor, void.tid))
        if void.kind == PRIMARY:
            self._counted(ACTOR_RECORDS, void.actor, now)
            self._counted(PATIENT_RECORDS, void.apid, now)
