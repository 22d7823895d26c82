"""VT-d before revision 4 through the public names: private data, stream responses, and their drivers.

The bits are judged by ``c/vtd_revisions.c``. Here a model of each driver says what becomes of every request, in any
order; and private data make their way to a client whose message has a place for them.
"""

from __future__ import annotations

import errno
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.registered import before_the_merge, registered
from tests.test_pri import (
    PAGE,
    READ,
    DriverMachine,
    Group,
    ModelFunction,
    Site,
    Verdict,
    accounts,
    is_canonical,
    refused,
    rows,
)
from uring_iopf import Machine
from uring_iopf.abi import PageResponse
from uring_iopf.core import Core
from uring_iopf.designs.native_channel import NativeChannel
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.iommus.vtd import REVISIONS, VtdIommu, VtdPectl, VtdPrs, VtdRegister
from uring_iopf.hardware.limits import MODELS, REQUEST_QUEUES
from uring_iopf.hardware.load import Load
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PrgResponse, PriStatus
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context

if TYPE_CHECKING:
    from collections.abc import Iterator

SUCCESS, INVALID, FAILURE = PrgResponse.SUCCESS, PrgResponse.INVALID, PrgResponse.FAILURE
DATA = (0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210)
SHORT = (0x7F_FFFF, 0)
"""The most that revision 2 carries."""


class RevisionSite(Site):
    """Functions behind VT-d 3, or another revision."""

    revision = 3
    forgets = False

    def make_iommu(self) -> Iommu:
        return VtdIommu(self.core, revision=self.revision, forgets_private_data=self.forgets)


class OldSite(RevisionSite):
    revision = 2


class ForgetfulSite(RevisionSite):
    forgets = True


@pytest.fixture(params=[RevisionSite, OldSite], ids=["3", "2"])
def site(request: pytest.FixtureRequest) -> Iterator[RevisionSite]:
    one: RevisionSite = request.param()
    one.end.enable_pri()
    yield one
    one.close()


def data_of(site: RevisionSite) -> tuple[int, int]:
    return DATA if site.revision == 3 else SHORT


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"revision": 1}, "revision must be 2 to 4 of VT-d, not 1"),
        ({"revision": 5}, "revision must be 2 to 4 of VT-d, not 5"),
        ({"revision": 3, "needs_pasid": False}, "refuses requests without a PASID"),
        ({"forgets_private_data": True}, "needs revision=3, not 4"),
        ({"revision": 2, "forgets_private_data": True}, "needs revision=3, not 2"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with Core() as core, pytest.raises(UsageError, match=says):
        VtdIommu(core, **options)


def test_each_revision_is_a_model() -> None:
    assert set(REVISIONS.values()) <= set(MODELS)
    with Core() as core:
        for revision, name in REVISIONS.items():
            with closing(VtdIommu(core, revision=revision)) as iommu:
                assert iommu.model_name == name
                assert iommu.carries_private_data == (revision < 4)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"private_data": 5}, "a tuple of two words, not 5"),
        ({"private_data": (1, 2, 3)}, "a tuple of two words"),
        ({"private_data": (1 << 64, 0)}, "private_data"),
        ({"stream": True}, "give last=False"),
    ],
)
def test_a_request_that_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        PageRequest(**fields)


def test_a_request_is_refused_by_an_iommu_that_cannot_carry_it() -> None:
    for make, request, carried in [
        (Site, PageRequest(read=True, private_data=(0, 0)), False),
        (Site, PageRequest(read=True, last=False, stream=True), False),
        (RevisionSite, PageRequest(read=True, private_data=DATA), True),
        (RevisionSite, PageRequest(read=True, last=False, stream=True), False),
        (OldSite, PageRequest(read=True, private_data=SHORT), True),
        (OldSite, PageRequest(read=True, private_data=(1 << 23, 0)), False),
        (OldSite, PageRequest(read=True, private_data=(0, 1)), False),
        (OldSite, PageRequest(read=True, last=False, stream=True), True),
    ]:
        site = make()
        site.end.enable_pri()
        if carried:
            site.end.send(request)
        else:
            assert refused(site.end.send, request) == errno.EOPNOTSUPP
        site.close()
    site = Site()
    with pytest.raises(UsageError, match="private_data needs an IOMMU that carries it, such as VT-d 3, not 'vtd'"):
        Endpoint(site.iommu, requester_id=0x300, private_data=True)
    site.close()


def test_an_answer_brings_private_data_back(site: RevisionSite) -> None:
    site.end.send(PageRequest(PAGE, 7, read=True, pasid=5, private_data=data_of(site)))
    site.turn()
    assert site.answer() == 1
    assert site.end.take_answers() == [PrgAnswer(7, SUCCESS)]
    assert site.end.counts().unexpected == 0


def test_a_request_with_private_data_is_answered_even_if_it_is_not_the_last() -> None:
    site = RevisionSite()
    site.end.enable_pri()
    site.end.send(PageRequest(PAGE, 7, read=True, pasid=5, last=False))
    site.end.send(PageRequest(2 * PAGE, 7, read=True, pasid=5, last=False, private_data=DATA))
    site.turn()
    messages = site.queue.read_messages()
    assert [(one.addr, one.flags) for one in messages] == [(PAGE, 5), (2 * PAGE, 7)], "for Linux it is the last"
    site.queue.respond(messages[1].cookie, PageResponse.SUCCESS)
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(7, SUCCESS)]
    assert site.end.counts().outstanding == 0
    site.close()


def test_requests_of_a_stream_are_answered_one_by_one() -> None:
    site = OldSite()
    site.end.enable_pri()
    for index in range(3):
        site.end.send(PageRequest(PAGE * (index + 1), index, read=True, pasid=5, last=False, stream=True))
    site.turn()
    messages = site.queue.read_messages()
    assert [(one.addr, one.grpid, one.flags & 2) for one in messages] == [(PAGE * (n + 1), n, 2) for n in range(3)]
    for message, code in zip(reversed(messages), (SUCCESS, INVALID, SUCCESS), strict=True):
        site.queue.respond(message.cookie, code)
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(2, SUCCESS), PrgAnswer(1, INVALID), PrgAnswer(0, SUCCESS)]
    counts = site.end.counts()
    assert (counts.unexpected, counts.outstanding) == (0, 0)
    site.close()


@pytest.mark.parametrize("private", [True, False])
def test_a_load_of_stream_requests_gets_an_answer_to_each_page(private: bool) -> None:
    with Core() as core, closing(VtdIommu(core, revision=2)) as iommu, closing(AddressSpace()) as space:
        context = Context(core)
        end = Endpoint(iommu, streams=True, private_data=private, retries=1)
        device = context.bind(iommu, end.requester_id, 64)
        parent = context.hwpt_alloc_paging(device, context.ioas_alloc(), nest_parent=True)
        queue = context.fault_queue_alloc()
        device.attach(context.hwpt_alloc_nested(device, parent, fault=queue))
        iommu.bind(end, device)
        end.use_tables(space)
        end.enable_pri()
        end.set_rows(rows(300))
        end.start(Load(in_flight=7))
        ticket = end.access(2, PAGE, READ)
        while not end.is_served(1):
            core.produce()
            if word := iommu.read_command():
                assert word[0] & 0xF == 0xA, "a page stream response"
            for message in queue.read_messages():
                if message.pasid == 1:
                    space.map_page(message.pasid, message.addr, message.perm)
                queue.respond(message.cookie, PageResponse.SUCCESS)
        assert end.result(ticket) is AccessResult.UNMAPPED
        counts = end.counts()
        assert (counts.sent, counts.sent_groups, counts.succeeded) == (302, 302, 300)
        assert (counts.retried, counts.unmapped, counts.unexpected, counts.outstanding) == (1, 1, 0, 0)
        with pytest.raises(KernelError, match="1 at most"):
            end.access(2, PAGE, READ, pages=2)
        end.close()
        context.close()


@pytest.mark.parametrize(
    ("revision", "descriptor", "queue"),
    [(4, 32, 2048), (3, 32, 2048), (2, 16, 4096)],
)
def test_the_registers_are_there_by_their_offsets(revision: int, descriptor: int, queue: int) -> None:
    """PQH, PQT and PQA as bytes and pages; PRS: PPR 0, PRO 1; PECTL: IP 30, IM 31. Computed by hand."""
    one = type("AnySite", (RevisionSite,), {"revision": revision})()
    one.end.enable_pri()
    iommu, stranger = one.iommu, PageRequest(PAGE, read=True, pasid=3, requester_id=0x7777)

    def are(pqh: int, pqt: int, prs: int, pectl: int) -> None:
        assert [iommu.read_register(at) for at in (0xC0, 0xC8, 0xD0, 0xDC, 0xE0)] == [pqh, pqt, 4, prs, pectl]
        assert [iommu.read_register(at) for at in VtdRegister] == [pqh, pqt, 4, prs, pectl]

    assert descriptor * queue == 1 << 16, "2^4 pages of 4 KiB"
    are(0, 0, 0, 0)
    with iommu.interrupt_held():
        are(0, 0, 0, 0x8000_0000)
        for n in range(3):
            one.end.send(PageRequest(n * PAGE, read=True, pasid=1, last=False))
        are(0, 3 * descriptor, 0, 0x8000_0000)
        one.end.send(PageRequest(3 * PAGE, read=True, pasid=1))
        are(0, 4 * descriptor, 1, 0xC000_0000)
    one.turn()
    are(4 * descriptor, 4 * descriptor, 0, 0)
    with iommu.interrupt_held():
        for _ in range(queue - 1):
            one.end.send(stranger)
        are(4 * descriptor, 3 * descriptor, 1, 0xC000_0000)  # one place is free, and tail is behind head
        one.end.send(stranger)
        are(4 * descriptor, 3 * descriptor, 3, 0xC000_0000)
        one.core.produce()
        are(4 * descriptor, 3 * descriptor, VtdPrs.PPR | VtdPrs.PRO, VtdPectl.IM | VtdPectl.IP)
    one.turn()
    are(3 * descriptor, 3 * descriptor, 0, 0)
    for at in (0, 0xC4, 0xD8):
        with pytest.raises(KernelError) as caught:
            iommu.read_register(at)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(KernelError) as caught:
        iommu.write_register(VtdRegister.PRS, 3)
    assert caught.value.errno == errno.EOPNOTSUPP
    one.close()


def test_only_revision_2_has_streams() -> None:
    with Core() as core:
        for name in MODELS:
            with closing(Iommu(core, name)) as iommu:
                if name == "vtd-2":
                    Endpoint(iommu, streams=True).close()
                    continue
                with pytest.raises(UsageError, match=f"streams need an IOMMU that has them, .* not '{name}'"):
                    Endpoint(iommu, streams=True)


def test_a_driver_that_forgets_private_data_leaves_the_function_waiting_until_a_reset() -> None:
    """What Linux's driver since 6.10 does to hardware of revision 3, of which none was sold."""
    site = ForgetfulSite()
    site.end.enable_pri()
    site.end.send(PageRequest(PAGE, 7, read=True, pasid=5, private_data=DATA))
    site.turn()
    assert site.answer() == 1
    counts = site.end.counts()
    assert (counts.unexpected, counts.outstanding) == (1, 1)
    assert counts.pri_status == PriStatus.UPRGI
    site.end.reset()
    assert site.end.counts().outstanding == 0
    (account,) = accounts(site)
    assert (account.sent, account.answered, account.lost) == (1, 1, 0)
    site.close()


@pytest.mark.parametrize("last", [False, True])
def test_a_refusal_brings_back_the_private_data_of_what_it_refuses(site: RevisionSite, last: bool) -> None:
    """Of a request in the middle of a group, too: the function takes no answer without them for its own."""
    site.devices[0].detach()
    site.end.send(PageRequest(PAGE, 2, write=True, last=last, pasid=3, private_data=data_of(site)))
    site.end.send(PageRequest(PAGE, 7, read=True, pasid=3))  # its group's last, which raises the interrupt
    site.turn()
    assert site.end.take_answers() == [PrgAnswer(2, PrgResponse.INVALID), PrgAnswer(7, PrgResponse.INVALID)]
    counts = site.end.counts()
    assert (counts.outstanding, counts.unexpected, counts.invalid) == (0, 0, 2)


@pytest.mark.parametrize("design", registered(where=before_the_merge))
@pytest.mark.parametrize(("iommu", "most"), [("vtd-3", 128), ("vtd-2", 23)])
def test_the_messages_before_2024_have_a_place_for_private_data(iommu: str, most: int, design: str) -> None:
    with Machine(None, driver="inline", iommu=iommu, group=4) as machine:
        channel = machine.open(design)
        assert isinstance(channel, NativeChannel)
        tickets = [machine.endpoint.access(1, n * PAGE, READ, pages=n) for n in (1, 2, 3)]
        machine.core.produce()
        cookies = list(dict.fromkeys(message.cookie for message in channel.receive()))
        assert len(cookies) == 3
        found = [channel.private_data(cookie) for cookie in cookies]
        assert None not in found
        assert len(set(found)) == 3
        assert all(0 < (words[1] << 64 | words[0]) < 1 << most for words in found if words is not None)
        for cookie in cookies:
            channel.answer(cookie, PageResponse.INVALID)
        channel.flush()
        machine.core.produce()
        assert [machine.endpoint.result(ticket) for ticket in tickets] == [AccessResult.INVALID] * 3
        assert refused(channel.private_data, cookies[0]) == errno.EINVAL, "it has been answered"
        assert machine.endpoint.counts().unexpected == 0


def test_other_messages_have_no_place_for_private_data_and_the_driver_keeps_them_all_the_same() -> None:
    for design in registered(has_client=True, where=lambda info: not before_the_merge(info)):
        with Machine(None, driver="inline", iommu="vtd-3") as machine:
            channel = machine.open(design)
            assert isinstance(channel, NativeChannel)
            assert channel.receive() == []  # a design on a ring posts its receives
            machine.core.consume()
            ticket = machine.endpoint.access(1, PAGE, READ)
            machine.core.produce()
            machine.core.consume()
            (message,) = channel.receive()
            assert message.flags == 7, "PRIV_DATA was 4, which means something else now"
            assert refused(channel.private_data, message.cookie) == errno.EOPNOTSUPP
            channel.answer(message.cookie, PageResponse.INVALID)
            channel.flush()
            machine.core.consume()
            machine.core.produce()
            assert machine.endpoint.result(ticket) is AccessResult.INVALID
            assert machine.endpoint.counts().unexpected == 0


def test_behind_another_iommu_a_message_has_no_private_data() -> None:
    with Machine(None, driver="inline", iommu="vtd") as machine:
        channel = machine.open("eventfd")
        assert isinstance(channel, NativeChannel)
        machine.endpoint.access(1, PAGE, READ)
        machine.core.produce()
        (message,) = channel.receive()
        assert channel.private_data(message.cookie) is None


# ---- the drivers, in any order ----


class RevisionMachine(DriverMachine):
    """Requests of any fields, some with private data, through the driver of revision 3."""

    kernel = "6.12"  # which also refuses requests without a PASID
    site: RevisionSite
    words = DATA
    places = REQUEST_QUEUES["vtd-3"]

    def make_site(self) -> RevisionSite:
        return RevisionSite(self.kernel, functions=2)

    @staticmethod
    def is_marker(request: PageRequest) -> bool:
        return request.message & 7 == 4 and request.flags & ~8 == 1

    def owes_an_answer(self, request: PageRequest) -> bool:
        return request.last or request.private_data is not None

    def arrive(self, function: ModelFunction | None, request: PageRequest) -> None:
        super().arrive(function, request)
        self.raised |= self.owes_an_answer(request)

    def verdict(self, function: ModelFunction, request: PageRequest) -> Verdict | int:
        verdict = super().verdict(function, request)
        bad = verdict is Verdict.PASSED_OVER and not (request.last and not (request.read or request.write))
        return INVALID if bad and self.owes_an_answer(request) else verdict

    def take(self, function: ModelFunction, request: PageRequest) -> None:
        super().take(function, request)
        pages = function.partial.get(request.prg_index)
        if self.verdict(function, request) is Verdict.REPORTED and function.attached and not request.last:
            assert pages is not None
            if self.owes_an_answer(request):  # to the generic layer it was the last
                del function.partial[request.prg_index]
                function.waiting.append(Group(request.prg_index, pages, request))

    @rule(
        n=st.integers(0, 1),
        address=st.sampled_from([0x1000, 0x7FFF_FFFF_F000, 1 << 47]),
        index=st.integers(0, 4),
        bits=st.sampled_from([(True, False, True), (True, False, False), (False, False, True), (False, True, False)]),
        pasid=st.none() | st.integers(1, 3),
        to=st.sampled_from([None] * 4 + [0x100, 0x101, 0x7777]),
    )
    def send_private(
        self, n: int, address: int, index: int, bits: tuple[bool, bool, bool], pasid: int | None, to: int | None
    ) -> None:
        self.send_one(n, PageRequest(address, index, *bits, pasid, requester_id=to, private_data=self.words))


class OldMachine(RevisionMachine):
    """The same of revision 2, with streams; only a group's last request and those of streams are answered."""

    site: OldSite
    words = SHORT
    places = REQUEST_QUEUES["vtd-2"]

    def make_site(self) -> OldSite:
        return OldSite(self.kernel, functions=2)

    def owes_an_answer(self, request: PageRequest) -> bool:
        return request.last or request.stream

    def verdict(self, function: ModelFunction, request: PageRequest) -> Verdict | int:
        if self.is_marker(request):
            return Verdict.A_MARKER
        good = request.pasid is not None and is_canonical(request.address)
        if good and function.bound:
            return Verdict.REPORTED
        if not self.owes_an_answer(request):
            return Verdict.PASSED_OVER
        return FAILURE if request.pasid is None else INVALID

    @rule(
        n=st.integers(0, 1),
        address=st.sampled_from([0x1000, 0x7FFF_FFFF_F000, 1 << 47]),
        index=st.integers(0, 4),
        pasid=st.none() | st.integers(1, 3),
        to=st.sampled_from([None] * 4 + [0x100, 0x101, 0x7777]),
    )
    def send_of_a_stream(self, n: int, address: int, index: int, pasid: int | None, to: int | None) -> None:
        request = PageRequest(address, index, True, False, False, pasid, requester_id=to, stream=True)
        self.send_one(n, request)


SOME = settings(settings(), stateful_step_count=40)
TestRevision3 = RevisionMachine.TestCase
TestRevision3.settings = SOME
TestRevision2 = OldMachine.TestCase
TestRevision2.settings = SOME
