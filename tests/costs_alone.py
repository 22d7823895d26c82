"""What one fault by itself costs with each design, as said beforehand. A new design needs a row here."""

from __future__ import annotations

from typing import Final, NamedTuple

from uring_iopf.costs import Counts


class Alone(NamedTuple):
    """The counts of a fault that waits for the one before, with a client that sleeps and with one that spins."""

    sleep: Counts
    spin: Counts


def alone(
    *bytes_copied: int, sleep: tuple[int, int], spin: tuple[int, int], ring: tuple[int, int] = (0, 0), packets: int = 0
) -> Alone:
    """*bytes_copied*: those of each part. *sleep* and *spin*: system calls, and wake-ups. *ring*: SQEs, and CQEs.

    *packets*: sent, and as many received.
    """
    sqes, cqes = ring
    sleeping, spinning = (
        Counts(
            system_calls=calls,
            wakeups=wakeups,
            bytes_copied=sum(bytes_copied),
            sqes=sqes,
            cqes=cqes,
            packets_sent=packets,
            packets_received=packets,
        )
        for calls, wakeups in (sleep, spin)
    )
    return Alone(sleeping, spinning)


MESSAGE, RESPONSE = 40, 8
SQE, CQE, WIDE_CQE = 64, 16, 32
COUNTER = 8  # of an eventfd

ALONE: Final[dict[str, Alone]] = {
    "handler": alone(sleep=(0, 0), spin=(0, 0)),
    # poll, read of the counter, pread of the header, pwrite of the index, ioctl. A client that spins does not poll, and
    # the eventfd is written all the same.
    "region-v8": alone(COUNTER, 20, 64, 4, 24, sleep=(5, 1), spin=(4, 1)),
    "region-v9": alone(COUNTER, 20, 64, 4, 24, sleep=(5, 1), spin=(4, 1)),
    # A write of the head of the answers' ring in place of the ioctl; an answer has room for private data. Every 511
    # answers the client reads that ring's header, too: one call, 20 bytes.
    "region": alone(COUNTER, 20, 64, 4, 40, 4, sleep=(5, 1), spin=(4, 1)),
    # poll, read of the counter, read of the message, ioctl; the eventfd's write.
    "eventfd": alone(COUNTER, 48, 28, sleep=(4, 1), spin=(3, 1)),
    # poll, read, write; the sleeper is woken.
    "fd": alone(MESSAGE, RESPONSE, sleep=(3, 1), spin=(2, 0)),
    # enter, read, write; a completion is copied as well, and once the poll's SQE.
    "uring-today": alone(MESSAGE, RESPONSE, CQE, sleep=(3, 1), spin=(3, 0), ring=(0, 1)),
    # One enter sends the answer and waits. Message, CQE, SQE and answer are copied, and once the read's own SQE.
    "uring-multishot": alone(MESSAGE, RESPONSE, CQE, SQE, sleep=(1, 1), spin=(2, 0), ring=(1, 1)),
    "uring-linked": alone(MESSAGE, RESPONSE, CQE, SQE, sleep=(1, 1), spin=(2, 0), ring=(1, 1)),
    # A one-shot read has an SQE for each fault.
    "uring-read": alone(MESSAGE, RESPONSE, CQE, 2 * SQE, sleep=(1, 1), spin=(2, 0), ring=(2, 1)),
    # Message and answer are in the CQE and in the SQE.
    "uring-cmd": alone(WIDE_CQE, SQE, sleep=(1, 1), spin=(2, 0), ring=(1, 1)),
    # The answer is in the SQE, and the message in memory.
    "uring-fetch": alone(MESSAGE, CQE, SQE, sleep=(1, 1), spin=(2, 0), ring=(1, 1)),
    # A batch has a wide CQE, and both its messages and its answers are in memory.
    "uring-batch": alone(MESSAGE, RESPONSE, WIDE_CQE, SQE, sleep=(1, 1), spin=(2, 0), ring=(1, 1)),
    # poll, read and write; and the kernel's half sends and receives a packet. Each is copied twice.
    "host-fd": alone(2 * MESSAGE, 2 * RESPONSE, sleep=(5, 1), spin=(4, 0), packets=2),
    # An enter that waits and one that sends the answer, and the kernel's half.
    "host-uring": alone(2 * MESSAGE, 2 * RESPONSE, CQE, SQE, sleep=(4, 1), spin=(3, 0), ring=(1, 1), packets=2),
}
