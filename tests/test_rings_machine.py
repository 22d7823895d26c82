"""Both sides of a ring, driven in any order, against a model that is two lists and a few counters.

The client fills and publishes SQEs (NOPs with a known result, some refused, some behind a bad index), enters for any
number, and reaps little and late, so that completions overflow. After every step the shared words and the counts are
what the model says; at the end every SQE has been completed or dropped, once and in order.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.bench import GETEVENTS, returned
from uring_iopf.abi import Op, SetupFlags, SqeFlags
from uring_iopf.core import Core
from uring_iopf.rings import Cqe, Ring, Sqe

CQ_OVERFLOW = 2


@dataclass(frozen=True)
class Slot:
    """What the model knows of an SQE."""

    user_data: int
    res: int = 0
    refused: bool = False  # before it starts: ends a batch
    silent: bool = False
    bad_index: bool = False


class RingModel:
    """What a ring is."""

    def __init__(self, sq_entries: int, cq_entries: int, *, submit_all: bool) -> None:
        self.sq_entries, self.cq_entries, self.submit_all = sq_entries, cq_entries, submit_all
        self.filled: list[Slot] = []  # not yet published
        self.published: list[Slot] = []
        self.cq: list[Cqe] = []
        self.backlog: list[Cqe] = []
        self.taken = self.dropped = self.reaped = 0

    def push(self, slot: Slot) -> bool:
        if len(self.filled) + len(self.published) == self.sq_entries:
            return False
        self.filled.append(slot)
        return True

    def publish(self) -> int:
        n = len(self.filled)
        self.published += self.filled
        self.filled.clear()
        return n

    def _complete(self, cqe: Cqe) -> None:
        full = len(self.cq) == self.cq_entries
        (self.backlog if full or self.backlog else self.cq).append(cqe)

    def _submit(self, n: int) -> int:
        consumed = 0
        for slot in self.published[:n]:
            self.published.pop(0)
            self.taken += 1
            if slot.bad_index:
                self.dropped += 1
                break
            consumed += 1
            if not slot.silent or slot.res < 0:
                self._complete(Cqe(slot.user_data, slot.res, 0))
            if slot.refused and not self.submit_all:
                break
        return consumed

    def enter(self, n: int, *, getevents: bool) -> int:
        consumed = self._submit(n)
        if consumed == n and getevents:
            room = self.cq_entries - len(self.cq)
            self.cq += self.backlog[:room]
            del self.backlog[:room]
        return consumed

    def reap(self, most: int) -> list[Cqe]:
        got = self.cq[:most]
        del self.cq[:most]
        self.reaped += len(got)
        return got


class RingAndModelAgree(RuleBasedStateMachine):
    """Same calls in, same results and same shared words out, after every step."""

    @initialize(
        sq=st.sampled_from([1, 2, 4, 8]),
        cq=st.sampled_from([1, 2, 4, 16]),
        submit_all=st.booleans(),
        array=st.booleans(),
        start=st.sampled_from([0, 0, 5]),
    )
    def a_ring_is_made(self, sq: int, cq: int, submit_all: bool, array: bool, start: int) -> None:
        flags = (SetupFlags.SUBMIT_ALL if submit_all else 0) | (0 if array else SetupFlags.NO_SQARRAY)
        self.has_array = array
        self.core = Core()
        self.ring = Ring(self.core, sq, cq_entries=max(sq, cq), flags=int(flags))
        self.model = RingModel(self.ring.sq_entries, self.ring.cq_entries, submit_all=submit_all)
        self.serial = 0
        self.completed: list[Cqe] = []
        self.expected: list[int] = []
        for _ in range(start):  # so that heads and tails do not begin at a multiple of the size
            self.client_fills(Slot(0))
            self.client_publishes()
            self.client_enters(1, getevents=True)
            self.client_reaps(1)

    def teardown(self) -> None:
        if not hasattr(self, "ring"):
            return
        try:
            self.everything_comes_out()
        finally:
            self.ring.close()
            self.core.close()

    def client_fills(self, slot: Slot) -> None:
        slot = Slot(self.serial, slot.res, slot.refused, slot.silent, slot.bad_index and self.has_array)
        flags = int(SqeFlags.CQE_SKIP_SUCCESS) if slot.silent else 0
        sqe = Sqe(Op.NOP, flags, op_flags=1, len=slot.res, user_data=slot.user_data)
        if slot.refused:
            sqe = Sqe(255, flags, user_data=slot.user_data)
            slot = Slot(slot.user_data, -errno.EINVAL, True, slot.silent, slot.bad_index)
        index = self.ring.client.fill(sqe)
        assert self.model.push(slot) == (index is not None)
        if index is None:
            assert self.ring.client.space() == 0
            return
        if self.has_array:
            self.ring.client.set_index(index, self.ring.sq_entries + 3 if slot.bad_index else index)
        self.serial += 1
        if not slot.bad_index and (slot.res < 0 or not slot.silent):
            self.expected.append(slot.user_data)

    @rule(res=st.integers(0, 5), silent=st.booleans())
    def client_fills_a_nop(self, res: int, silent: bool) -> None:
        self.client_fills(Slot(0, res, silent=silent))

    @rule(silent=st.booleans())
    def client_fills_one_that_fails(self, silent: bool) -> None:
        self.client_fills(Slot(0, -errno.EIO, silent=silent))

    @rule(silent=st.booleans())
    def client_fills_one_that_is_refused(self, silent: bool) -> None:
        self.client_fills(Slot(0, refused=True, silent=silent))

    @rule()
    def client_fills_one_behind_a_bad_index(self) -> None:
        self.client_fills(Slot(0, bad_index=True))

    @rule(n=st.integers(2, 8))
    def client_fills_and_publishes(self, n: int) -> None:
        for _ in range(n):
            self.client_fills(Slot(0))
        self.client_publishes()

    @rule()
    def client_publishes(self) -> None:
        assert self.ring.client.publish() == self.model.publish()

    @rule(n=st.integers(0, 10), getevents=st.booleans())
    def client_enters(self, n: int, getevents: bool) -> None:
        flags = int(GETEVENTS) if getevents else 0
        assert returned(lambda: self.ring.enter(n, 0, flags)) == self.model.enter(n, getevents=getevents)

    @rule(most=st.integers(1, 20))
    def client_reaps(self, most: int) -> None:
        got = self.ring.reap(most)
        assert got == self.model.reap(most)
        self.completed += got

    @invariant()
    def the_shared_words_agree(self) -> None:
        if not hasattr(self, "ring"):
            return
        model, ring = self.model, self.ring
        assert ring.word("sq_head") == model.taken
        assert ring.word("sq_tail") == model.taken + len(model.published)
        assert ring.word("cq_head") == model.reaped
        assert ring.word("cq_tail") == model.reaped + len(model.cq)
        assert ring.word("sq_dropped") == model.dropped
        assert ring.word("sq_flags") == (CQ_OVERFLOW if model.backlog else 0)
        assert ring.word("cq_overflow") == 0

    def everything_comes_out(self) -> None:
        self.client_publishes()
        while self.model.published or self.model.cq or self.model.backlog:
            # An enter that cannot take all it is asked for does not flush: so one that is asked for nothing.
            self.client_enters(len(self.model.published), getevents=False)
            self.client_enters(0, getevents=True)
            self.client_reaps(20)
        assert [cqe.user_data for cqe in self.completed] == self.expected


TestRingAndModelAgree = RingAndModelAgree.TestCase
TestRingAndModelAgree.settings = settings(settings(), stateful_step_count=60)
