"""I/O address spaces: what may be mapped where, what is chosen, and what a table or a reservation forbids."""

import errno
from collections.abc import Callable, Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from uring_iopf.abi.iommufd import HwptAllocFlags
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd import IOAS, Context, Geometry, Mapping
from uring_iopf.iommufd.geometry import PAGE_SIZE
from uring_iopf.iommufd.spaces.ioas import HUGE_PAGE_SIZE, ULONG_MAX

GIB = 1 << 30
VA = 0x7F00_0000_0000
"""A user address that is aligned to more than anything asked for."""
MOCK_FIRST, MOCK_LAST = 1 << 24, (1 << 31) - 1
"""What the selftest's IOMMU translates."""


@pytest.fixture
def context() -> Iterator[Context]:
    with Context() as made:
        yield made


@pytest.fixture
def ioas(context: Context) -> IOAS:
    return context.ioas_alloc()


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


def spans(ioas: IOAS) -> list[tuple[int, int]]:
    return [(one.iova, one.length) for one in ioas.mappings()]


# ---- fixed mappings ----


def test_a_mapping_says_where_it_points_to_and_who_may_what(ioas: IOAS) -> None:
    assert ioas.map(0x2000, user_va=VA, iova=0x10000, writeable=False) == 0x10000
    (one,) = ioas.mappings()
    assert one == Mapping(0x10000, 0x2000, VA, None, True, False, False)
    assert one.last == 0x11FFF


def test_an_address_is_found_in_its_mapping_and_nowhere_else(ioas: IOAS) -> None:
    for number in range(1, 100, 2):
        ioas.map(PAGE_SIZE, user_va=VA, iova=number * PAGE_SIZE)
    for number in range(100):
        for offset in (0, 1, PAGE_SIZE - 1):
            found = ioas.find(number * PAGE_SIZE + offset)
            assert (found.iova if found else None) == (number * PAGE_SIZE if number % 2 else None)
    assert ioas.find(ULONG_MAX) is None


def test_without_a_table_any_byte_can_be_mapped(ioas: IOAS) -> None:
    assert ioas.iova_alignment == 1
    assert ioas.map(1, user_va=VA + 3, iova=5) == 5
    assert ioas.map(3, user_va=VA + 7, iova=6) == 6
    assert spans(ioas) == [(5, 1), (6, 3)]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda s: s.map(0, user_va=VA, iova=0x9000), errno.EINVAL),
        (lambda s: s.map(0, user_va=VA), errno.EINVAL),
        (lambda s: s.map(1, user_va=VA, iova=1, readable=False, writeable=False), errno.EINVAL),
        (lambda s: s.map(ULONG_MAX, user_va=VA, iova=1, readable=False, writeable=False), errno.EOVERFLOW),
        (lambda s: s.map(1, user_va=VA, iova=ULONG_MAX), errno.EOVERFLOW),
        (lambda s: s.map(ULONG_MAX - 1, user_va=0, iova=0), errno.EINVAL),  # no room to round up
        (lambda s: s.map(2, user_va=ULONG_MAX - 1, iova=0), errno.EOVERFLOW),
        (lambda s: s.map(0, user_va=ULONG_MAX, iova=0), errno.EINVAL),
        (lambda s: s.map(3, user_va=VA, iova=ULONG_MAX - 1), errno.EOVERFLOW),
        (lambda s: s.map(1 << 63, user_va=VA), errno.EOVERFLOW),
        (lambda s: s.map(0x1000, user_va=VA, iova=0x1000), errno.EEXIST),
        (lambda s: s.map(0x1800, user_va=VA, iova=0x0), errno.EEXIST),
        (lambda s: s.map(1, user_va=VA, iova=0x4FFF), errno.EINVAL),  # reserved
        (lambda s: s.map(0x10000, user_va=VA, iova=0x1FFF), errno.EINVAL),  # reserved and mapped: reserved is first
        (lambda s: s.map_file(0, fd=-1, start=ULONG_MAX), errno.EINVAL),
        (lambda s: s.map_file(2, fd=-1, start=ULONG_MAX), errno.EOVERFLOW),
        (lambda s: s.map_file(2, fd=-1, start=0), errno.EBADF),
        (lambda s: s.map_file(2, fd=3, start=0, readable=False, writeable=False), errno.EINVAL),
        (lambda s: s.unmap(0x1000, 0), errno.EINVAL),
        (lambda s: s.unmap(2, ULONG_MAX), errno.EOVERFLOW),
        (lambda s: s.unmap(ULONG_MAX, 1), errno.EOVERFLOW),
        (lambda s: s.unmap(ULONG_MAX - 1, 3), errno.EOVERFLOW),
        (lambda s: s.unmap(0x8000, 0x1000), errno.ENOENT),
        (lambda s: s.unmap(0x1000, 0xFFF), errno.ENOENT),
        (lambda s: s.unmap(0x1001, 0x1000), errno.ENOENT),
        (lambda s: s.copy(s, 0x1000, 0), errno.EINVAL),
        (lambda s: s.copy(s, ULONG_MAX - 1, 3), errno.EOVERFLOW),
        (lambda s: s.copy(s, 0x1000, 0x1001), errno.ENOENT),
        (lambda s: s.copy(s, 0xFFF, 2), errno.ENOENT),
        (lambda s: s.copy(s, 0x1000, 0x10, iova=0x1FF8), errno.EEXIST),
        (lambda s: s.copy(s, 0x1000, 0x1000, readable=False, writeable=False), errno.EINVAL),
        (lambda s: s.allow_iovas([(5, 5)]), errno.EINVAL),
        (lambda s: s.allow_iovas([(0x10000, 0x20000), (0x20000, 0x30000)]), errno.EINVAL),
        (lambda s: s.allow_iovas([(0x3FFF, 0x4000)]), errno.EADDRINUSE),
        (lambda s: s.reserve("other", 0x1FFF, 0x1FFF), errno.EADDRINUSE),
    ],
)
def test_a_refused_call_changes_nothing(ioas: IOAS, call: Callable[[IOAS], object], expected: int) -> None:
    ioas.map(0x1000, user_va=VA, iova=0x1000)
    ioas.reserve("owner", 0x4000, 0x4FFF)
    before = (list(ioas.mappings()), ioas.iova_ranges())
    assert refused(lambda: call(ioas)) == expected
    assert (list(ioas.mappings()), ioas.iova_ranges()) == before


def test_what_does_not_fit_into_64_bits_is_our_callers_mistake(ioas: IOAS) -> None:
    for call in (
        lambda: ioas.map(1, user_va=-1),
        lambda: ioas.map(1, user_va=0, iova=2**64),
        lambda: ioas.unmap(-1, 1),
        lambda: ioas.allow_iovas([(0, 2**64)]),
        lambda: ioas.reserve(None, 2, 1),
    ):
        with pytest.raises(UsageError):
            call()


def test_a_destroyed_space_has_no_calls(context: Context, ioas: IOAS) -> None:
    other = context.ioas_alloc()
    other.map(1, user_va=VA, iova=1)
    ioas.map(1, user_va=VA, iova=1)
    context.destroy(ioas)  # mappings do not keep it
    assert list(ioas.mappings()) == []
    for call in (
        lambda: ioas.map(1, user_va=VA),
        lambda: ioas.map_file(1, fd=0, start=0),
        lambda: ioas.copy(other, 1, 1),
        lambda: other.copy(ioas, 1, 1),
        lambda: ioas.unmap(1, 1),
        ioas.unmap_all,
        ioas.iova_ranges,
        lambda: ioas.allow_iovas([]),
    ):
        assert refused(call) == errno.ENOENT


# ---- unmap ----


def test_unmap_counts_the_bytes_that_were_mapped(ioas: IOAS) -> None:
    ioas.map(0x1000, user_va=VA, iova=0x1000)
    ioas.map(0x2000, user_va=VA, iova=0x4000)
    ioas.map(0x1000, user_va=VA, iova=0x9000)
    assert ioas.unmap(0, 0x7000) == 0x3000
    assert spans(ioas) == [(0x9000, 0x1000)]
    assert ioas.unmap(0, ULONG_MAX) == 0x1000
    assert ioas.unmap_all() == 0
    assert refused(lambda: ioas.unmap(0, ULONG_MAX - 1)) == errno.ENOENT


def test_unmap_stops_at_the_first_mapping_it_would_cut(ioas: IOAS) -> None:
    ioas.map(0x1000, user_va=VA, iova=0x1000)
    ioas.map(0x2000, user_va=VA, iova=0x4000)
    assert refused(lambda: ioas.unmap(0x1000, 0x4000)) == errno.ENOENT
    assert spans(ioas) == [(0x4000, 0x2000)]


# ---- copy ----


def test_a_copy_points_to_the_same_memory(context: Context, ioas: IOAS) -> None:
    ioas.map(0x3000, user_va=VA, iova=0x1000)
    ioas.map_file(0x3000, fd=7, start=0x5000, iova=0x4000)
    other = context.ioas_alloc()
    assert other.copy(ioas, 0x2000, 0x4000, iova=0x100000, writeable=False) == 0x100000
    assert list(other.mappings()) == [
        Mapping(0x100000, 0x2000, VA + 0x1000, None, True, False, True),
        Mapping(0x102000, 0x2000, 0x5000, 7, True, False, True),
    ]
    assert ioas.unmap_all() == 0x6000
    assert spans(other) == [(0x100000, 0x2000), (0x102000, 0x2000)]


def test_a_copy_may_be_writeable_only_where_the_first_mapping_was(context: Context, ioas: IOAS) -> None:
    ioas.map(0x1000, user_va=VA, iova=0x1000)
    ioas.map(0x1000, user_va=VA, iova=0x2000, writeable=False)
    other = context.ioas_alloc()
    assert refused(lambda: other.copy(ioas, 0x1000, 0x2000, iova=0)) == errno.EPERM
    assert spans(other) == []
    other.copy(ioas, 0x1000, 0x1000, iova=0x1000, writeable=False)
    third = context.ioas_alloc()
    third.copy(other, 0x1000, 0x1000, iova=0)
    assert refused(lambda: third.copy(ioas, 0x2000, 0x1000, iova=0x2000)) == errno.EPERM


# ---- choosing an address ----


def test_the_lowest_page_is_never_chosen(ioas: IOAS) -> None:
    assert ioas.map(PAGE_SIZE, user_va=VA) == PAGE_SIZE
    assert ioas.map(PAGE_SIZE, user_va=VA) == 2 * PAGE_SIZE
    assert ioas.map(PAGE_SIZE, user_va=VA, iova=0) == 0


@pytest.mark.parametrize(
    ("user_va", "length", "expected"),
    [
        (0, 3 * PAGE_SIZE, 4 * PAGE_SIZE),  # without an address, as the length
        (VA, 3 * PAGE_SIZE, 4 * PAGE_SIZE),
        (VA + PAGE_SIZE, 3 * PAGE_SIZE, PAGE_SIZE),  # no more than the address is
        (VA, GIB, HUGE_PAGE_SIZE),  # and no more than a huge page
        (VA + 0x123, 1, 0x1123),  # the place in the page stays
        (VA + 0x800, 0x1000, 0x1800),
    ],
)
def test_a_chosen_address_is_aligned_as_the_memory_is(ioas: IOAS, user_va: int, length: int, expected: int) -> None:
    assert ioas.map(length, user_va=user_va) == expected


def test_holes_are_used_from_below(ioas: IOAS) -> None:
    ioas.reserve("device", 0x1000, 0x2FFF)
    ioas.map(0x1000, user_va=VA, iova=0x4000)
    assert ioas.map(0x2000, user_va=VA + 0x1000) == 0x5000
    assert ioas.map(0x1000, user_va=VA + 0x1000) == 0x3000
    assert ioas.map_file(0x1000, fd=1, start=0x1000) == 0x7000


def test_the_place_in_the_page_is_lost_behind_a_mapping_that_ends_beside_it(ioas: IOAS) -> None:
    """As Linux: the offset is or-ed into an address that is aligned to one byte here."""
    assert ioas.map(1, user_va=VA + 0x123) == 0x1123
    assert ioas.map(1, user_va=VA + 0x123) == 0x1124 | 0x123


def test_allowed_ranges_are_where_addresses_are_chosen(ioas: IOAS) -> None:
    ioas.allow_iovas([(0x20000, 0x21FFF), (0x10000, 0x10FFF), (0x22000, 0x22FFF)])
    assert ioas.map(0x1000, user_va=VA) == 0x10000
    assert ioas.map(0x3000, user_va=VA + 0x1000) == 0x20000, "ranges that touch are one"
    assert refused(lambda: ioas.map(0x1000, user_va=VA)) == errno.ENOSPC
    assert ioas.map(0x1000, user_va=VA, iova=0x5000) == 0x5000, "asked for by number"
    ioas.allow_iovas([])
    assert ioas.map(0x1000, user_va=VA) == 0x1000


def test_allowed_ranges_cannot_become_reserved(ioas: IOAS) -> None:
    ioas.allow_iovas([(0x10000, 0x1FFFF)])
    assert refused(lambda: ioas.reserve("device", 0x1F000, 0x20000)) == errno.EADDRINUSE
    ioas.reserve("device", 0x20000, 0x20FFF)
    assert refused(lambda: ioas.allow_iovas([(0x30000, 0x3FFFF), (0x1000, 0x20000)])) == errno.EADDRINUSE
    assert refused(lambda: ioas.reserve("device", 0x1F000, 0x20000)) == errno.EADDRINUSE, "they are as they were"


def test_the_highest_page_is_never_chosen(ioas: IOAS) -> None:
    ioas.allow_iovas([(ULONG_MAX - 2 * PAGE_SIZE, ULONG_MAX)])
    assert refused(lambda: ioas.map(2 * PAGE_SIZE, user_va=VA)) == errno.ENOSPC
    assert ioas.map(PAGE_SIZE, user_va=VA) == 2**64 - 2 * PAGE_SIZE


# ---- reservations ----


def test_reserved_ranges_are_those_of_all_owners(ioas: IOAS) -> None:
    assert ioas.iova_ranges() == [(0, ULONG_MAX)]
    ioas.reserve("one", 0x1000, 0x2FFF)
    ioas.reserve("other", 0x2000, 0x3FFF)
    ioas.reserve("one", ULONG_MAX, ULONG_MAX)
    assert ioas.iova_ranges() == [(0, 0xFFF), (0x4000, ULONG_MAX - 1)]
    ioas.unreserve("one")
    assert ioas.iova_ranges() == [(0, 0x1FFF), (0x4000, ULONG_MAX)]
    ioas.unreserve("nobody")
    ioas.reserve("all", 0, ULONG_MAX)
    assert ioas.iova_ranges() == []
    assert refused(lambda: ioas.map(1, user_va=VA)) == errno.ENOSPC


# ---- tables ----


def test_a_table_narrows_its_space(context: Context, ioas: IOAS) -> None:
    device = context.mock_device(context.ioas_alloc())
    hwpt = context.hwpt_alloc_paging(device, ioas)
    assert (ioas.iova_alignment, ioas.iova_ranges()) == (2048, [(MOCK_FIRST, MOCK_LAST)])
    assert ioas.map(2048, user_va=VA) == MOCK_FIRST
    for call in (
        lambda: ioas.map(2047, user_va=VA, iova=MOCK_FIRST + 4096),
        lambda: ioas.map(2048, user_va=VA, iova=MOCK_FIRST + 4095),
        lambda: ioas.map(2048, user_va=VA + 1, iova=MOCK_FIRST + 4096),
        lambda: ioas.map(2048, user_va=VA + 1),
        lambda: ioas.map(2048, user_va=VA, iova=MOCK_LAST + 1),
    ):
        assert refused(call) == errno.EINVAL
    context.destroy(hwpt)
    assert (ioas.iova_alignment, ioas.iova_ranges()) == (1, [(0, ULONG_MAX)])


def test_tables_together_need_what_each_needs(context: Context, ioas: IOAS) -> None:
    mock = context.mock_device(context.ioas_alloc())
    vtd = context.bind(context.mock.c, 1, 1)
    hwpts = [context.hwpt_alloc_paging(one, ioas) for one in (mock, vtd)]
    assert (ioas.iova_alignment, ioas.iova_ranges()) == (4096, [(MOCK_FIRST, MOCK_LAST)])
    context.destroy(hwpts[0])
    assert (ioas.iova_alignment, ioas.iova_ranges()) == (4096, [(0, 2**48 - 1)])
    vtd.unbind()


@pytest.mark.parametrize(
    ("length", "user_va", "iova"),
    [(2047, VA, MOCK_FIRST), (2048, VA + 1, MOCK_FIRST), (2048, VA, MOCK_FIRST + 1), (2048, VA, 0)],
    ids=["length", "offset", "address", "reach"],
)
def test_a_table_is_refused_over_mappings_it_cannot_have(
    context: Context, ioas: IOAS, length: int, user_va: int, iova: int
) -> None:
    device = context.mock_device(context.ioas_alloc())
    queue_users = [one.users for one in context]
    ioas.map(length, user_va=user_va, iova=iova)
    assert refused(lambda: context.hwpt_alloc(device, ioas)) == errno.EADDRINUSE
    assert (ioas.iova_alignment, ioas.iova_ranges()) == (1, [(0, ULONG_MAX)])
    assert [one.users for one in context] == queue_users
    ioas.unmap_all()
    context.hwpt_alloc(device, ioas)


def test_a_refused_table_lets_go_of_its_queue() -> None:
    with Context(kernel="7.2") as context:
        ioas, queue = context.ioas_alloc(), context.fault_queue_alloc()
        device = context.mock_device(context.ioas_alloc())
        ioas.map(1, user_va=VA, iova=1)
        flags = HwptAllocFlags.FAULT_ID_VALID
        assert refused(lambda: context.hwpt_alloc(device, ioas, flags, fault=queue)) == errno.EADDRINUSE
        assert (queue.users, ioas.users) == (1, 0)
        context.destroy(ioas)


def test_a_table_is_refused_where_its_reach_is_less_than_what_is_allowed(context: Context, ioas: IOAS) -> None:
    ioas.allow_iovas([(0, 0xFFFF)])
    device = context.mock_device(context.ioas_alloc())
    assert refused(lambda: context.hwpt_alloc(device, ioas)) == errno.EADDRINUSE
    assert ioas.iova_ranges() == [(0, ULONG_MAX)]


def test_pages_larger_than_the_kernels_cannot_be(ioas: IOAS) -> None:
    assert refused(lambda: ioas.add_domain("table", Geometry(8192, 0, ULONG_MAX))) == errno.EINVAL


def test_a_space_with_a_table_cannot_be_destroyed(context: Context, ioas: IOAS) -> None:
    device = context.mock_device(ioas)
    assert refused(lambda: context.destroy(ioas)) == errno.EBUSY
    context.destroy(device.stdev)
    context.destroy(ioas)


# ---- large pages ----


def test_without_large_pages_everything_is_aligned_to_pages(ioas: IOAS) -> None:
    assert ioas.large_pages
    ioas.set_large_pages(False)
    assert (ioas.large_pages, ioas.iova_alignment) == (False, PAGE_SIZE)
    assert refused(lambda: ioas.map(2048, user_va=VA)) == errno.EINVAL
    ioas.set_large_pages(False)
    ioas.set_large_pages(True)
    assert (ioas.large_pages, ioas.iova_alignment) == (True, 1)


def test_large_pages_cannot_be_taken_from_what_needs_them(context: Context, ioas: IOAS) -> None:
    ioas.map(1, user_va=VA, iova=1)
    assert refused(lambda: ioas.set_large_pages(False)) == errno.EADDRINUSE
    ioas.unmap_all()
    hwpt = context.hwpt_alloc(context.mock_device(context.ioas_alloc()), ioas)
    ioas.map(PAGE_SIZE, user_va=VA)
    assert refused(lambda: ioas.set_large_pages(False)) == errno.EINVAL
    assert (ioas.large_pages, ioas.iova_alignment) == (True, 2048)
    context.destroy(hwpt)
    ioas.set_large_pages(False)
    assert refused(lambda: ioas.map(2048, user_va=VA)) == errno.EINVAL


# ---- a model ----

PAGES = 40


class PagesOneByOne(RuleBasedStateMachine):
    """A space of forty pages beside a model that looks at each page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.context = Context()
        self.ioas = self.context.ioas_alloc()
        self.mapped: dict[int, tuple[int, int]] = {}  # page: (start of its mapping, number of its pages)
        self.reserved: dict[int, set[str]] = {}
        self.allowed: list[tuple[int, int]] = []  # pages, first and last

    def teardown(self) -> None:
        self.context.close()

    @initialize()
    def narrow(self) -> None:
        self.ioas.reserve("above", PAGES * PAGE_SIZE, ULONG_MAX)

    def outcome(self, call: Callable[[], object]) -> object:
        try:
            return call()
        except KernelError as error:
            return errno.errorcode[error.errno or 0]

    def note(self, start: int, count: int) -> None:
        self.mapped |= dict.fromkeys(range(start, start + count), (start, count))

    def free(self, start: int, count: int) -> bool:
        pages = range(start, start + count)
        return start + count <= PAGES and not any(self.mapped.get(page) or self.reserved.get(page) for page in pages)

    @rule(start=st.integers(0, PAGES), count=st.integers(1, 9))
    def map_fixed(self, start: int, count: int) -> None:
        seen = self.outcome(lambda: self.ioas.map(count * PAGE_SIZE, user_va=VA, iova=start * PAGE_SIZE))
        pages = range(start, start + count)
        if start + count > PAGES or any(self.reserved.get(page) for page in pages):
            assert seen == "EINVAL"
        elif any(page in self.mapped for page in pages):
            assert seen == "EEXIST"
        else:
            assert seen == start * PAGE_SIZE
            self.note(start, count)

    @rule(count=st.integers(1, 9), va_page=st.integers(0, 8))
    def map_anywhere(self, count: int, va_page: int) -> None:
        seen = self.outcome(lambda: self.ioas.map(count * PAGE_SIZE, user_va=VA + va_page * PAGE_SIZE))
        step = next(power for power in (1, 2, 4, 8, 16) if power >= count)
        while va_page % step:
            step //= 2
        may = {page for first, last in self.allowed for page in range(first, last + 1)} or set(range(PAGES))
        for start in range(0, PAGES, step):
            if start and self.free(start, count) and may.issuperset(range(start, start + count)):
                assert seen == start * PAGE_SIZE
                self.note(start, count)
                return
        assert seen == "ENOSPC"

    @rule(start=st.integers(0, PAGES - 1), count=st.integers(1, PAGES))
    def unmap(self, start: int, count: int) -> None:
        seen = self.outcome(lambda: self.ioas.unmap(start * PAGE_SIZE, count * PAGE_SIZE))
        done, cut = 0, False
        for page in range(start, min(start + count, PAGES)):
            if page in self.mapped:
                first, size = self.mapped[page]
                cut = first < start or first + size > start + count
                if cut:
                    break
                del self.mapped[page]
                done += 1
        assert seen == ("ENOENT" if cut or not done else done * PAGE_SIZE)

    @rule(start=st.integers(0, PAGES - 1), count=st.integers(1, 5), owner=st.sampled_from("ab"))
    def reserve(self, start: int, count: int, owner: str) -> None:
        count = min(count, PAGES - start)
        pages = range(start, start + count)
        seen = self.outcome(lambda: self.ioas.reserve(owner, start * PAGE_SIZE, (start + count) * PAGE_SIZE - 1))
        allowed = any(first <= page <= last for first, last in self.allowed for page in pages)
        if allowed or any(page in self.mapped for page in pages):
            assert seen == "EADDRINUSE"
        else:
            assert seen is None
            for page in pages:
                self.reserved.setdefault(page, set()).add(owner)

    @rule(owner=st.sampled_from("ab"))
    def unreserve(self, owner: str) -> None:
        self.ioas.unreserve(owner)
        self.reserved = {page: owners - {owner} for page, owners in self.reserved.items() if owners != {owner}}

    @rule(ranges=st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, 9)), max_size=3))
    def allow(self, ranges: list[tuple[int, int]]) -> None:
        wanted = [(first, min(first + count, PAGES) - 1) for first, count in ranges]
        pages = [page for first, last in wanted for page in range(first, last + 1)]
        seen = self.outcome(
            lambda: self.ioas.allow_iovas((first * PAGE_SIZE, (last + 1) * PAGE_SIZE - 1) for first, last in wanted)
        )
        if len(set(pages)) < len(pages):
            assert seen == "EINVAL"
        elif any(self.reserved.get(page) for page in pages):
            assert seen == "EADDRINUSE"
        else:
            assert seen is None
            self.allowed = wanted

    @invariant()
    def the_same_is_mapped(self) -> None:
        assert spans(self.ioas) == sorted(
            {(first * PAGE_SIZE, size * PAGE_SIZE) for first, size in self.mapped.values()}
        )

    @invariant()
    def the_same_is_reserved(self) -> None:
        open_pages = {
            page for first, last in self.ioas.iova_ranges() for page in range(first // PAGE_SIZE, last // PAGE_SIZE + 1)
        }
        assert open_pages == {page for page in range(PAGES) if not self.reserved.get(page)}


TestPagesOneByOne = PagesOneByOne.TestCase
