"""A VMM forwards faults into a guest's virtual IOMMU, of the host's own kind, and takes the guest's answers from it.

The guest's driver finds the vendor's records in a queue in its own memory, as if the hardware had written them. It maps
the pages in its stage-1 tables, and writes the vendor's commands into its command queue.
"""

from __future__ import annotations

from typing import NamedTuple

from uring_iopf import Machine
from uring_iopf.abi import FaultFlags, FaultPerm, PageResponse
from uring_iopf.abi.records import FaultMessage
from uring_iopf.hardware.endpoint import AccessResult
from uring_iopf.hardware.tables import AddressSpace

GUEST_RID = 0x0018
"""The device's requester id in the guest, which has a PCI bus of its own."""
PAGE = 4096


class Queue:
    """A ring in the guest's memory: one side writes at the tail, the other reads at the head. One place stays free."""

    def __init__(self, words: int, places: int) -> None:
        self.memory = bytearray(8 * words * places)
        self.words, self.places = words, places
        self.head = self.tail = 0  # the two registers

    def is_full(self) -> bool:
        return (self.tail + 1) % self.places == self.head

    def put(self, record: tuple[int, ...]) -> None:
        assert not self.is_full()
        assert len(record) == self.words
        at = 8 * self.words * self.tail
        self.memory[at : at + 8 * self.words] = b"".join(word.to_bytes(8, "little") for word in record)
        self.tail = (self.tail + 1) % self.places

    def take(self) -> tuple[int, ...] | None:
        if self.head == self.tail:
            return None
        at = 8 * self.words * self.head
        self.head = (self.head + 1) % self.places
        return tuple(int.from_bytes(self.memory[at + 8 * n : at + 8 * n + 8], "little") for n in range(self.words))


class Fault(NamedTuple):
    """A record as the guest's driver decodes it."""

    rid: int
    pasid: int
    index: int  # or the stall tag
    last: bool
    perm: int
    address: int
    private: int  # what the answer must bring back, where the format has that


def flags(message: FaultMessage, *bits: tuple[int, int]) -> int:
    """Bits of a record that say which permissions a fault asks for."""
    return sum(1 << bit for perm, bit in bits if message.perm & perm)


def perms(word: int, *bits: tuple[int, int]) -> int:
    """The reverse."""
    return sum(perm for perm, bit in bits if word >> bit & 1)


R, W, X, P = FaultPerm.READ, FaultPerm.WRITE, FaultPerm.EXEC, FaultPerm.PRIV


class Vtd:
    """Intel VT-d, revision 4."""

    words = command_words = 4
    high = ((X, 52), (P, 53))
    low = ((R, 0), (W, 1))

    def handle(self, message: FaultMessage) -> int:
        """The number by which the VMM will know the guest's answer: here the group index is enough."""
        return message.grpid

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last = bool(message.flags & FaultFlags.LAST_PAGE)
        word0 = 1 | 1 << 8 | rid << 16 | message.pasid << 32 | flags(message, *self.high)
        return word0, message.addr | last << 2 | handle << 3 | flags(message, *self.low), 0, 0

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1, private, _ = record
        perm = perms(word0, *self.high) | perms(word1, *self.low)
        rid, pasid, index = word0 >> 16 & 0xFFFF, word0 >> 32 & 0xFFFFF, word1 >> 3 & 0x1FF
        return Fault(rid, pasid, index, bool(word1 >> 2 & 1), perm, word1 & ~0xFFF, private)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        return 9 | 1 << 4 | code << 12 | fault.rid << 16 | fault.pasid << 32, fault.index << 3, 0, 0

    def answer(self, command: tuple[int, ...]) -> tuple[int, bool] | None:
        """The handle of a command in the guest's queue, and whether it says success; None: it is no answer."""
        return None if command[0] & 0xF != 9 else (command[1] >> 3 & 0x1FF, not command[0] >> 12 & 0xF)


class Vtd3(Vtd):
    """Revision 3: the VMM puts a number of its own in place of the private data, which the host's driver keeps."""

    def handle(self, message: FaultMessage) -> int:
        return message.cookie

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        word0, word1, *_ = super().record(rid, message, message.grpid)
        private = bool(message.flags & FaultFlags.LAST_PAGE)
        return word0 | private << 9, word1, handle if private else 0, 0

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        word0, word1, *_ = super().command(fault, code)
        return word0 | 1 << 5, word1 | 1 << 2, fault.private, 0

    def answer(self, command: tuple[int, ...]) -> tuple[int, bool] | None:
        return None if command[0] & 0x2F != 0x29 else (command[2], not command[0] >> 12 & 0xF)


class Vtd2:
    """Revision 2: 23 bits of private data, in which the VMM puts its number."""

    words = command_words = 2
    bits = ((R, 0), (W, 1), (X, 2), (P, 3))

    def handle(self, message: FaultMessage) -> int:
        return message.cookie

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last = bool(message.flags & FaultFlags.LAST_PAGE)
        word0 = 1 << 2 | last << 3 | message.pasid << 4 | rid >> 8 << 24 | message.grpid << 55
        return word0 | (handle << 32 if last else 0), message.addr | (rid & 0xFF) << 4 | flags(message, *self.bits)

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1 = record
        rid, pasid = (word0 >> 24 & 0xFF) << 8 | word1 >> 4 & 0xFF, word0 >> 4 & 0xFFFFF
        private = word0 >> 32 & 0x7FFFFF
        return Fault(rid, pasid, word0 >> 55, bool(word0 >> 3 & 1), perms(word1, *self.bits), word1 & ~0xFFF, private)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        return 9 | 1 << 4 | fault.rid << 16 | fault.pasid << 32, code | fault.private << 32 | fault.index << 55

    def answer(self, command: tuple[int, ...]) -> tuple[int, bool] | None:
        return None if command[0] & 0xF != 9 else (command[1] >> 32 & 0x7FFFFF, not command[1] & 0xF)


class Smmu:
    """Arm's SMMUv3: page requests."""

    words = command_words = 2
    bits = ((P, 58), (X, 59), (R, 60), (W, 61))

    def handle(self, message: FaultMessage) -> int:
        return message.grpid

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last = bool(message.flags & FaultFlags.LAST_PAGE)
        return (
            rid | message.pasid << 32 | flags(message, *self.bits) | last << 62 | 1 << 63,
            message.addr | handle,
        )

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1 = record
        perm, address = perms(word0, *self.bits), word1 & ~0xFFF
        return Fault(word0 & 0xFFFFFFFF, word0 >> 32 & 0xFFFFF, word1 & 0x1FF, bool(word0 >> 62 & 1), perm, address, 0)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        return 0x41 | 1 << 11 | fault.pasid << 12 | fault.rid << 32, fault.index | (2 - code) << 12

    def answer(self, command: tuple[int, ...]) -> tuple[int, bool] | None:
        code = command[1] >> 12 & 3  # 3 is illegal
        return None if command[0] & 0xFF != 0x41 or code == 3 else (command[1] & 0x1FF, code == 2)


class Stall:
    """Arm's SMMUv3: stalls. The tag is the VMM's, because the guest may have several SMMUs of the host."""

    words, command_words = 4, 2
    bits = ((P, 33), (X, 34), (R, 35))

    def handle(self, message: FaultMessage) -> int:
        return message.cookie & 0xFFFF

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        word0 = 0x10 | 1 << 11 | message.pasid << 12 | rid << 32
        return word0, handle | 1 << 31 | flags(message, *self.bits) | 2 << 40, message.addr, 0

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1, address, _ = record
        perm = perms(word1, *self.bits) | (0 if word1 >> 35 & 1 else W)
        return Fault(word0 >> 32, word0 >> 12 & 0xFFFFF, word1 & 0xFFFF, True, perm, address, 0)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        return 0x44 | (1 if code == PageResponse.SUCCESS else 2) << 12 | fault.rid << 32, fault.index

    def answer(self, command: tuple[int, ...]) -> tuple[int, bool] | None:
        return None if command[0] & 0xFF != 0x44 else (command[1] & 0xFFFF, command[0] >> 12 & 3 == 1)


class Amd:
    """AMD's IOMMU."""

    words = command_words = 2
    bits = ((X, 49), (R, 50), (W, 53))

    def handle(self, message: FaultMessage) -> int:
        return message.grpid

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last, user = bool(message.flags & FaultFlags.LAST_PAGE), not message.perm & P
        word0 = rid | (message.pasid & 0xFFFF) << 16 | handle << 32 | last << 41 | message.pasid >> 16 << 42
        return word0 | flags(message, *self.bits) | user << 54 | 1 << 56 | 1 << 60, message.addr

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, address = record
        pasid = word0 >> 16 & 0xFFFF | (word0 >> 42 & 0xF) << 16
        perm = perms(word0, *self.bits) | (0 if word0 >> 54 & 1 else P)
        return Fault(word0 & 0xFFFF, pasid, word0 >> 32 & 0x1FF, bool(word0 >> 41 & 1), perm, address, 0)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        return fault.rid | fault.pasid << 32 | 7 << 60, 1 << 2 | fault.index << 32 | code << 44

    def answer(self, command: tuple[int, ...]) -> tuple[int, bool] | None:
        return None if command[0] >> 60 != 7 else (command[1] >> 32 & 0x1FF, not command[1] >> 44 & 0xF)


class Riscv:
    """The RISC-V IOMMU."""

    words = command_words = 2
    high = ((P, 33), (X, 34))
    low = ((R, 0), (W, 1))

    def handle(self, message: FaultMessage) -> int:
        return message.grpid

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last = bool(message.flags & FaultFlags.LAST_PAGE)
        return (
            message.pasid << 12 | 1 << 32 | flags(message, *self.high) | rid << 40,
            message.addr | handle << 3 | last << 2 | flags(message, *self.low),
        )

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1 = record
        perm = perms(word0, *self.high) | perms(word1, *self.low)
        pasid, index, last = word0 >> 12 & 0xFFFFF, word1 >> 3 & 0x1FF, bool(word1 >> 2 & 1)
        return Fault(word0 >> 40, pasid, index, last, perm, word1 & ~0xFFF, 0)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        return 0x84 | fault.pasid << 12 | 1 << 32 | fault.rid << 40, fault.index << 32 | code << 44

    def answer(self, command: tuple[int, ...]) -> tuple[int, bool] | None:
        return None if command[0] & 0x3FF != 0x84 else (command[1] >> 32 & 0x1FF, not command[1] >> 44 & 0xF)


Format = Vtd | Vtd2 | Smmu | Stall | Amd | Riscv
FORMATS: dict[str, Format] = {
    "vtd": Vtd(),
    "vtd-3": Vtd3(),
    "vtd-2": Vtd2(),
    "smmuv3": Smmu(),
    "smmuv3-stall": Stall(),
    "amd": Amd(),
    "riscv": Riscv(),
}


class Guest:
    """The guest: its two queues, its page tables, and its driver."""

    def __init__(self, fmt: Format, tables: AddressSpace, *, places: int = 16, most: int = 1 << 47) -> None:
        self.format, self.tables = fmt, tables
        self.requests, self.commands = Queue(fmt.words, places), Queue(fmt.command_words, places)
        self.most = most  # addresses from here on are nobody's
        self.partial: dict[int, list[Fault]] = {}

    def interrupt(self) -> None:
        """The driver: takes what there is, and answers each group, as long as there is room for the answers."""
        while not self.commands.is_full() and (record := self.requests.take()) is not None:
            fault = self.format.fault(record)
            assert fault.rid == GUEST_RID
            group = self.partial.setdefault(fault.index, [])
            group.append(fault)
            if not fault.last:
                continue
            del self.partial[fault.index]
            code = PageResponse.INVALID if any(one.address >= self.most for one in group) else PageResponse.SUCCESS
            for one in group if code == PageResponse.SUCCESS else []:
                self.tables.map_page(one.pasid, one.address & -PAGE, one.perm)
            self.commands.put(self.format.command(fault, code))


class Vmm:
    """The client of the host's fault queue: it emulates the guest's IOMMU."""

    def __init__(self, machine: Machine, guest: Guest) -> None:
        self.machine, self.guest = machine, guest
        self.channel = machine.open("fd")
        self.waiting: list[FaultMessage] = []  # for room in the guest's queue
        self.cookies: dict[int, int] = {}  # by handle

    def forward(self) -> None:
        """Write what has come into the guest's queue, as far as there is room, and interrupt the guest."""
        self.waiting += self.channel.receive()
        while self.waiting and not self.guest.requests.is_full():
            message = self.waiting.pop(0)
            handle = self.guest.format.handle(message)
            if message.flags & FaultFlags.LAST_PAGE:
                self.cookies[handle] = message.cookie
            self.guest.requests.put(self.guest.format.record(GUEST_RID, message, handle))
        self.guest.interrupt()

    def doorbell(self) -> None:
        """The guest has written commands. One that answers nothing is the guest's mistake, and disturbs nobody else."""
        while (command := self.guest.commands.take()) is not None:
            answer = self.guest.format.answer(command)
            if answer is None or (cookie := self.cookies.pop(answer[0], None)) is None:
                continue
            # A Response Failure of the guest's would stop the host's function, and iommufd takes none.
            self.channel.answer(cookie, PageResponse.SUCCESS if answer[1] else PageResponse.INVALID)
        self.channel.flush()

    def turn(self) -> None:
        self.machine.core.produce()
        self.machine.core.consume()
        self.forward()
        self.doorbell()


def main() -> None:
    for name, fmt in FORMATS.items():
        pages = 1 if name == "smmuv3-stall" else 3  # a stall is a group of one
        with Machine(None, driver="inline", iommu=name, group=pages) as machine:
            guest = Guest(fmt, machine.address_space, most=0x40_0000)
            vmm = Vmm(machine, guest)
            good = [machine.endpoint.access(1, n << 16, FaultPerm.WRITE, pages=pages) for n in range(20)]
            bad = machine.endpoint.access(1, 0x40_0000, FaultPerm.READ)
            while AccessResult.PENDING in {machine.endpoint.result(one) for one in [*good, bad]}:
                vmm.turn()
            assert {machine.endpoint.result(one) for one in good} == {AccessResult.OK}
            assert machine.endpoint.result(bad) is not AccessResult.OK
            assert machine.endpoint.counts().unexpected == 0
            print(f"{name}: {len(good)} groups of {pages} pages went through the guest, and one was refused")


if __name__ == "__main__":
    main()
