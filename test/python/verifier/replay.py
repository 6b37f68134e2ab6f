"""
A whole ledger, checked block by block, in two passes.

The first looks for erasures, because a transaction that one of them voids has no body
and is to be known as void when the replay comes to it.  The second replays the chain.
"""
from collections import namedtuple

from . import items as it
from .block import MOST_ENTRIES
from .contract import RULE_NAMES, Contract
from .digests import Tree, history_leaf, meets, merkle_root, standing
from .history import History
from .keys import block_digest, key_id, verifies
from .rules import Judge
from .tables import Tables
from .transaction import ERASURE, MEMBERSHIP, CONTRACT, ORIGIN, QUERY

Finding = namedtuple("Finding", "height position check")
Void = namedtuple("Void", "apid home leaf kind actor tid height position")


class Voids:
    """The first pass: what erasures void, whatever else may be wrong with them."""

    def __init__(self):
        self.of = {}
        self.genesis = []
        self.replaced = {}
        self.erasures = []

    def add(self, block):
        for row in block.rows:
            tx = row.foreseen if row.kind in (ERASURE, MEMBERSHIP) else None
            if tx is None:
                continue
            if tx.kind == ERASURE:
                self.erasures.append((block.height, row.position, tx))
            elif tx.member == ORIGIN and block.height == 0:
                self.genesis.append(key_id(tx.spki))
            elif tx.member == ORIGIN:
                self.replaced.setdefault(key_id(tx.spki), tx.replaced)

    def home(self, origin):
        """Id of the first key of an origin."""
        passed = set()
        while origin in self.replaced and origin not in self.genesis and origin not in passed:
            passed.add(origin)
            origin = self.replaced[origin]
        if origin in self.genesis or not self.genesis:
            return origin
        return self.genesis[0]

    def done(self):
        """After the last block: which leaf is whose.  The first erasure that names it has it."""
        for height, position, tx in self.erasures:
            home = self.home(tx.origin)
            for leaf, kind, actor, tid in tx.voids:
                self.of.setdefault(leaf, Void(tx.apid, home, leaf, kind, actor, tid, height, position))
        return self


class Replay:
    """
    The second pass.  check() says what is wrong with the next block, or adds it and gives
    None; after a finding everything is as before it, so that one may try another block.
    """

    def __init__(self, voids):
        self.voids = voids.of
        self.tables = Tables()
        self.contract = Contract(self.tables)
        self.history = History(self.tables)
        self.void_at = {}
        self.blocks = Tree()
        self.tip = None
        self.transactions = self.not_rerun = self.erased = 0

    @property
    def next_height(self):
        return self.blocks.size

    def check(self, block):
        finding = self.find(block)
        if finding is None:
            self.tables.keep()
            self.blocks.add(history_leaf(block.hash))
            self.tip = block
            self.transactions += len(block.rows)
            self.not_rerun += sum(row.body is None and row.rule != 0 for row in block.rows)
            self.erased += sum(row.body is None and row.rule == 0 for row in block.rows)
        else:
            self.tables.undo(0)
        return finding

    def wrong(self, block):
        """What check() would say, without adding the block."""
        finding = self.find(block)
        self.tables.undo(0)
        return finding

    def find(self, block):
        if block.height != self.next_height:
            return Finding(min(block.height, self.next_height), None, "height")
        check = self.block_check(block)
        if check:
            return Finding(block.height, None, check)
        genesis = block.height == 0
        check = None if genesis else self.header_check(block)
        if check:
            return Finding(block.height, None, check)
        finding = self.entries_check(block) or self.verdicts_check(block, genesis)
        if finding:
            return finding
        check = self.header_check(block) if genesis else None
        if check is None and self.contract.digest() != block.header.contract:
            check = "contract"
        return Finding(block.height, None, check) if check else None

    @staticmethod
    def block_check(block):
        if block.header is None or len(block.signature) != 64:
            return "format"
        return "hash" if block.hash != block.stored_hash else None

    def header_check(self, block):
        header, tip = block.header, self.tip.header if self.tip else None
        if tip and header.chain != tip.chain:
            return "chain"
        if header.height != block.height:
            return "height"
        if header.previous != (self.tip.hash if tip else bytes(32)):
            return "link"
        if header.history != self.blocks.root():
            return "history"
        if tip and header.time < tip.time:
            return "time"
        if header.bits != self.contract.policy.get(it.DIFFICULTY):
            return "difficulty"
        if not meets(block.hash, header.bits):
            return "work"
        if header.count > MOST_ENTRIES:
            return "count"
        signer = self.contract.signer(header.node)
        if signer is None:
            return "signer"
        return None if verifies(signer.spki, block_digest(block.hash), block.signature) else "signature"

    def entries_check(self, block):
        """Everything of the entries but their verdicts."""
        for at, row in enumerate(block.rows):
            check = "position" if row.position != at else row.shape
            if check:
                return Finding(block.height, at, check)
        numbers = self.contract.numbers()
        for at, row in enumerate(block.rows):
            check = self.body_check(row, (block.height, at), numbers)
            if check:
                return Finding(block.height, at, check)
        if len(block.rows) != block.header.count or len(block.rows) > MOST_ENTRIES:
            return Finding(block.height, None, "count")
        stand = [standing(row.tid, row.kind, row.leaf, row.rule) for row in block.rows]
        return None if merkle_root(stand) == block.header.root else Finding(block.height, None, "root")

    def body_check(self, row, place, numbers):
        if row.rule >= len(RULE_NAMES) and row.rule not in numbers:
            return "rule"
        void = self.void_of(row, place)
        if row.body is None and (row.rule == 0 or row.kind == QUERY) and void is None:
            return "missing"
        if row.body and ((row.rule != 0 and row.kind != QUERY) or void):
            return "unwanted"
        if row.body:
            return row.match
        if void and row.tid != void.tid:
            return "tid"
        return "kind" if void and row.kind != void.kind else None

    def void_of(self, row, place):
        """The void of an erasure further on that this valid row is the first to have the leaf of."""
        void = self.voids.get(row.leaf) if row.rule == 0 else None
        if void is None or place >= (void.height, void.position):
            return None
        if self.void_at.get(row.leaf, place) != place:
            return None
        self.tables.put(self.void_at, row.leaf, place)
        return void

    def verdicts_check(self, block, genesis):
        judge = Judge(self.contract, self.history, block.header, genesis)
        for at, row in enumerate(block.rows):
            if row.body is None:
                if row.rule == 0:
                    self.history.apply_void(self.voids[row.leaf], block.header.time)
            else:
                if judge.verdict(row.signed) != row.rule:
                    return Finding(block.height, at, "verdict")
                check = self.apply(row, (block.height, at), block.header.time) if row.rule == 0 else None
                if check:
                    return Finding(block.height, at, check)
            if row.rule == 0:
                self.tables.put(self.history.tids, row.tid, True)
        return None

    def apply(self, row, place, now):
        tx = row.signed.transaction
        if tx.kind == ERASURE and not self.voids_stand(tx, place):
            return "void"
        if tx.kind == MEMBERSHIP:
            self.contract.admit(tx, now)
        elif tx.kind == CONTRACT:
            self.contract.apply(tx.items, now)
        else:
            self.history.apply(tx, self.contract.home(tx.origin), row.signed, place, now)
        return None

    def voids_stand(self, tx, place):
        for leaf, _, _, _ in tx.voids:
            void = self.voids[leaf]
            if (void.height, void.position) != place or leaf not in self.void_at:
                return False
        return True


def replay(blocks):
    """(finding or None, the replay) of a list of blocks."""
    voids = Voids()
    for block in blocks:
        voids.add(block)
    ledger = Replay(voids.done())
    for block in blocks:
        finding = ledger.check(block)
        if finding:
            return finding, ledger
    return None, ledger
