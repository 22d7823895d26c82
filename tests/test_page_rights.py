"""What a function asks for, and what a page must allow: reading, writing, execution and privilege, behind every IOMMU.

The table below is not the code's: a request has a place for each of the four in every vendor's format, and it is Linux
that says what a function may put there. VT-d's driver refuses a request that executes and reads, or is privileged and
reads or writes. AMD's enables neither in the function's PASID capability. SMMUv3's enables both; the RISC-V driver that
was proposed does, too; VT-d's before revision 3 took what came.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.test_iommus import WITH_PRI, until
from uring_iopf import FaultPerm, FunctionParts, Machine, PageResponse
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.limits import DEVICES, IOMMUS, PAGE_FORMATS, STALLING
from uring_iopf.hardware.load import Load
from uring_iopf.hardware.page_tables import PageTables
from uring_iopf.hardware.pri import PageRequest
from uring_iopf.hardware.translator import Translator
from uring_iopf.workloads import ROW

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
NONE, R, W, X, P = FaultPerm(0), FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC, FaultPerm.PRIV
ACCESSES = [access | privileged for access in (R, W, X, R | W, R | X, W | X, R | W | X) for privileged in (NONE, P)]
ASKS = {"vtd": NONE, "vtd-3": NONE, "vtd-2": X | P, "smmuv3": X | P, "amd": NONE, "riscv": X | P}
"""What a function with PRI asks for besides reading and writing."""
RIGHTS = [R, R | W, R | X, R | W | X]
"""Of a page: all that are there may be read."""


def needs(iommu: str, access: FaultPerm) -> FaultPerm:
    """What an access needs of its page."""
    reads = R if access & (R | X) else NONE
    if iommu in DEVICES:
        return reads | (access & W)  # an adapter executes nothing
    if iommu in STALLING and access & W:
        return access & (W | P)  # an atomic transaction is a write
    return reads | (access & (W | X | P))


def asks(iommu: str, access: FaultPerm) -> FaultPerm:
    """What its request says of it."""
    return needs(iommu, access) & (R | W | ASKS.get(iommu, X | P))


def serve(machine: Machine, rights: FaultPerm | None = None) -> list[FaultPerm]:
    """Map each page that is asked for with these rights, or with what was asked for, and answer; what was asked for."""
    found = []
    machine.core.produce()
    for message in machine.queue.read_messages():
        machine.address_space.map_page(message.pasid, message.addr, message.perm if rights is None else rights)
        found.append(FaultPerm(message.perm))
        if message.flags & 2:
            machine.queue.respond(message.cookie, PageResponse.SUCCESS)
    machine.core.produce()
    return found


@pytest.fixture(params=IOMMUS)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine(None, driver="inline", iommu=request.param, group=1) as one:
        one.open("fd")
        yield one


@pytest.mark.parametrize("access", ACCESSES, ids=str)
def test_a_request_says_what_the_access_needs_and_the_page_must_allow_it(machine: Machine, access: FaultPerm) -> None:
    iommu, end = machine.parts.iommu, machine.endpoint
    for n, rights in enumerate(RIGHTS):
        ticket = end.access(1, n * PAGE, access)
        (said,) = serve(machine, rights)
        if iommu not in DEVICES:  # whose formats say less: ``test_device.py`` and ``test_device_log.py``
            assert said == asks(iommu, access)
        allowed = not needs(iommu, access) & (W | X) & ~rights  # flat tables have no privilege
        assert end.result(ticket) is (AccessResult.OK if allowed else AccessResult.UNMAPPED)
        assert end.counts().unmapped == sum(bool(needs(iommu, access) & (W | X) & ~one) for one in RIGHTS[: n + 1])
        # A page that allows it is asked for no more.
        again = end.access(1, n * PAGE, access)
        machine.core.produce()
        assert (end.result(again) is AccessResult.OK) is allowed
        serve(machine, R | W | X)
        assert end.result(again) is AccessResult.OK
    assert machine.account().sent == len(RIGHTS) + end.counts().unmapped


@pytest.mark.parametrize("access", [P, NONE], ids=str)
def test_an_access_that_neither_reads_nor_writes_nor_executes_is_none(machine: Machine, access: FaultPerm) -> None:
    with pytest.raises(OSError, match=r"EINVAL|Invalid argument"):
        machine.endpoint.access(1, PAGE, access)


@pytest.mark.parametrize("again", [False, True], ids=["once", "asks again"])
@pytest.mark.parametrize("iommu", [one for one in IOMMUS if one in PAGE_FORMATS])
def test_tables_of_a_vendor_allow_what_they_say(iommu: str, again: bool) -> None:
    """The page is mapped, without a right; the driver has nothing to add, and answers Success."""
    functions = (FunctionParts(retries=2 * again),)
    with Machine(None, driver="inline", iommu=iommu, functions=functions) as machine:
        machine.open("fd")
        end = machine.endpoint
        tables = PageTables(PAGE_FORMATS[iommu][0], pasids=8)
        translator = Translator(machine.core, first=tables)
        end.use_translator(translator)
        for n, (access, user, privileged) in enumerate(product(ACCESSES, RIGHTS, (False, True))):
            tables.map(n * PAGE, 8 * PAGE, perm=user | (P if privileged else NONE), pasid=1)
            needed = needs(iommu, access)
            if needed & X and iommu in STALLING:
                needed &= ~R
            way = translator.translate(n * PAGE, needed, pasid=1)
            assert (way.stage == 0) is tables_allow(iommu, user, needed, privileged=privileged)
            ticket, asked = end.access(1, n * PAGE, access), 0
            machine.core.produce()
            while messages := machine.queue.read_messages():
                (message,) = messages
                assert message.perm == asks(iommu, access)
                asked += 1
                machine.queue.respond(message.cookie, PageResponse.SUCCESS)
                machine.core.produce()
            assert end.result(ticket) is (AccessResult.UNMAPPED if way.stage else AccessResult.OK)
            assert asked == (0 if not way.stage else 3 if again else 1)
        machine.detach()
        translator.close()


def tables_allow(iommu: str, rights: FaultPerm, access: FaultPerm, *, privileged: bool) -> bool:
    """The rules of VT-d's first stage and Arm's stage 1, as far as these pages have them."""
    by = bool(access & P)
    if privileged and not by:
        return False
    if access & (W | X) & ~rights:
        return False
    # Arm has a bit for each of the two, and `map` lets only those execute for whom the page is.
    return privileged or not (iommu.startswith("smmuv3") and by and access & X)


@pytest.mark.parametrize("execute", [False, True])
@pytest.mark.parametrize("right", [R, R | X], ids=str)
@pytest.mark.parametrize("iommu", [one for one in WITH_PRI if not one.startswith("vtd") or one == "vtd-2"])
def test_a_request_made_by_hand_is_tried_by_what_it_asked_for(iommu: str, right: FaultPerm, execute: bool) -> None:
    with Machine(None, driver="inline", iommu=iommu, group=2) as machine:
        machine.open("fd")
        end = machine.endpoint
        for n in range(2):
            end.send(PageRequest((n + 1) * PAGE, 3, read=True, execute=execute, pasid=1, last=n == 1))
        assert serve(machine, right) == [R | (X if execute else NONE)] * 2
        until(lambda: end.counts().outstanding == 0, machine)
        wrong = execute and not right & X
        assert (end.counts().succeeded, end.counts().unmapped) == ((0, 2) if wrong else (2, 0))


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("iommu", IOMMUS)
def test_a_load_executes_where_the_function_may_ask_for_it(iommu: str, group: int) -> None:
    """Otherwise it reads: a function that may not execute loads a trace's code as data."""
    if group > 1 and iommu in (*STALLING, "device-log"):
        return  # which is refused
    rows = [R, X, W, X | P, R | P, W | P, X, R] * 3
    executes = asks(iommu, X) & X
    with Machine(None, driver="inline", iommu=iommu, group=group) as machine:
        machine.open("fd")
        end = machine.endpoint
        for count, rights in enumerate([None, R | W], start=1):
            machine.address_space.reset()
            end.set_rows(b"".join(ROW.pack(0, n * PAGE, 1, access) for n, access in enumerate(rows)))
            end.start(Load(in_flight=5, group=group))
            said: list[FaultPerm] = []
            while end.passes() < count:
                said += serve(machine, rights)
            if iommu not in DEVICES:
                assert sorted(said) == sorted(asks(iommu, access) for access in rows)
        assert end.counts().unmapped == (9 if executes else 0), "each fetch of a page that is never executed"
        assert machine.account().sent == 2 * len(rows)
