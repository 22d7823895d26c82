"""A delivery design of one's own: shared memory both ways, and a doorbell for each batch."""

from collections.abc import Iterable, Sequence

from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES, FaultMessage
from uring_iopf.designs import Cost, Design, FaultSource


class Doorbell(Design):
    """Lists in shared memory; the client is woken once a batch, and rings once for all its answers."""

    year = "2026"

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self.faults: list[FaultMessage] = []  # the kernel appends, the client takes
        self.answers: list[tuple[int, int]] = []  # the client appends, the kernel takes

    # ---- the kernel's half ----

    def publish(self) -> int:
        groups = self.source.take()
        if groups and not self.faults:  # the client saw an empty list, and may be asleep
            self.cost.wakeup()
        for group in groups:
            self.faults += group
            self.cost.copied(MESSAGE_BYTES * len(group))
        return len(groups)

    def collect(self) -> int:
        answers, self.answers = self.answers, []
        for cookie, code in answers:
            self.cost.copied(RESPONSE_BYTES)
            if not self.source.answer(cookie, code):
                self.cost.answer_error()
        return len(answers)

    # ---- the client's half ----

    def receive(self) -> Sequence[FaultMessage]:
        faults, self.faults = self.faults, []  # it looks into memory: no system call
        return faults

    def answer(self, responses: Iterable[tuple[int, int]]) -> None:
        self.answers += responses
        self.cost.system_call()  # the doorbell
