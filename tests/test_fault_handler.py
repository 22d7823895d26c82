"""The handler of 2021: which stage faulted, how the kernel knows, who serves it, and what that costs.

The judge is a model in Python of what the 2021 series and its review say, beside a machine of a function, its IOMMU, a
host that maps and unmaps stage 2, a guest that maps stage 1 and answers, and a handler that is registered, changed and
closed, in any order.
"""

from __future__ import annotations

import errno
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.test_pri import PAGE, Site, accounts
from tests.test_smmuv3 import SmmuSite
from tests.test_two_stages import ARM, TABLES_AT, VTD, Staged, StallingSite
from uring_iopf import FaultPerm, KernelError, PageResponse, UsageError
from uring_iopf.core import Core
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.page_tables import PageFormat, PageTables
from uring_iopf.hardware.translator import Translator
from uring_iopf.iommufd.devices.fault_handler import DeviceFaultHandler, HandlerCounts, KnownBy, ReportFlags
from uring_iopf.iommufd.spaces.second_stage import SecondStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

R, W = FaultPerm.READ, FaultPerm.WRITE
FLAT, L1, L2 = ReportFlags.FLAT, ReportFlags.NESTED_L1, ReportFlags.NESTED_L2
HARDWARE, DRIVER, HANDLER, NOBODY = KnownBy
SUCCESS, INVALID = PageResponse.SUCCESS, PageResponse.INVALID
FRAMES: Final = 16
"""Pages that the host's IOAS has, from the intermediate address 0; the last four may only be read."""
READ_ONLY: Final = range(12, 16)
MEMORY: Final = 0x7000_0000


class Nested:
    """A site whose function has two stages, and a host whose memory is an IOAS."""

    def __init__(self, site: Site, formats: tuple[PageFormat, PageFormat], *, tracks: bool = True) -> None:
        self.site = site
        self.ioas = site.context.ioas_alloc()
        self.ioas.map(12 * PAGE, user_va=MEMORY, iova=0)
        self.ioas.map(4 * PAGE, user_va=MEMORY + 12 * PAGE, iova=12 * PAGE, writeable=False)
        self.staged = Staged(site, *formats, tracks=tracks)
        for pasid in (5, 6):
            self.staged.guest.begin(pasid)
        self.second = SecondStage(self.ioas, self.staged.host)
        site.stack.callback(self.second.close)

    def register(
        self, known_by: KnownBy = DRIVER, flags: ReportFlags = L1 | L2, *, second: bool = True
    ) -> DeviceFaultHandler:
        site, own = self.site, self.second if second else None
        return DeviceFaultHandler(site.iommu, site.device, self.staged.translator, own, known_by=known_by, flags=flags)

    def forget(self) -> None:
        """Invalidate all that hardware keeps."""
        self.staged.translator.invalidate_all()
        self.site.end.invalidate(0, 1 << 48)


KINDS: Final = {"VT-d, PRI": (Site, VTD), "SMMUv3, PRI": (SmmuSite, ARM), "SMMUv3, stall": (StallingSite, ARM)}


@pytest.fixture
def nested() -> Iterator[Nested]:
    site = Site()
    yield Nested(site, VTD)
    site.close()


@pytest.fixture
def stalling() -> Iterator[Nested]:
    site = StallingSite()
    yield Nested(site, ARM)
    site.close()


# ---- registration ----


def refusal(nested: Nested, known_by: KnownBy, flags: ReportFlags, *, second: bool = True) -> int | None:
    try:
        nested.register(known_by, flags, second=second).close()
    except KernelError as error:
        return error.errno
    return None


def may(known_by: KnownBy, flags: int, *, second: bool, pinned: bool) -> bool:
    """What the series and this page say of a registration, for a device that says its stage."""
    if flags not in (FLAT, L1, L2, L1 | L2):
        return False
    if flags & L2 and (not second or known_by is NOBODY):
        return False
    return known_by is not NOBODY or (flags == L1 and (pinned or not second))


@pytest.mark.parametrize("pinned", [False, True], ids=["unpinned", "pinned"])
def test_what_a_registration_may_ask_for(stalling: Nested, pinned: bool) -> None:
    if pinned:
        stalling.second.pin()
    for known_by in KnownBy:
        for flags in range(16):
            for second in (False, True):
                wanted = None if may(known_by, flags, second=second, pinned=pinned) else errno.EINVAL
                assert refusal(stalling, known_by, ReportFlags(flags), second=second) == wanted, (
                    known_by,
                    flags,
                    second,
                )


@pytest.mark.parametrize("kind", ["VT-d, PRI", "SMMUv3, PRI"])
def test_a_page_request_does_not_say_its_stage(kind: str) -> None:
    make, formats = KINDS[kind]
    site = make()
    assert refusal(Nested(site, formats), HARDWARE, L1 | L2) == errno.EOPNOTSUPP
    site.close()


def test_one_handler_for_a_device(nested: Nested) -> None:
    handler = nested.register()
    assert refusal(nested, DRIVER, L1) == errno.EBUSY
    handler.close()
    handler.close()
    assert refusal(nested, DRIVER, L1) is None
    with pytest.raises(UsageError, match="this device-fault handler is closed"):
        handler.counts()


def test_what_does_not_belong_together_is_refused(nested: Nested) -> None:
    site, staged = nested.site, nested.staged
    with Core() as other:
        translator = Translator(other, first=PageTables("vtd-first"))
        with pytest.raises(KernelError) as caught:
            DeviceFaultHandler(site.iommu, site.device, translator, flags=L1)
        assert caught.value.errno == errno.EINVAL
        translator.close()
    second = SecondStage(nested.ioas, PageTables("vtd-second"))
    with pytest.raises(KernelError) as caught:
        DeviceFaultHandler(site.iommu, site.device, staged.translator, second)
    assert caught.value.errno == errno.EINVAL
    site.iommu.unbind(site.device)
    assert refusal(nested, DRIVER, L1) == errno.ENODEV
    for arguments in (
        (None, site.device, staged.translator),
        (site.iommu, None, staged.translator),
        (site.iommu, site.device, None),
        (site.iommu, site.device, staged.translator, staged.host),
    ):
        with pytest.raises(UsageError, match="must be a"):
            DeviceFaultHandler(*arguments)
    with pytest.raises(UsageError, match="known_by must be a KnownBy, not 1"):
        DeviceFaultHandler(site.iommu, site.device, staged.translator, known_by=1)  # type: ignore[arg-type]


def test_an_update_is_judged_as_a_registration(stalling: Nested) -> None:
    for known_by in (HARDWARE, DRIVER, HANDLER):
        for second in (False, True):
            for before in (FLAT, L1, L2, L1 | L2):
                if not may(known_by, before, second=second, pinned=False):
                    continue
                for keep in range(8):
                    for add in range(8):
                        handler = stalling.register(known_by, before, second=second)
                        after = before & keep | add
                        if may(known_by, after, second=second, pinned=False):
                            handler.update(keep=keep, add=add)
                        else:
                            with pytest.raises(KernelError) as caught:
                                handler.update(keep=keep, add=add)
                            assert caught.value.errno == errno.EINVAL
                        handler.close()


def test_who_promises_that_all_is_pinned_keeps_it(nested: Nested) -> None:
    """A wrong guess is impossible: what is relied on is not taken away."""
    nested.second.pin(0, 8 * PAGE - 1)
    assert refusal(nested, NOBODY, L1) == errno.EINVAL
    nested.second.pin()
    handler = nested.register(NOBODY, L1)
    for call in (nested.second.unpin, nested.second.clear):
        with pytest.raises(KernelError) as caught:
            call()
        assert caught.value.errno == errno.EBUSY
    handler.close()
    assert len(nested.second.unpin()) == FRAMES


@pytest.mark.parametrize("change", ["less", "more"])
def test_a_change_of_the_ioas_ends_the_promise(nested: Nested, change: str) -> None:
    """Hardware may now fault in stage 2, so the driver walks: the guest is not asked for a page that it has."""
    nested.second.pin()
    handler = nested.register(NOBODY, L1)
    frame = 3 if change == "less" else 100
    if change == "less":
        nested.ioas.unmap(0, 12 * PAGE)
    else:
        nested.ioas.map(PAGE, user_va=MEMORY, iova=frame * PAGE)
    assert handler.known_by is DRIVER
    nested.staged.guest.map(0x5000, frame * PAGE, pasid=5)
    ticket = nested.staged.access(0x5000)
    assert nested.site.end.result(ticket) is AccessResult.INVALID
    assert nested.site.queue.read_messages() == []
    assert handler.counts()._replace(entries=0) == (1, 0, 0, 1, 0, 1, 0, 0, 0, 0)
    assert nested.second.unpin() != []
    handler.close()


@pytest.mark.parametrize("first", ["device", "context", "iommu", "translator", "second", "tables"])
def test_what_goes_before_the_handler(first: str) -> None:
    """Whatever is closed first, the handler's counts can be read, it can be closed, and nothing is freed twice."""
    site = Site()
    nested = Nested(site, VTD)
    handler = nested.register()
    nested.staged.access(0x5000)
    close: dict[str, Callable[[], None]] = {
        "device": lambda: site.iommu.unbind(site.device),
        "context": site.context.close,
        "iommu": site.iommu.close,
        "translator": nested.staged.translator.close,
        "second": nested.second.close,
        "tables": nested.staged.guest.close,
    }
    close[first]()
    assert handler.counts().to_guest == 1
    handler.close()
    site.close()


def test_a_core_does_not_go_before_the_handler(nested: Nested) -> None:
    handler = nested.register()
    with pytest.raises(UsageError, match=r"close them first: .*device-fault handler"):
        nested.site.core.close()
    handler.close()


# ---- wrong guesses ----


def no_right(nested: Nested) -> None:
    """Stage 2 has the page for reading, and the access writes."""
    nested.staged.guest.map(0x5000, 13 * PAGE, pasid=5)


def beyond_the_memory(nested: Nested) -> None:
    """Stage 1 leads to where the host has nothing."""
    nested.staged.guest.map(0x5000, 100 * PAGE, pasid=5)


def tables_beyond_the_memory(nested: Nested) -> None:
    """Stage 1's tables are where the host has nothing."""
    nested.staged.guest.map(0x5000, 3 * PAGE, pasid=5)
    nested.staged.host.unmap(TABLES_AT)
    nested.forget()


def not_taken_by_hardware(nested: Nested) -> None:
    """Stage 2 has the page, with a reserved bit, or with a clear access flag that hardware may not set."""
    nested.staged.guest.map(0x5000, 3 * PAGE, pasid=5)
    entry = nested.staged.host.look(3 * PAGE)
    assert entry is not None
    arm = nested.staged.host.format is PageFormat.ARM_STAGE2
    nested.staged.host.write_entry(3 * PAGE, 1, entry.word ^ (1 << 10) if arm else entry.word | 1 << 50)


WRONG: Final = (no_right, beyond_the_memory, tables_beyond_the_memory, not_taken_by_hardware)
WAYS: Final = [
    (kind, known_by) for kind in KINDS for known_by in KnownBy if known_by is not HARDWARE or kind == "SMMUv3, stall"
]


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: one.__name__.replace("_", " "))
@pytest.mark.parametrize(("kind", "known_by"), WAYS)
def test_a_wrong_guess_is_found_out(
    kind: str, known_by: KnownBy, wrong: Callable[[Nested], None], retries: int
) -> None:
    """All is pinned, and stage 2 ends the walk: no guest can do anything, and it is asked once at most."""
    make, formats = KINDS[kind]
    nested = Nested(make(retries=retries), formats, tracks=wrong is not not_taken_by_hardware)
    site, stalls = nested.site, kind == "SMMUv3, stall"
    nested.second.pin()
    handler = nested.register(known_by, L1 if known_by is NOBODY else L1 | L2)
    wrong(nested)
    ticket, asked = nested.staged.access(0x5000, W), 0
    while messages := site.queue.read_messages():
        for message in messages:
            asked += 1
            site.queue.respond(message.cookie, SUCCESS)
        site.turn()
    guesses = known_by is NOBODY and not stalls
    found = not guesses or retries > 0
    assert asked == guesses
    assert site.end.result(ticket) is (AccessResult.INVALID if found else AccessResult.UNMAPPED)
    counts = handler.counts()
    assert (counts.to_guest, counts.by_host, counts.gone, counts.refused) == (guesses, 0, 0, found)
    assert counts.wrong == (known_by is NOBODY and found)
    if known_by is NOBODY:
        assert counts.walks == (guesses and found)
    handler.close()
    site.close()


@pytest.mark.parametrize(("kind", "known_by"), WAYS)
def test_a_guess_that_others_have_overtaken_does_no_harm(kind: str, known_by: KnownBy) -> None:
    """The page is mapped between the request and its interrupt: in stage 1, in stage 2, or in both."""
    make, formats = KINDS[kind]
    for by_guest, by_host in ((True, False), (False, True), (True, True)):
        nested = Nested(make(retries=1), formats)
        site, guest = nested.site, nested.staged.guest
        if known_by is NOBODY:
            nested.second.pin()
        elif not by_host:
            nested.second.pin(3 * PAGE, 4 * PAGE - 1)
        if not by_guest:
            guest.map(0x5000, 3 * PAGE, pasid=5)
        handler = nested.register(known_by, L1 if known_by is NOBODY else L1 | L2)
        with site.iommu.interrupt_held():
            ticket = nested.staged.access(0x5000, W)
            if site.end.result(ticket) is not AccessResult.OK:
                if by_guest:
                    guest.map(0x5000, 3 * PAGE, pasid=5)
                if by_host:
                    assert nested.second.fill(3 * PAGE, W)
        site.turn()
        for message in site.queue.read_messages():
            site.queue.respond(message.cookie, SUCCESS)
        site.turn()
        assert site.end.result(ticket) is AccessResult.OK
        counts = handler.counts()
        assert (counts.refused, counts.wrong) == (0, 0)
        handler.close()
        site.close()


def test_what_the_guest_was_asked_for_is_forgotten_with_its_tables(nested: Nested) -> None:
    nested.second.pin()
    handler = nested.register(NOBODY, L1)
    for walks in (0, 1, 1):
        nested.staged.access(0x5000, W)
        nested.staged.answered(INVALID)
        assert handler.counts().walks == walks
        if walks:
            handler.begin_anew()
    assert (handler.counts().to_guest, handler.counts().wrong) == (3, 0)
    handler.close()


def test_where_no_more_is_kept_all_is_walked(nested: Nested) -> None:
    """Twelve pages of one set of eight: the last four are never known, and never taken for others."""

    def set_of(page: int) -> int:
        key = page << 24 ^ W << 20 ^ 5
        return (key * 0x9E37_79B9_7F4A_7C15 % (1 << 64) >> 32) % 32768

    first = set_of(1)
    pages = list(islice((page for page in range(1, 1 << 22) if set_of(page) == first), 12))
    nested.second.pin()
    handler = nested.register(NOBODY, L1)
    for walks in (4, 16):
        for page in pages:
            nested.staged.access(page * PAGE, W)
            assert nested.staged.answered(INVALID) == [page * PAGE]
        assert handler.counts().walks == walks
    assert (handler.counts().to_guest, handler.counts().refused) == (24, 0)
    handler.close()


# ---- any order ----


class Fates(RuleBasedStateMachine):
    """A function of two stages and everybody around it. `expected` is what the fault queue must say next."""

    kind = "VT-d, PRI"
    known: tuple[KnownBy, ...] = (DRIVER, HANDLER)
    most_pages = 4

    def __init__(self) -> None:
        super().__init__()
        make, formats = KINDS[self.kind]
        self.nested = Nested(make(), formats)
        self.site = self.nested.site
        self.guest: dict[tuple[int, int], int] = {}
        self.host: set[int] = set()
        self.handler: DeviceFaultHandler | None = None
        self.flags = FLAT
        self.known_by = DRIVER
        self.expected: list[list[tuple[int, int]]] = []
        self.counts: Counter[str] = Counter()
        self.served = self.refused = 0
        self.tickets: dict[int, AccessResult] = {}

    def teardown(self) -> None:
        if self.handler is not None:
            self.handler.close()
        while self.expected:
            self.answer(INVALID)
        assert self.site.end.counts().outstanding == 0
        assert not any(accounts(self.site)[0][i] for i in (3, 5, 6))
        self.site.close()

    # ---- what becomes of a group ----

    def reaches(self, pasid: int, page: int, perm: FaultPerm) -> int:
        """The stage that ends the walk; 0: none."""
        frame = self.guest.get((pasid, page))
        if frame is None:
            return 1
        if frame not in self.host or (perm is W and frame in READ_ONLY):
            return 2
        return 0

    def fate(self, pasid: int, page: int, perm: FaultPerm) -> str:
        stage = self.reaches(pasid, page, perm)
        filters = self.known_by is HANDLER
        tells = self.kind == "SMMUv3, stall" and self.known_by is not DRIVER
        self.counts["faults"] += 1
        self.counts["walks"] += not tells
        self.counts["locks"] += filters
        self.counts["calls"] += filters
        if stage == 0:
            self.counts["calls"] += not filters
            return "gone"
        if not self.flags & (L2 if stage == 2 else L1):
            return "refused"
        self.counts["calls"] += not filters
        if stage == 1:
            return "to_guest"
        self.counts["locks"] += not filters
        frame = self.guest[pasid, page]
        if frame >= FRAMES or (perm is W and frame in READ_ONLY):
            return "refused"
        self.host.add(frame)
        return "by_host"

    def decide(self, pasid: int, first: int, pages: int, perm: FaultPerm) -> AccessResult:
        those = range(first, first + pages)
        if not any(self.reaches(pasid, page, perm) for page in those):
            return AccessResult.OK
        if self.handler is None or self.flags == FLAT:
            self.expected.append([(pasid, page) for page in those])
            return AccessResult.PENDING
        fates = {page: self.fate(pasid, page, perm) for page in those}
        self.counts.update(fates.values())
        if "refused" in fates.values():
            self.refused += pages
            return AccessResult.INVALID
        self.served += pages - Counter(fates.values())["to_guest"]
        if "to_guest" in fates.values():
            self.expected.append([(pasid, page) for page in those if fates[page] == "to_guest"])
            return AccessResult.PENDING
        return AccessResult.OK

    # ---- rules ----

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            self.nested.second.pin(0, 6 * PAGE - 1)
            self.host = set(range(6))

    @precondition(lambda self: self.handler is None)
    @rule(known_by=st.sampled_from(KnownBy), flags=st.sampled_from([FLAT, L1, L2, L1 | L2, L1 | L2]))
    def register(self, known_by: KnownBy, flags: ReportFlags) -> None:
        if known_by not in self.known:
            return
        self.known_by, self.flags, self.counts = known_by, flags, Counter()
        self.handler = self.nested.register(known_by, flags)

    @precondition(lambda self: self.handler is not None)
    @rule()
    def close(self) -> None:
        assert self.handler is not None
        self.handler.close()
        self.handler = None

    @precondition(lambda self: self.handler is not None)
    @rule(flags=st.sampled_from([FLAT, L1, L2, L1 | L2]))
    def update(self, flags: ReportFlags) -> None:
        assert self.handler is not None
        self.handler.update(keep=0, add=flags)
        self.flags = flags

    @precondition(lambda self: len(self.expected) < 4)
    @rule(
        pasid=st.sampled_from([5, 6]),
        first=st.integers(0, 7),
        pages=st.integers(1, 4),
        perm=st.sampled_from([R, W]),
    )
    def access(self, pasid: int, first: int, pages: int, perm: FaultPerm) -> None:
        pages = min(pages, self.most_pages)
        wanted = self.decide(pasid, first, pages, perm)
        ticket = self.site.end.access(pasid, first * PAGE, perm, pages=pages)
        self.site.turn()
        assert self.site.end.result(ticket) is wanted

    @rule(pasid=st.sampled_from([5, 6]), page=st.integers(0, 7), frame=st.integers(0, FRAMES + 1))
    def map(self, pasid: int, page: int, frame: int) -> None:
        if (pasid, page) not in self.guest:
            self.nested.staged.guest.map(page * PAGE, frame * PAGE, pasid=pasid)
            self.guest[pasid, page] = frame

    @precondition(lambda self: bool(self.guest))
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        pasid, page = data.draw(st.sampled_from(sorted(self.guest)))
        del self.guest[pasid, page]
        self.nested.staged.guest.unmap(page * PAGE, pasid=pasid)
        self.nested.forget()

    @rule(frame=st.integers(0, FRAMES - 1))
    def unpin(self, frame: int) -> None:
        gone = self.nested.second.unpin(frame * PAGE, frame * PAGE)
        assert gone == ([(frame * PAGE, PAGE)] if frame in self.host else [])
        self.host.discard(frame)
        self.nested.forget()

    @rule(frame=st.integers(0, FRAMES + 1), perm=st.sampled_from([R, W]))
    def fill(self, frame: int, perm: FaultPerm) -> None:
        there = frame < FRAMES and not (perm is W and frame in READ_ONLY)
        assert self.nested.second.fill(frame * PAGE, perm) is there
        if there:
            self.host.add(frame)

    @precondition(lambda self: bool(self.expected))
    @rule(code=st.sampled_from([SUCCESS, INVALID]))
    def answer(self, code: PageResponse) -> None:
        """The client reads everything, and answers the groups in the order in which they came."""
        messages = self.site.queue.read_messages()
        assert [(one.pasid, one.addr // PAGE) for one in messages] == [
            page for group in self.expected for page in group
        ]
        ends = [bool(one.flags & 2) for one in messages]
        assert ends == [n + 1 == len(group) for group in self.expected for n in range(len(group))]
        self.expected = []
        for cookie in dict.fromkeys(one.cookie for one in messages):
            self.site.queue.respond(cookie, code)
        self.site.turn()

    @invariant()
    def all_is_accounted_for(self) -> None:
        account = accounts(self.site)[0]
        assert (account.lost, account.passed_over) == (0, 0)
        assert account.pending == sum(map(len, self.expected))
        counts = self.site.device.counts()
        assert (counts.served, counts.refused) == (self.served, self.refused)
        assert counts.reported == account.sent
        if self.handler is not None:
            found = self.handler.counts()
            assert found._replace(entries=0) == HandlerCounts(
                *(self.counts[name] if name != "entries" else 0 for name in HandlerCounts._fields)
            )
            assert (found.entries > 0) == (found.walks > 0)
            assert found.faults == found.to_guest + found.by_host + found.refused + found.gone


class FatesOfPinned(Fates):
    """All of stage 2 is pinned while there is a handler, and nobody walks, but for a page that was asked for before."""

    asked: set[tuple[int, int, FaultPerm]]

    @precondition(lambda self: self.handler is None)
    @rule(known_by=st.just(NOBODY), flags=st.just(L1))
    def register(self, known_by: KnownBy, flags: ReportFlags) -> None:
        self.nested.second.pin()
        self.host = set(range(FRAMES))
        self.known_by, self.flags, self.counts, self.asked = known_by, flags, Counter(), set()
        self.handler = self.nested.register(known_by, flags)

    @precondition(lambda self: self.handler is not None)
    @rule(flags=st.sampled_from([FLAT, L1, L2, L1 | L2]))
    def update(self, flags: ReportFlags) -> None:
        assert self.handler is not None
        if flags == L1:
            self.handler.update(keep=0, add=flags)
            return
        with pytest.raises(KernelError) as caught:
            self.handler.update(keep=0, add=flags)
        assert caught.value.errno == errno.EINVAL

    @precondition(lambda self: self.handler is not None)
    @rule()
    def the_guest_begins_anew(self) -> None:
        assert self.handler is not None
        self.handler.begin_anew()
        self.asked = set()

    @rule(frame=st.integers(0, FRAMES - 1))
    def unpin(self, frame: int) -> None:
        if self.handler is None:
            super().unpin(frame)
            return
        with pytest.raises(KernelError) as caught:
            self.nested.second.unpin(frame * PAGE, frame * PAGE)
        assert caught.value.errno == errno.EBUSY

    def fate(self, pasid: int, page: int, perm: FaultPerm) -> str:
        stage, known = self.reaches(pasid, page, perm), (pasid, page, perm) in self.asked
        self.asked.add((pasid, page, perm))
        self.counts["faults"] += 1
        if self.kind != "SMMUv3, stall":
            if not known:
                stage = 1  # so it is said
            self.counts["walks"] += known
        if stage == 2:
            self.counts["wrong"] += 1
            return "refused"
        self.counts["calls"] += 1
        return "to_guest" if stage == 1 else "gone"


class PinnedOfSmmu(FatesOfPinned):
    kind = "SMMUv3, PRI"


class PinnedOfStalls(FatesOfPinned):
    kind = "SMMUv3, stall"
    most_pages = 1


class FatesOfSmmu(Fates):
    kind = "SMMUv3, PRI"


class FatesOfStalls(Fates):
    kind = "SMMUv3, stall"
    known = (HARDWARE, DRIVER, HANDLER)
    most_pages = 1


for one in (Fates, FatesOfSmmu, FatesOfStalls, FatesOfPinned, PinnedOfSmmu, PinnedOfStalls):
    one.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

TestFates = Fates.TestCase
TestFatesOfSmmu = FatesOfSmmu.TestCase
TestFatesOfStalls = FatesOfStalls.TestCase
TestFatesOfPinned = FatesOfPinned.TestCase
TestPinnedOfSmmu = PinnedOfSmmu.TestCase
TestPinnedOfStalls = PinnedOfStalls.TestCase
