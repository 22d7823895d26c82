"""The example of a VMM with a guest: its formats are the real models' to the bit, and nothing is lost on the way."""

from __future__ import annotations

import importlib.util
import itertools
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from uring_iopf import FunctionParts, Machine
from uring_iopf.abi import FaultPerm, PageResponse
from uring_iopf.errors import UsageError
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.limits import DEVICES, IOMMUS, PAGE_FORMATS, STALLING
from uring_iopf.hardware.pri import PageRequest, PriStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

EXAMPLE: Final = Path(__file__).resolve().parent.parent / "docs" / "examples" / "guest.py"
PAGE: Final = 4096
GUESTS: Final = [name for name in IOMMUS if name not in DEVICES]
"""A device that reports its faults itself has its driver in the guest."""
READ, WRITE, EXEC = FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC


@pytest.fixture(scope="module")
def guest() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("guest", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["guest"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["guest"]


def test_there_is_a_format_for_each_iommu(guest: ModuleType) -> None:
    assert set(guest.FORMATS) == set(GUESTS)


@pytest.mark.parametrize("code", [PageResponse.SUCCESS, PageResponse.INVALID])
@pytest.mark.parametrize("perm", [READ, WRITE, READ | WRITE, EXEC])
@pytest.mark.parametrize("iommu", GUESTS)
def test_the_guests_records_and_commands_are_the_hosts_to_the_bit(
    guest: ModuleType, iommu: str, perm: FaultPerm, code: PageResponse
) -> None:
    """With the host's requester id, and its private data in place of the VMM's number."""
    fmt = guest.FORMATS[iommu]
    with Machine(None, driver="inline", iommu=iommu) as machine:
        channel = machine.open("fd")
        for number, pasid in enumerate((1, 63)):
            with machine.iommu.interrupt_held():
                machine.endpoint.access(pasid, 0x7FFF_DEAD_B000, perm)
                machine.core.produce()
                real = machine.iommu.read_record(1 if iommu in STALLING else 0)
            machine.core.produce()
            (message,) = channel.receive()
            rid = machine.endpoint.requester_id
            handle = message.grpid
            if iommu == "vtd-3":
                handle = real[2]
            elif iommu == "vtd-2":
                handle = real[0] >> 32 & 0x7FFFFF
            record = fmt.record(rid, message, handle)
            second = real[3] if iommu == "vtd-3" else 0  # the VMM's number needs one word
            assert record == (*real[:3], real[3] - second) if iommu == "vtd-3" else record == real
            fault = fmt.fault(record)
            assert (fault.rid, fault.pasid, fault.address, fault.last) == (rid, pasid, message.addr, True)
            assert (fault.index, fault.perm) == (number, message.perm)
            channel.answer(message.cookie, code)
            channel.flush()
            command = machine.iommu.read_command()
            ours = fmt.command(fault, code)
            assert (*ours[:3], second) == command if iommu == "vtd-3" else ours == command
            assert fmt.answer(ours) == (rid, handle, code == PageResponse.SUCCESS)
            machine.core.produce()
        assert machine.endpoint.counts().outstanding == 0


WITHOUT_PASID: Final = ("vtd", "smmuv3", "riscv")
"""Those whose driver reports a request without a PASID; the others answer it themselves (6.12's VT-d, too)."""
VENDORS_PRIVATE: Final = {"vtd-3": (1 << 9, 0, ~0, ~0), "vtd-2": (0x7FFFFF << 32, 0)}
"""The bits of a record that are the VMM's number, where a request by hand has no private data."""
VENDORS_PRIVATE_BACK: Final = {"vtd-3": (1 << 5, 0, ~0, ~0), "vtd-2": (0, 0x7FFFFF << 32)}
"""The same of an answer."""


def without(words: tuple[int, ...], mask: tuple[int, ...] | None) -> tuple[int, ...]:
    return words if mask is None else tuple(word & ~bits for word, bits in zip(words, mask, strict=True))


@pytest.mark.parametrize("pages", [1, 2])
@pytest.mark.parametrize("iommu", [name for name in GUESTS if name not in STALLING])
def test_a_request_with_and_without_a_pasid_is_written_as_the_hardware_writes_it(
    guest: ModuleType, iommu: str, pages: int
) -> None:
    """All that a request can say, by hand: the only one of its group, or the first of two. PASID 0 is not "none"."""
    fmt, told = guest.FORMATS[iommu], {True: 0, False: 0}
    drawn = itertools.product((None, 0, 1, 0xFFFE), itertools.product((False, True), repeat=4))
    with Machine(None, driver="inline", iommu=iommu, group=2) as machine:
        channel, end = machine.open("fd"), machine.endpoint
        rid = end.requester_id
        for number, (pasid, (read, write, execute, privileged)) in enumerate(drawn):
            if not (read or write) or (pasid is None and (execute or privileged)):
                continue  # a stop marker, or no message of PCIe's
            index, address = number * 7 % 512, 0x7FFF_DEAD_B000
            with machine.iommu.interrupt_held():
                end.send(PageRequest(address, index, read, write, pages == 1, pasid, execute, privileged))
                machine.core.produce()
                real = machine.iommu.read_record(0)
            machine.core.produce()
            if pages == 2 and not end.counts().pri_status & PriStatus.RF:
                end.send(PageRequest(address + PAGE, index, read, write, True, pasid, execute, privileged))
            for _ in range(2):
                machine.core.produce()
            messages = channel.receive()
            if end.counts().pri_status & PriStatus.RF:  # refused with a FAILURE
                end.disable_pri()
                end.reset_pri()
                end.enable_pri()
            if not messages:
                end.take_answers()
                continue
            told[pasid is None] += 1
            assert len(messages) == pages
            message, code = messages[0], PageResponse.INVALID if number % 2 else PageResponse.SUCCESS
            handle = message.cookie if iommu in VENDORS_PRIVATE else message.grpid
            record = fmt.record(rid, message, handle)
            assert without(record, VENDORS_PRIVATE.get(iommu)) == real
            asked = FaultPerm(READ * read | WRITE * write | EXEC * execute | FaultPerm.PRIV * privileged)
            fault = fmt.fault(record)
            assert fault[:6] == (rid, pasid, index, pages == 1, asked, address)
            channel.answer(message.cookie, code)
            channel.flush()
            ours = fmt.command(fault, code)
            assert without(ours, VENDORS_PRIVATE_BACK.get(iommu)) == machine.iommu.read_command()
            if pages == 1:
                assert fmt.answer(ours) == (rid, handle, code == PageResponse.SUCCESS)
            machine.core.produce()
            assert end.take_answers() == [(index, code)]
    assert told[False] >= 2 * 3
    assert bool(told[True]) == (iommu in WITHOUT_PASID)


@pytest.mark.parametrize("iommu", WITHOUT_PASID)
def test_a_group_without_a_pasid_comes_back_with_the_guests_answer(guest: ModuleType, iommu: str) -> None:
    with Machine(None, driver="inline", iommu=iommu) as machine:
        guest_ = guest.Guest(guest.FORMATS[iommu], machine.address_space, most=1 << 40)
        vmm = guest.Vmm(machine, guest_)
        for index, (pasid, address) in enumerate(itertools.product((None, 0), (0x7000, 1 << 40))):
            machine.endpoint.send(PageRequest(address, index, read=True, pasid=pasid))
            for _ in range(4):
                vmm.turn()
            (answer,) = machine.endpoint.take_answers()
            assert (answer.prg_index, answer.code) == (index, address >> 40)
        assert machine.address_space.allows(0, 0x7000, READ)
        assert (vmm.cookies, guest_.partial) == ({}, {})


@pytest.mark.parametrize("iommu", GUESTS)
def test_functions_whose_groups_have_the_same_index_get_their_own_answers(guest: ModuleType, iommu: str) -> None:
    """All of one machine's three functions ask at once; the guest answers by what they ask for."""
    pages = 1 if iommu in STALLING else 3
    drawn = random.Random(2)
    parts = tuple(FunctionParts(name) for name in "abc")
    with Machine(None, driver="inline", iommu=iommu, group=pages, functions=parts) as machine:
        guest_ = guest.Guest(guest.FORMATS[iommu], machine.address_space, most=1 << 40)
        vmm = guest.Vmm(machine, guest_)
        made = []
        for n in range(300):
            end = machine.functions[drawn.choice("abc")].endpoint
            bad = drawn.random() < 0.5
            ticket = end.access(1 + n % 5, (n << 16) + (1 << 40) * bad, drawn.choice([READ, WRITE]), pages=pages)
            made.append((end, ticket, AccessResult.INVALID if bad else AccessResult.OK))
        for _ in range(2000):
            vmm.turn()
        assert [end.result(ticket) for end, ticket, _ in made] == [wanted for _, _, wanted in made]
        for function in machine.functions.values():
            counts = function.endpoint.counts()
            assert (counts.outstanding, counts.unexpected) == (0, 0)
        assert (vmm.cookies, guest_.partial) == ({}, {})
        assert len(set(vmm.rids.values())) == 3


@pytest.mark.parametrize("iommu", GUESTS)
def test_an_answer_in_another_functions_name_ends_nothing(guest: ModuleType, iommu: str) -> None:
    fmt = guest.FORMATS[iommu]
    with Machine(None, driver="inline", iommu=iommu, functions=(FunctionParts("a"), FunctionParts("b"))) as machine:
        guest_ = guest.Guest(fmt, machine.address_space)
        vmm: Any = guest.Vmm(machine, guest_)
        guest_.interrupt = lambda: None
        a, b = (function.endpoint for function in machine.functions.values())
        ticket = a.access(1, 0x7000, READ)
        vmm.turn()
        fault = fmt.fault(guest_.requests.take())
        assert fault.rid == guest.GUEST_RID
        for rid in (vmm.rids[machine.functions["b"].device.id], 0x1234):
            guest_.commands.put(fmt.command(fault._replace(rid=rid), PageResponse.SUCCESS))
            vmm.turn()
            assert a.result(ticket) is AccessResult.PENDING
        guest_.commands.put(fmt.command(fault, PageResponse.INVALID))
        vmm.turn()
        vmm.turn()
        assert a.result(ticket) is AccessResult.INVALID
        assert (a.counts().unexpected, b.counts().unexpected) == (0, 0)


@pytest.mark.parametrize("known_by", ["driver", "handler", "hardware", "nobody"])
@pytest.mark.parametrize("iommu", [name for name in GUESTS if name in PAGE_FORMATS])
def test_of_two_stages_the_guest_gets_only_its_own_faults(guest: Any, iommu: str, known_by: str) -> None:
    """Each record is about a page that stage 1 does not have, and each page that it has reaches stage 2 later."""
    if known_by == "hardware" and iommu not in STALLING:
        with pytest.raises(UsageError, match="does not say its stage"):
            Machine(None, driver="inline", iommu=iommu, stage2=0.0, known_by=known_by)
        return
    pinned = known_by == "nobody"
    fmt = guest.FORMATS[iommu]

    class Watched(guest.Guest):  # type: ignore[misc]
        """Looks first whether stage 1 has the page already."""

        def interrupt(self) -> None:
            for record in self.waiting():
                fault = fmt.fault(record)
                seen.append(fault)
                assert not self.tables.allows(fault.pasid, fault.address, fault.perm & (READ | WRITE))
            super().interrupt()

        def waiting(self) -> Iterator[Any]:
            head = self.requests.head
            while (record := self.requests.take()) is not None:
                yield record
            self.requests.head = head

    seen: list[Any] = []
    drawn = random.Random(3)
    with Machine(
        None,
        driver="inline",
        iommu=iommu,
        stage2=float(pinned),
        known_by=known_by,
        functions=(FunctionParts("a", pasids=(1, 2)), FunctionParts("b", pasids=(1, 2))),
    ) as machine:
        vmm = guest.Vmm(machine, Watched(fmt, machine.address_space, places=64))
        ends = [function.endpoint for function in machine.functions.values()]
        made = [
            (end := drawn.choice(ends), end.access(1 + n % 2, n << 16, drawn.choice([READ, WRITE]))) for n in range(40)
        ]
        for _ in range(400):
            vmm.turn()
        assert {end.result(ticket) for end, ticket in made} == {AccessResult.OK}
        assert machine.stages is not None
        counts = machine.stages.counts()
        assert sorted(fault.address for fault in seen) == [n << 16 for n in range(40)]
        assert vmm.forwarded == 40
        if pinned:
            assert counts.by_host == 0
        else:
            assert (counts.to_guest, counts.by_host) == (40, 40)
        assert vmm.cookies == {}


def test_the_example_itself_runs(guest: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    guest.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        name for name in guest.FORMATS for _ in range(1 + (name in PAGE_FORMATS))
    ]


@pytest.mark.parametrize("places", [4, 64])
@pytest.mark.parametrize("iommu", GUESTS)
def test_every_group_comes_back_with_the_guests_answer(guest: ModuleType, iommu: str, places: int) -> None:
    """More than the guest's queues hold, which go around many times; some addresses are nobody's in the guest."""
    pages = 1 if iommu in STALLING else 3
    drawn = random.Random(1)
    with Machine(None, driver="inline", iommu=iommu, group=pages) as machine:
        guest_ = guest.Guest(guest.FORMATS[iommu], machine.address_space, places=places, most=1 << 40)
        vmm = guest.Vmm(machine, guest_)
        bad = [drawn.random() < 0.3 for _ in range(300)]
        tickets = [
            machine.endpoint.access(1 + n % 5, (n << 16) + (1 << 40) * one, drawn.choice([READ, WRITE]), pages=pages)
            for n, one in enumerate(bad)
        ]
        for _ in range(4000):
            vmm.turn()
        found = [machine.endpoint.result(ticket) for ticket in tickets]
        assert found == [AccessResult.INVALID if one else AccessResult.OK for one in bad]
        counts = machine.endpoint.counts()
        assert (counts.outstanding, counts.unexpected) == (0, 0)
        assert vmm.cookies == {}
        assert guest_.partial == {}
        assert machine.account().lost == 0


@pytest.mark.parametrize("iommu", GUESTS)
def test_a_guest_that_answers_out_of_order_and_says_nonsense_ends_only_its_own_groups(guest: Any, iommu: str) -> None:
    fmt = guest.FORMATS[iommu]

    class Odd(guest.Guest):  # type: ignore[misc]
        """Keeps its faults, and answers the newest first, each once rightly and once again."""

        def interrupt(self) -> None:
            kept = self.__dict__.setdefault("kept", [])
            while (record := self.requests.take()) is not None:
                fault = fmt.fault(record)
                if fault.last:
                    kept.append(fault)
            if len(kept) >= 8:
                for fault in reversed(kept):
                    right = fmt.command(fault, PageResponse.INVALID)
                    self.commands.put((right[0] ^ (0xF << 60 if fmt is guest.FORMATS["amd"] else 2), *right[1:]))
                    self.commands.put(right)
                    self.commands.put(fmt.command(fault, PageResponse.SUCCESS))
                self.commands.put(((1 << 64) - 1,) * fmt.command_words)
                self.commands.put((0,) * fmt.command_words)
                kept.clear()

    with Machine(None, driver="inline", iommu=iommu) as machine:
        vmm: Any = guest.Vmm(machine, Odd(fmt, machine.address_space, places=64))
        tickets = [machine.endpoint.access(1, n * PAGE, READ) for n in range(8)]
        for _ in range(20):
            vmm.turn()
        assert {machine.endpoint.result(ticket) for ticket in tickets} == {AccessResult.INVALID}
        assert machine.endpoint.counts().unexpected == 0
        assert vmm.cookies == {}
