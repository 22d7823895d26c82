"""`Ring`: a ring with both sides in one program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.abi import EnterFlags
from uring_iopf.errors import UsageError
from uring_iopf.rings.client import ClientRing
from uring_iopf.rings.kernel import KernelRing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from uring_iopf._native import CData
    from uring_iopf.core import Core
    from uring_iopf.rings.client import WordName
    from uring_iopf.rings.entries import Cqe, Sqe


class Ring(KernelRing):
    """A ring on *core*, with the client's mapping of it. `KernelRing` explains the arguments.

    On a core without a worker the calls do the kernel's work: `submit` returns when every request that can complete has
    completed, and `Core.tick` moves time. On a core with a worker, a ring with SQPOLL needs no enter.

    A context manager; see `close`. Raises: KernelError, as `KernelRing`; MemoryError.
    """

    def __init__(
        self,
        core: Core,
        entries: int,
        *,
        cq_entries: int = 0,
        flags: int = 0,
        sq_thread_idle_ms: int = 0,
        params: CData | None = None,
    ) -> None:
        super().__init__(
            core, entries, cq_entries=cq_entries, flags=flags, sq_thread_idle_ms=sq_thread_idle_ms, params=params
        )
        try:
            self.client = self._mapped()
            """The client's side."""
        except BaseException:
            super().close()
            raise

    def _mapped(self) -> ClientRing:
        memory = self.memory
        return ClientRing(memory.fd, self.params, size_bytes=memory.length, sqes_offset=self.sqes_offset)

    def push(self, *sqes: Sqe, slots: Sequence[int] | None = None) -> None:
        """Fill SQEs and publish them. *slots*: the values for the SQ array, in place of each SQE's own slot.

        Raises: UsageError, the SQ has no room for all SQEs, or a field is out of range. No SQE was published then.
        """
        for sqe in sqes:
            sqe.pack()
        if len(sqes) > self.client.space():
            raise UsageError(
                f"the SQ has room for {self.client.space()} SQEs, not for {len(sqes)}; submit fewer at once"
            )
        for number, sqe in enumerate(sqes):
            slot = self.client.fill(sqe)
            assert slot is not None, "there was room"
            if slots is not None:
                self.client.set_index(slot, slots[number])
            elif self.client.has_array:
                self.client.set_index(slot, slot)  # an earlier push may have stored another
        self.client.publish()

    def submit(self, *sqes: Sqe, flags: int = 0) -> int:
        """Push SQEs, and enter for as many. Return the number of SQEs submitted. Raises: as `push` and `enter`."""
        self.push(*sqes)
        return self.enter(len(sqes), 0, flags)

    def run(self, *sqes: Sqe) -> list[Cqe]:
        """Submit SQEs with GETEVENTS, and return the completions that wait. Raises: as `submit`."""
        self.submit(*sqes, flags=EnterFlags.GETEVENTS)
        return self.reap()

    def reap(self, most: int = 1 << 16) -> list[Cqe]:
        """Return the completions that wait, oldest first; see `ClientRing.reap`."""
        return self.client.reap(most)

    def word(self, name: WordName) -> int:
        """Return a shared word; see `ClientRing.load`."""
        return self.client.load(name)

    def store(self, name: WordName, value: int) -> None:
        """Store into a shared word; see `ClientRing.store`."""
        self.client.store(name, value)

    def close(self) -> None:
        """Cancel pending requests, unmap the ring, and free it. Closing again does nothing."""
        super().close()
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
