"""A delivery design of one's own: shared memory both ways, and a doorbell for each batch."""

from collections.abc import Sequence

from uring_iopf.abi.records import MESSAGE_BYTES, RESPONSE_BYTES, FaultMessage
from uring_iopf.costs import Counts
from uring_iopf.designs import Cost, Design, FaultSource


class Doorbell(Design):
    """Lists in shared memory; a client that sleeps is woken, and rings once for all its answers."""

    year = "2026"
    # One fault by itself: the doorbell and poll; the eventfd's write; a message and an answer.
    alone = Counts(system_calls=2, wakeups=1, bytes_copied=MESSAGE_BYTES + RESPONSE_BYTES)

    def __init__(self, source: FaultSource, cost: Cost) -> None:
        super().__init__(source, cost)
        self.faults: list[Sequence[FaultMessage]] = []  # groups: the kernel appends, the client takes
        self.answers: list[tuple[int, int]] = []  # the client appends, the kernel takes
        self.rung = 0  # how many of them the doorbell was rung for

    # ---- the kernel's half ----

    def publish(self) -> int:
        groups = self.source.take()
        self.faults += groups
        self.cost.copied(MESSAGE_BYTES * sum(map(len, groups)))
        if groups:
            self.wake()  # if it sleeps: a client that spins needs no wake-up
        return len(groups)

    def collect(self) -> int:
        answers, self.answers = self.answers[: self.rung], self.answers[self.rung :]
        self.rung = 0
        for cookie, code in answers:
            self.cost.copied(RESPONSE_BYTES)
            if not self.source.answer(cookie, code):
                self.cost.answer_error()
        return len(answers)

    # ---- the client's half ----

    def receive(self) -> Sequence[Sequence[FaultMessage]]:
        faults, self.faults = self.faults, []  # it looks into memory: no system call
        return faults

    def answer(self, responses: Sequence[tuple[int, int]]) -> None:
        self.answers += responses  # into memory, and nobody looks there before it rings

    def flush(self) -> None:
        if len(self.answers) > self.rung:
            self.rung = len(self.answers)
            self.cost.system_call()  # the doorbell

    def wait(self) -> bool:
        return bool(self.faults) or super().wait()  # rings, and pays for the sleep
