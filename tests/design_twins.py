"""Designs of C, written once more in Python: by the same rules they must count the same, to the last byte."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES
from uring_iopf.costs import Counts
from uring_iopf.designs import Cost, Design, FaultSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uring_iopf.abi.records import FaultMessage

COUNTER_BYTES = 8
RFC_MESSAGE_BYTES, RFC_RESPONSE_BYTES = 48, 28


class FdTwin(Design):
    """fd: poll, read of whole groups, one write for all answers that have gathered"""

    alone: ClassVar[Counts | None] = Counts(system_calls=3, wakeups=1, bytes_copied=MESSAGE_BYTES + RESPONSE_BYTES)

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self.file: list[Sequence[FaultMessage]] = []
        self.held: list[tuple[int, int]] = []
        self.written: list[tuple[int, int]] = []

    def publish(self) -> int:
        groups = self.source.take()
        self.file += groups
        if groups:
            self.wake()
        return len(groups)

    def collect(self) -> int:
        written, self.written = self.written, []
        for cookie, code in written:
            if self.source.answer(cookie, code):
                self.cost.copied(RESPONSE_BYTES)
            else:
                self.cost.answer_error()
        return len(written)

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        self.flush()
        groups, self.file = self.file, []
        self.cost.system_call(found=bool(groups))
        self.cost.copied(MESSAGE_BYTES * sum(map(len, groups)))
        return groups

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        self.held += responses

    def flush(self) -> None:
        if self.held:
            self.written += self.held
            self.held = []
            self.cost.system_call()

    def wait(self) -> bool:
        super().wait()
        return bool(self.file)


class EventfdTwin(Design):
    """eventfd: written for each message, which are read one by one, and answered by an ioctl each"""

    signals_awake = True
    alone = Counts(system_calls=4, wakeups=1, bytes_copied=COUNTER_BYTES + RFC_MESSAGE_BYTES + RFC_RESPONSE_BYTES)

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self.file: deque[FaultMessage] = deque()
        self.count = 0
        self.answered: list[tuple[int, int]] = []

    def publish(self) -> int:
        groups = self.source.take()
        for group in groups:
            for message in group:
                self.file.append(message)
                self.count += 1
                self.signal()
        return len(groups)

    def collect(self) -> int:
        answered, self.answered = self.answered, []
        for cookie, code in answered:
            if not self.source.answer(cookie, code):
                self.cost.answer_error()
        return len(answered)

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        told, self.count = self.count, 0
        self.cost.system_call(found=bool(told))
        self.cost.copied(COUNTER_BYTES if told else 0)
        groups: list[Sequence[FaultMessage]] = []
        group: list[FaultMessage] = []
        for _ in range(told):
            group.append(self.file.popleft())
            self.cost.system_call()
            self.cost.copied(RFC_MESSAGE_BYTES)
            if group[-1].flags & 2:  # LAST_PAGE
                groups.append(group)
                group = []
        return groups

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        for response in responses:
            self.answered.append(response)
            self.cost.system_call()
            self.cost.copied(RFC_RESPONSE_BYTES)

    def wait(self) -> bool:
        super().wait()
        return bool(self.count)
