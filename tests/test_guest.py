"""The example of a VMM with a guest: its formats are the real models' to the bit, and nothing is lost on the way."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from uring_iopf import Machine
from uring_iopf.abi import FaultPerm, PageResponse
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.limits import DEVICES, IOMMUS, STALLING

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
            assert fmt.answer(ours) == (handle, code == PageResponse.SUCCESS)
            machine.core.produce()
        assert machine.endpoint.counts().outstanding == 0


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
