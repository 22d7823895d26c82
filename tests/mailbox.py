"""A delivery design as a user writes one: a list for each way, and a system call for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES
from uring_iopf.designs import Cost, Design, FaultSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uring_iopf.iommufd import FaultMessage


class Mailbox(Design):
    """one call takes all that waits and brings all answers"""

    year = "2026"

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self._inbox: list[FaultMessage] = []
        self._outbox: list[tuple[int, int]] = []

    def publish(self) -> int:
        groups = self.source.take()
        for group in groups:
            self._inbox += group
        return len(groups)

    def receive(self) -> Sequence[FaultMessage]:
        self.cost.system_call(found=bool(self._inbox))
        messages, self._inbox = self._inbox, []
        self.cost.copied(MESSAGE_BYTES * len(messages))
        return messages

    def answer(self, responses: Iterable[tuple[int, int]]) -> None:
        self._outbox += responses

    def collect(self) -> int:
        answers, self._outbox = self._outbox, []
        for cookie, code in answers:
            self.cost.copied(RESPONSE_BYTES)
            if not self.source.answer(cookie, code):
                self.cost.answer_error()
        return len(answers)
