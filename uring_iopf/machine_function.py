"""One PCI function of a machine: its load, and the account of its faults."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from uring_iopf._native import ffi, interruptible, lib
from uring_iopf.errors import UsageError, check_fits
from uring_iopf.handles import NotCopied
from uring_iopf.hardware.endpoint import GROUP_INDICES
from uring_iopf.hardware.pri import PriRegister

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uring_iopf.clients.accesses import Accesses
    from uring_iopf.core import Core
    from uring_iopf.hardware.endpoint import AccessResult, Endpoint
    from uring_iopf.hardware.load import Load
    from uring_iopf.iommufd import Device
    from uring_iopf.machine_parts import FunctionParts


class Account(NamedTuple):
    """The place of every fault at one moment: sent = answered + auto_answered + pending + passed_over + lost.

    An account counts the faults of one function, or of several together.
    """

    sent: int
    answered: int
    """Faults that the client answered."""
    auto_answered: int
    """Faults that were answered for the client: by a detach, by the generic fault layer, by the driver, by the host
    (stage 2), or by the IOMMU itself, whose queue could not take them."""
    lost: int
    """Faults that were not answered and are in no queue. A run with a lost fault has failed."""
    unmapped: int
    """Answered faults (a part of *answered*) whose answer was SUCCESS although the page was not mapped."""
    pending: int = 0
    """Faults without an answer yet: in the IOMMU's queue, in a group without its last fault, or in the fault queue."""
    awaited: int = 0
    """Faults whose answer has not reached the function: the pending ones, and those with an answer on its way. After
    `Machine.detach` no answer is on its way: *awaited* beyond *pending* then means lost answers."""
    passed_over: int = 0
    """Page requests that the driver dropped without an answer, as Linux's does: malformed ones that are not their
    group's last, and what it takes for stop markers. Only `Endpoint.send` makes such requests."""


class Function(NotCopied):
    """A PCI function behind the machine's IOMMU. `Machine.functions` has them by name."""

    def __init__(self, core: Core, parts: FunctionParts, load: Load, endpoint: Endpoint, device: Device) -> None:
        self.name = parts.name
        self.parts = parts
        """The parts that the function was made of, with every default filled in."""
        self.endpoint = endpoint
        """The hardware of the function, with `access`, `result`, `counts` and `latency_ns`."""
        self.device = device
        """The iommufd device of the function. The messages of its faults have its id."""
        self.workload = parts.workload
        self.load = load
        self.started = 0
        """The number of passes over the workload that were started."""
        self.credits = parts.credits
        """The page requests that it may have outstanding; the design may have room for fewer than its `parts` say."""
        self._core = core
        self._finished = False
        self._accesses: Accesses | None = None

    @property
    def in_flight(self) -> int:
        """The most groups of its workload that are outstanding at once."""
        assert self.load.in_flight is not None, "it is decided"
        return self.load.in_flight

    @property
    def outstanding_most(self) -> int:
        """The most groups that are outstanding at once. Without a workload it is the hardware's limit."""
        return GROUP_INDICES if self.workload is None else self.in_flight

    @property
    def group_most(self) -> int:
        """The most pages in one group."""
        assert self.load.group is not None, "it is decided"
        return self.load.group

    def limit_credits(self, most: int | None, design: str = "") -> None:
        """Have at most so many credits; None: those of its `parts` again. Set by `Machine.open` for the *design*.

        A function that stalls has no credits, and keeps its places. The design refuses what it has no room for.
        Raises: UsageError, a group has more pages.
        """
        assert self.parts.credits is not None, "it is decided"
        if most is not None:
            check_fits(32, most=most)
        wanted = self.parts.credits if most is None else min(self.parts.credits, most)
        if wanted == self.credits or self.parts.stalls:
            return
        if wanted < self.group_most:
            raise UsageError(
                f"group must be {wanted} or less for {self.name}, because {design} has no room for more faults of it"
            )
        self.endpoint.write_pri(PriRegister.ALLOCATION, wanted)  # our hardware takes it while PRI is on
        self.credits = wanted

    def start(self) -> None:
        """Start a pass over its workload, or over the rows that `Endpoint.set_rows` has set.

        Raises: KernelError(EBUSY), a pass is under way; else as `Endpoint.start`.
        """
        self.endpoint.start(self.load)
        self.started += 1

    def finish(self) -> None:
        """Declare that no more accesses will be made by hand; see `Machine.finish`."""
        self._finished = True
        self.endpoint.finish()

    def is_idle(self) -> bool:
        """Whether every pass that was started has ended, with all faults sent and answered."""
        return self.endpoint.passes() >= self.started

    def is_served(self) -> bool:
        """Whether no more faults will come: all passes and accesses have ended, and no more accesses will be made."""
        return (self._finished or self.workload is not None) and self.endpoint.is_served(self.started)

    async def access(self, pasid: int, address: int, perm: int, *, pages: int = 1) -> AccessResult:
        """Make one access to neighbouring pages, as `Endpoint.access` does, and wait for its result. Needs trio.

        If the call is cancelled, the access goes on without it. With the driver ``inline`` the call runs the hardware
        while it waits.

        Raises: as `Endpoint.access`; trio.ClosedResourceError, the machine was closed meanwhile; UsageError, tasks of
        another `trio.run` wait for accesses of this function.
        """
        import trio

        from uring_iopf.clients.accesses import Accesses

        await trio.lowlevel.checkpoint_if_cancelled()
        if self._accesses is None:
            self._accesses = Accesses(self.endpoint, self._core)
        return await self._accesses.make(partial(self.endpoint.access, pasid, address, perm, pages=pages))

    def close_accesses(self) -> None:
        """End the tasks that wait in `access` by trio.ClosedResourceError."""
        if self._accesses is not None:
            self._accesses.close()

    def __repr__(self) -> str:
        return f"<Function {self.name}, requester id {self.parts.requester_id:#06x}>"


def accounts_of(core: Core, functions: Sequence[Function]) -> list[Account]:
    """The account of each function, all at one moment."""
    counts = ffi.new("struct uiopf_account[]", len(functions))
    # Hold the objects, because another thread may close the machine meanwhile. Clear the list at the end, because the
    # traceback of an exception would keep them in memory.
    held = [(function.endpoint.c, function.device.c) for function in functions]
    try:
        for at in range(len(held)):
            counts[at].endpoint, counts[at].device = held[at]
        interruptible("account", lambda: lib.uiopf_account(core.c, counts, len(functions)))
    finally:
        held.clear()
    found = []
    for one in counts:
        sent, answered, pending = int(one.counts.sent + one.counts.forged), int(one.answered), int(one.pending)
        in_the_kernel = one.reported.refused + one.reported.served
        auto_answered = int(one.auto_answered + in_the_kernel + one.counts.unbound + one.counts.iommu_answered)
        passed_over = int(one.reported.passed_over + one.counts.unbound_passed_over)
        found.append(
            Account(
                sent=sent,
                answered=answered,
                auto_answered=auto_answered,
                pending=pending,
                lost=sent - answered - auto_answered - pending - passed_over,
                unmapped=int(one.counts.unmapped),
                awaited=int(one.counts.outstanding),
                passed_over=passed_over,
            )
        )
    return found
