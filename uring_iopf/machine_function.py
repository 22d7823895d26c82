"""One PCI function of a machine: what makes it fault, and where each of its faults is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from uring_iopf._native import ffi, interruptible, lib
from uring_iopf.handles import NotCopied
from uring_iopf.hardware.endpoint import GROUP_INDICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uring_iopf.clients.accesses import Accesses
    from uring_iopf.core import Core
    from uring_iopf.hardware.endpoint import AccessResult, Endpoint
    from uring_iopf.hardware.load import Load
    from uring_iopf.iommufd import Device
    from uring_iopf.machine_parts import FunctionParts


class Account(NamedTuple):
    """Where every fault is, at one moment: sent = answered + auto_answered + pending + lost.

    Of one function, or of several: every field is a sum.
    """

    sent: int
    answered: int
    """By the client."""
    auto_answered: int
    """For it: by detach, by the generic layer, by the driver."""
    lost: int
    """Neither answered nor held by anything. A run with one has failed."""
    unmapped: int
    """Of the answered: with success, and the page was not there."""
    pending: int = 0
    """Not answered yet: in the IOMMU's queue, in a group without its last fault, or in the fault queue."""
    awaited: int = 0
    """What the function still waits for: the pending ones, and answers on their way. More than these when nothing is on
    the way any more (after `Machine.detach`): answers are lost."""


class Function(NotCopied):
    """A PCI function behind the machine's IOMMU. `Machine.functions` has them by name."""

    def __init__(self, core: Core, parts: FunctionParts, load: Load, endpoint: Endpoint, device: Device) -> None:
        self.name = parts.name
        self.parts = parts
        """What it was made of, with nothing left open."""
        self.endpoint = endpoint
        """Its hardware: `access`, `result`, `counts`, `latency_ns`."""
        self.device = device
        """As iommufd knows it: its id stands in the messages of its faults."""
        self.workload = parts.workload
        self.load = load
        self.started = 0
        """Passes over its workload that were started."""
        self._core = core
        self._finished = False
        self._accesses: Accesses | None = None

    @property
    def in_flight(self) -> int:
        """Groups of its workload outstanding at most."""
        assert self.load.in_flight is not None, "it is decided"
        return self.load.in_flight

    @property
    def outstanding_most(self) -> int:
        """Groups that it may have outstanding at once; of accesses made by hand, as many as the hardware can."""
        return GROUP_INDICES if self.workload is None else self.in_flight

    @property
    def group_most(self) -> int:
        """Pages in a group at most."""
        assert self.load.group is not None, "it is decided"
        return self.load.group

    def start(self) -> None:
        """Begin a pass over its workload, or over what `Endpoint.set_rows` has given it.

        Raises: KernelError(EBUSY), one is under way; else as `Endpoint.start`.
        """
        self.endpoint.start(self.load)
        self.started += 1

    def finish(self) -> None:
        """No more accesses will be made by hand: see `Machine.finish`."""
        self._finished = True
        self.endpoint.finish()

    def is_idle(self) -> bool:
        """Whether every pass that was started has ended: all sent, all answered."""
        return self.endpoint.passes() >= self.started

    def is_served(self) -> bool:
        """Whether nothing more will come: its passes have ended and its accesses, and no more are to be made."""
        return (self._finished or self.workload is not None) and self.endpoint.is_served(self.started)

    async def access(self, pasid: int, address: int, perm: int, *, pages: int = 1) -> AccessResult:
        """Make one access to neighbouring pages, as `Endpoint.access`, and return what became of it. Needs trio.

        Cancelled, the access goes on, and nobody is told of its end. Inline it turns the hardware while it waits.
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
        """End what waits in `access`."""
        if self._accesses is not None:
            self._accesses.close()

    def __repr__(self) -> str:
        return f"<Function {self.name}, requester id {self.parts.requester_id:#06x}>"


def accounts_of(core: Core, functions: Sequence[Function]) -> list[Account]:
    """The account of each function, all at one moment."""
    counts = ffi.new("struct uiopf_account[]", len(functions))
    # Another thread may close the machine meanwhile; and a traceback is not to keep what that lets go of.
    held = [(function.endpoint.c, function.device.c) for function in functions]
    try:
        for at in range(len(held)):
            counts[at].endpoint, counts[at].device = held[at]
        interruptible("account", lambda: lib.uiopf_account(core.c, counts, len(functions)))
    finally:
        held.clear()
    found = []
    for one in counts:
        sent, answered, pending = int(one.counts.sent), int(one.answered), int(one.pending)
        auto_answered = int(one.auto_answered + one.reported.refused)
        found.append(
            Account(
                sent=sent,
                answered=answered,
                auto_answered=auto_answered,
                pending=pending,
                lost=sent - answered - auto_answered - pending,
                unmapped=int(one.counts.unmapped),
                awaited=int(one.counts.outstanding),
            )
        )
    return found
