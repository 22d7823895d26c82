"""A VMM forwards faults into a guest's virtual IOMMU, of the host's own kind, and takes the guest's answers from it.

The guest's driver finds the vendor's records in a queue in its own memory, as if the hardware had written them. It maps
the pages in its stage-1 tables, and writes the vendor's commands into its command queue.
"""

from __future__ import annotations

from typing import NamedTuple

from uring_iopf import FunctionParts, Machine
from uring_iopf.abi import FaultFlags, FaultPerm, PageResponse
from uring_iopf.abi.records import FaultMessage
from uring_iopf.hardware.endpoint import AccessResult, Endpoint
from uring_iopf.hardware.limits import PAGE_FORMATS
from uring_iopf.hardware.tables import AddressSpace

GUEST_RID = 0x0018
"""The first function's requester id in the guest, which has a PCI bus of its own. The next is one device further."""
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
    pasid: int | None
    index: int  # or the stall tag
    last: bool
    perm: int
    address: int
    private: int  # what the answer must bring back, where the format has that


class Answer(NamedTuple):
    """A command in the guest's queue, as the VMM decodes it. The two numbers name one fault: see `handle`."""

    rid: int
    handle: int
    success: bool


def has_pasid(message: FaultMessage) -> bool:
    """Whether the fault came with a PASID: 0 is one, too."""
    return bool(message.flags & FaultFlags.PASID_VALID)


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
        """The number by which the VMM knows the guest's answer among those of the function: here the group index."""
        return message.grpid

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last = bool(message.flags & FaultFlags.LAST_PAGE)
        word0 = 1 | has_pasid(message) << 8 | rid << 16 | message.pasid << 32 | flags(message, *self.high)
        return word0, message.addr | last << 2 | handle << 3 | flags(message, *self.low), 0, 0

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1, private, _ = record
        perm = perms(word0, *self.high) | perms(word1, *self.low)
        rid, index = word0 >> 16 & 0xFFFF, word1 >> 3 & 0x1FF
        pasid = word0 >> 32 & 0xFFFFF if word0 >> 8 & 1 else None
        return Fault(rid, pasid, index, bool(word1 >> 2 & 1), perm, word1 & ~0xFFF, private)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        pasid = 0 if fault.pasid is None else 1 << 4 | fault.pasid << 32
        return 9 | pasid | code << 12 | fault.rid << 16, fault.index << 3, 0, 0

    def answer(self, command: tuple[int, ...]) -> Answer | None:
        """None: the command is no answer."""
        rid, index, success = command[0] >> 16 & 0xFFFF, command[1] >> 3 & 0x1FF, not command[0] >> 12 & 0xF
        return None if command[0] & 0xF != 9 else Answer(rid, index, success)


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

    def answer(self, command: tuple[int, ...]) -> Answer | None:
        rid, success = command[0] >> 16 & 0xFFFF, not command[0] >> 12 & 0xF
        return None if command[0] & 0x2F != 0x29 else Answer(rid, command[2], success)


class Vtd2:
    """Revision 2: 23 bits of private data, in which the VMM puts its number."""

    words = command_words = 2
    bits = ((R, 0), (W, 1), (X, 2), (P, 3))

    def handle(self, message: FaultMessage) -> int:
        return message.cookie

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last = bool(message.flags & FaultFlags.LAST_PAGE)
        word0 = has_pasid(message) << 2 | last << 3 | message.pasid << 4 | rid >> 8 << 24 | message.grpid << 55
        return word0 | (handle << 32 if last else 0), message.addr | (rid & 0xFF) << 4 | flags(message, *self.bits)

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1 = record
        rid = (word0 >> 24 & 0xFF) << 8 | word1 >> 4 & 0xFF
        pasid = word0 >> 4 & 0xFFFFF if word0 >> 2 & 1 else None
        private = word0 >> 32 & 0x7FFFFF
        return Fault(rid, pasid, word0 >> 55, bool(word0 >> 3 & 1), perms(word1, *self.bits), word1 & ~0xFFF, private)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        pasid = 0 if fault.pasid is None else 1 << 4 | fault.pasid << 32
        return 9 | pasid | fault.rid << 16, code | fault.private << 32 | fault.index << 55

    def answer(self, command: tuple[int, ...]) -> Answer | None:
        rid, private, success = command[0] >> 16 & 0xFFFF, command[1] >> 32 & 0x7FFFFF, not command[1] & 0xF
        return None if command[0] & 0xF != 9 else Answer(rid, private, success)


class Smmu:
    """Arm's SMMUv3: page requests."""

    words = command_words = 2
    bits = ((P, 58), (X, 59), (R, 60), (W, 61))

    def handle(self, message: FaultMessage) -> int:
        return message.grpid

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last = bool(message.flags & FaultFlags.LAST_PAGE)
        return (
            rid | message.pasid << 32 | flags(message, *self.bits) | last << 62 | has_pasid(message) << 63,
            message.addr | handle,
        )

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1 = record
        perm, address = perms(word0, *self.bits), word1 & ~0xFFF
        pasid = word0 >> 32 & 0xFFFFF if word0 >> 63 else None
        return Fault(word0 & 0xFFFFFFFF, pasid, word1 & 0x1FF, bool(word0 >> 62 & 1), perm, address, 0)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        pasid = 0 if fault.pasid is None else 1 << 11 | fault.pasid << 12
        return 0x41 | pasid | fault.rid << 32, fault.index | (2 - code) << 12

    def answer(self, command: tuple[int, ...]) -> Answer | None:
        code = command[1] >> 12 & 3  # 3 is illegal
        is_one = command[0] & 0xFF == 0x41 and code != 3
        return Answer(command[0] >> 32, command[1] & 0x1FF, code == 2) if is_one else None


class Stall:
    """Arm's SMMUv3: stalls. The tag is the VMM's, because the guest may have several SMMUs of the host."""

    words, command_words = 4, 2
    bits = ((P, 33), (X, 34), (R, 35))

    def handle(self, message: FaultMessage) -> int:
        return message.cookie & 0xFFFF

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        word0 = 0x10 | has_pasid(message) << 11 | message.pasid << 12 | rid << 32
        return word0, handle | 1 << 31 | flags(message, *self.bits) | 2 << 40, message.addr, 0

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1, address, _ = record
        perm = perms(word1, *self.bits) | (0 if word1 >> 35 & 1 else W)
        pasid = word0 >> 12 & 0xFFFFF if word0 >> 11 & 1 else None
        return Fault(word0 >> 32, pasid, word1 & 0xFFFF, True, perm, address, 0)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        return 0x44 | (1 if code == PageResponse.SUCCESS else 2) << 12 | fault.rid << 32, fault.index

    def answer(self, command: tuple[int, ...]) -> Answer | None:
        rid, tag, retries = command[0] >> 32, command[1] & 0xFFFF, bool(command[0] >> 12 & 1)
        return None if command[0] & 0xFF != 0x44 else Answer(rid, tag, retries)


class Amd:
    """AMD's IOMMU."""

    words = command_words = 2
    bits = ((X, 49), (R, 50), (W, 53))

    def handle(self, message: FaultMessage) -> int:
        return message.grpid

    def record(self, rid: int, message: FaultMessage, handle: int) -> tuple[int, ...]:
        last, user = bool(message.flags & FaultFlags.LAST_PAGE), not message.perm & P
        word0 = rid | (message.pasid & 0xFFFF) << 16 | handle << 32 | last << 41 | message.pasid >> 16 << 42
        return word0 | flags(message, *self.bits) | user << 54 | has_pasid(message) << 56 | 1 << 60, message.addr

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, address = record
        pasid = word0 >> 16 & 0xFFFF | (word0 >> 42 & 0xF) << 16 if word0 >> 56 & 1 else None
        perm = perms(word0, *self.bits) | (0 if word0 >> 54 & 1 else P)
        return Fault(word0 & 0xFFFF, pasid, word0 >> 32 & 0x1FF, bool(word0 >> 41 & 1), perm, address, 0)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        word0, word1 = fault.rid | 7 << 60, fault.index << 32 | code << 44
        return (word0, word1) if fault.pasid is None else (word0 | fault.pasid << 32, word1 | 1 << 2)

    def answer(self, command: tuple[int, ...]) -> Answer | None:
        rid, index, success = command[0] & 0xFFFF, command[1] >> 32 & 0x1FF, not command[1] >> 44 & 0xF
        return None if command[0] >> 60 != 7 else Answer(rid, index, success)


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
            message.pasid << 12 | has_pasid(message) << 32 | flags(message, *self.high) | rid << 40,
            message.addr | handle << 3 | last << 2 | flags(message, *self.low),
        )

    def fault(self, record: tuple[int, ...]) -> Fault:
        word0, word1 = record
        perm = perms(word0, *self.high) | perms(word1, *self.low)
        pasid = word0 >> 12 & 0xFFFFF if word0 >> 32 & 1 else None
        index, last = word1 >> 3 & 0x1FF, bool(word1 >> 2 & 1)
        return Fault(word0 >> 40, pasid, index, last, perm, word1 & ~0xFFF, 0)

    def command(self, fault: Fault, code: PageResponse) -> tuple[int, ...]:
        pasid = 0 if fault.pasid is None else fault.pasid << 12 | 1 << 32
        return 0x84 | pasid | fault.rid << 40, fault.index << 32 | code << 44

    def answer(self, command: tuple[int, ...]) -> Answer | None:
        rid, index, success = command[0] >> 40 & 0xFFFF, command[1] >> 32 & 0x1FF, not command[1] >> 44 & 0xF
        return None if command[0] & 0x3FF != 0x84 else Answer(rid, index, success)


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
        self.partial: dict[tuple[int, int], list[Fault]] = {}  # by function and group index

    def interrupt(self) -> None:
        """The driver: takes what there is, and answers each group, as long as there is room for the answers."""
        while not self.commands.is_full() and (record := self.requests.take()) is not None:
            fault = self.format.fault(record)
            group = self.partial.setdefault((fault.rid, fault.index), [])
            group.append(fault)
            if not fault.last:
                continue
            del self.partial[fault.rid, fault.index]
            code = PageResponse.INVALID if any(one.address >= self.most for one in group) else PageResponse.SUCCESS
            for one in group if code == PageResponse.SUCCESS else []:
                self.tables.map_page(one.pasid or 0, one.address & -PAGE, one.perm)  # without a PASID: the tables of 0
            self.commands.put(self.format.command(fault, code))


class Vmm:
    """The client of the host's fault queue: it emulates the guest's IOMMU."""

    def __init__(self, machine: Machine, guest: Guest) -> None:
        self.machine, self.guest = machine, guest
        self.channel = machine.open("fd")
        self.waiting: list[FaultMessage] = []  # for room in the guest's queue
        devices = [function.device.id for function in machine.functions.values()]
        self.rids = {device: GUEST_RID + 8 * n for n, device in enumerate(devices)}  # in the guest
        self.cookies: dict[tuple[int, int], int] = {}  # by function and handle
        self.forwarded = 0

    def forward(self) -> None:
        """Write what has come into the guest's queue, as far as there is room, and interrupt the guest."""
        self.waiting += self.channel.receive()
        while self.waiting and not self.guest.requests.is_full():
            message = self.waiting.pop(0)
            rid, handle = self.rids[message.dev_id], self.guest.format.handle(message)
            if message.flags & FaultFlags.LAST_PAGE:
                self.cookies[rid, handle] = message.cookie
            self.guest.requests.put(self.guest.format.record(rid, message, handle))
            self.forwarded += 1
        self.guest.interrupt()

    def doorbell(self) -> None:
        """The guest has written commands. One that answers nothing is the guest's mistake, and disturbs nobody else."""
        while (command := self.guest.commands.take()) is not None:
            answer = self.guest.format.answer(command)
            if answer is None or (cookie := self.cookies.pop((answer.rid, answer.handle), None)) is None:
                continue
            # A Response Failure of the guest's would stop the host's function, and iommufd takes none.
            self.channel.answer(cookie, PageResponse.SUCCESS if answer.success else PageResponse.INVALID)
        self.channel.flush()

    def turn(self) -> None:
        self.machine.core.produce()
        self.machine.core.consume()
        self.forward()
        self.doorbell()


def serve(vmm: Vmm, accesses: list[tuple[Endpoint, int]]) -> list[AccessResult]:
    """Take turns until all accesses have ended."""
    while AccessResult.PENDING in (results := [end.result(ticket) for end, ticket in accesses]):
        vmm.turn()
    assert all(end.counts().unexpected == 0 for end, _ in accesses)
    return results


def two_functions(name: str, fmt: Format) -> None:
    """Two functions whose groups have the same indices. What the second asks for is nobody's."""
    pages = 1 if name == "smmuv3-stall" else 3  # a stall is a group of one
    both = (FunctionParts("first"), FunctionParts("second"))
    with Machine(None, driver="inline", iommu=name, group=pages, functions=both) as machine:
        vmm = Vmm(machine, Guest(fmt, machine.address_space, most=0x40_0000))
        first, second = (function.endpoint for function in machine.functions.values())
        good = [(first, first.access(1, n << 16, W, pages=pages)) for n in range(20)]
        bad = [(second, second.access(1, 0x40_0000 + (n << 16), R)) for n in range(20)]
        results = serve(vmm, good + bad)
        assert results == [AccessResult.OK] * 20 + [AccessResult.INVALID] * 20
        print(f"{name}: the guest mapped {len(good)} groups of {pages} pages, and refused {len(bad)} groups")


def two_stages(name: str, fmt: Format) -> None:
    """Nothing of the guest's memory is pinned: each page faults in the guest's stage, and then in the host's."""
    one = (FunctionParts(pasids=(1,)),)  # which the guest has enabled: without that nothing stalls
    with Machine(None, driver="inline", iommu=name, stage2=0.0, functions=one) as machine:
        vmm = Vmm(machine, Guest(fmt, machine.address_space))
        end = machine.endpoint
        results = serve(vmm, [(end, end.access(1, n << 16, W)) for n in range(20)])
        assert set(results) == {AccessResult.OK}
        assert machine.stages is not None
        counts = machine.stages.counts()
        assert vmm.forwarded == counts.to_guest == counts.by_host == 20
        print(f"{name}: {vmm.forwarded} of {counts.faults} faults went to the guest, the host served {counts.by_host}")


def main() -> None:
    for name, fmt in FORMATS.items():
        two_functions(name, fmt)
        if name in PAGE_FORMATS:
            two_stages(name, fmt)


if __name__ == "__main__":
    main()
