"""Find out what each field of a fault becomes, through the real models: ``python docs/message_formats.py``.

Prints ``docs/reference/message-formats.md``; a test holds that page to it. No row is written by hand. For each IOMMU
and kind of fault, one field of the fault after the other is varied, bit by bit, and sent. Whatever varies with it is
the place of that field: bits of the record in the IOMMU's queue, fields of the message that the client reads, bits of
the command that its answer becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from uring_iopf.abi import FaultPerm, PageResponse
from uring_iopf.abi.records import FaultMessage
from uring_iopf.core import Core
from uring_iopf.hardware.endpoint import Endpoint
from uring_iopf.hardware.iommus.amd import AmdIommu
from uring_iopf.hardware.iommus.device import DeviceFaults
from uring_iopf.hardware.iommus.device_log import DeviceLog
from uring_iopf.hardware.iommus.iommu import Iommu
from uring_iopf.hardware.iommus.riscv import RiscvIommu
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.pri import PageRequest
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context

PAGE: Final = Path(__file__).resolve().parent / "reference" / "message-formats.md"
NONE: Final = "\N{EN DASH}"
UNUSED: Final = ("cookie",)
"""Fields of the message that are the queue's, not the fault's."""


@dataclass(frozen=True)
class Fault:
    """A fault, with all that any device may say of it."""

    requester_id: int = 0x100
    pasid: int | None = 5
    index: int = 3
    last: bool = True
    read: bool = True
    write: bool = False
    execute: bool = False
    privileged: bool = False
    page: int = 0x10000
    offset: int = 0
    private_data: tuple[int, int] | None = None
    stage: int = 1
    prefetch: int = 0
    done: int = 0
    """Pages of the operation in front of this one, which are there."""


class Seen(NamedTuple):
    """What a fault became on its way; a part is empty where it did not come."""

    record: tuple[int, ...]
    message: FaultMessage | None
    answer: tuple[int, ...]
    refusal: tuple[int, ...]
    outstanding: int
    """Page requests of the function that have no answer in the end."""


class Site:
    """Functions behind an IOMMU, with a fault queue for all. The one with *requester_id* is looked at."""

    def __init__(
        self,
        make: Callable[[Core], Iommu],
        make_end: Callable[..., Endpoint],
        requester_id: int,
        others: Iterable[int],
    ) -> None:
        self.stack = ExitStack()
        core = self.core = self.stack.enter_context(Core(kernel="7.2"))
        context = Context(core)
        self.iommu = make(core)
        self.stack.callback(self.iommu.close)
        ends = {one: make_end(self.iommu, requester_id=one) for one in {*others, requester_id}}
        self.end = ends[requester_id]
        for one in ends.values():
            self.stack.callback(one.close)
        self.stack.callback(context.close)
        self.queue = context.fault_queue_alloc()
        for one in ends.values():
            device = context.bind(self.iommu, one.requester_id, 600)
            parent = context.hwpt_alloc_paging(device, context.ioas_alloc(), nest_parent=True)
            self.iommu.bind(one, device)
            device.attach(context.hwpt_alloc_nested(device, parent, fault=self.queue))

    def probe(self, send: Callable[[], object], code: PageResponse, queue: int = 0) -> Seen:
        """Send a fault, and follow it."""
        with self.iommu.interrupt_held():
            send()
            self.core.produce()
            record = self.iommu.read_record(queue)
        before = self.iommu.read_command(refusal=True)
        self.core.produce()
        messages = self.queue.read_messages()
        refusal = self.iommu.read_command(refusal=True)
        for message in messages:
            self.queue.respond(message.cookie, code)
        answer = self.iommu.read_command() if messages else ()
        self.core.produce()
        message = messages[-1] if messages else None
        return Seen(record, message, answer, () if refusal == before else refusal, self.end.counts().outstanding)


@dataclass(frozen=True)
class Kind:
    """One kind of fault of one IOMMU."""

    name: str
    make: Callable[[Core], Iommu]
    stalls: bool = False
    stream: bool = False
    base: Fault = field(default_factory=Fault)
    device: bool = False
    """It is no IOMMU, but a device with a driver of its own."""
    is_big_endian: bool = False
    """The words of its records are."""
    private_words: int = 0
    """The bits of private data that there are to vary."""

    def probe(self, fault: Fault, code: PageResponse = PageResponse.SUCCESS, others: Iterable[int] = ()) -> Seen:
        """Send one fault, in a machine that also has functions with the requester ids *others*."""
        if self.stalls:
            return self._stall(fault, code, others)
        site = Site(self.make, Endpoint, fault.requester_id, others)
        with site.stack:
            site.end.enable_pri()
            request = PageRequest(
                fault.page,
                fault.index,
                fault.read,
                fault.write,
                fault.last and not self.stream,
                fault.pasid,
                fault.execute,
                fault.privileged,
                private_data=fault.private_data,
                stream=self.stream,
            )
            return site.probe(partial(site.end.send, request), code)

    def _stall(self, fault: Fault, code: PageResponse, others: Iterable[int]) -> Seen:
        options = {} if self.device else {"stage": fault.stage}
        if fault.prefetch:
            options["prefetch"] = fault.prefetch
        site = Site(self.make, partial(Endpoint, stalls=512, **options), fault.requester_id, others)
        assert fault.pasid is not None, "a transaction of an access has one"
        perm = FaultPerm(0)
        for perm_bit, asked in (
            (FaultPerm.READ, fault.read),
            (FaultPerm.WRITE, fault.write),
            (FaultPerm.EXEC, fault.execute),
        ):
            perm |= perm_bit if asked else FaultPerm(0)
        with site.stack:
            for _ in range(fault.index):  # whose tags come before
                site.end.access(1, 0, FaultPerm.READ)
            if fault.done:
                space = AddressSpace()
                site.stack.callback(space.close)
                site.end.use_tables(space)
                for page in range(fault.page - fault.done * 4096, fault.page, 4096):
                    space.map_page(fault.pasid, page, perm)
            while site.end.counts().outstanding or site.end.counts().waiting:
                site.core.produce()
                for message in site.queue.read_messages():
                    site.queue.respond(message.cookie, PageResponse.INVALID)
            begins = fault.page + fault.offset - fault.done * 4096
            access = partial(site.end.access, fault.pasid, begins, perm, pages=fault.done + 1)
            if not self.device:
                return site.probe(access, code, queue=1)
            seen = site.probe(access, code)
            if not self.is_big_endian:
                return seen
            return seen._replace(record=big_endian(seen.record), answer=big_endian(seen.answer))


def big_endian(words: Iterable[int]) -> tuple[int, ...]:
    """The same bytes, as big-endian words."""
    return tuple(int.from_bytes(word.to_bytes(8, "little"), "big") for word in words)


KINDS: Final = (
    Kind("VT-d 4", VtdIommu),
    Kind("VT-d 3", partial(VtdIommu, revision=3), base=Fault(private_data=(0, 0)), private_words=128),
    Kind("VT-d 2", partial(VtdIommu, revision=2), base=Fault(private_data=(0, 0)), private_words=23),
    Kind(
        "VT-d 2, stream",
        partial(VtdIommu, revision=2),
        stream=True,
        base=Fault(private_data=(0, 0)),
        private_words=23,
    ),
    Kind("SMMUv3, PRI", SmmuV3Iommu),
    Kind("SMMUv3, stall", SmmuV3Iommu, stalls=True),
    Kind("AMD", AmdIommu),
    Kind("RISC-V", RiscvIommu),
    Kind("RDMA", DeviceFaults, stalls=True, device=True, is_big_endian=True),
    Kind("event log", DeviceLog, stalls=True, device=True),
)


def bits(low: int, high: int) -> list[int]:
    """Numbers with one bit each."""
    return [1 << n for n in range(low, high)]


def variations(kind: Kind) -> dict[str, list[Fault]]:
    """For each field of a fault of this kind, faults in which only that one differs."""
    base = kind.base
    found = {
        "requester id": [replace(base, requester_id=one) for one in bits(0, 16)],
        "PASID": [replace(base, pasid=one) for one in [0, *bits(0, 20)]],
        "group index or tag": [replace(base, index=one) for one in [0, *bits(0, 9)]],
        "read, write": [base, replace(base, read=False, write=True)],
        "execute": [base, replace(base, execute=True)],
        "page address": [replace(base, page=one) for one in [0, *bits(12, 47)]],
    }
    if kind.stalls:
        found["byte address"] = [replace(base, offset=one) for one in [0, *bits(0, 12)]]
    if kind.make is DeviceFaults:
        found["pages wanted behind it"] = [replace(base, prefetch=one) for one in [0, *bits(0, 8)]]
    if kind.make is DeviceLog:
        found["bytes done before it"] = [replace(base, done=one) for one in range(4)]
    if kind.device:
        return found
    if kind.stalls:
        found |= {
            "stage": [replace(base, page=0x7FFF_FFFF_F000, stage=one) for one in (1, 2)],
        }
        return found
    # Execute without read is what VT-d's driver lets through.
    found["execute"] = [replace(base, read=False, write=True, execute=one) for one in (False, True)]
    found["PASID is there"] = [replace(base, pasid=0), replace(base, pasid=None)]
    found["privileged"] = [base, replace(base, privileged=True)]
    if not kind.stream:
        found["last of its group"] = [base, replace(base, last=False)]
    if kind.private_words:
        words = [0, *bits(0, kind.private_words)]
        found["private data"] = [replace(base, private_data=(one % 2**64, one >> 64)) for one in words]
    return found


FIELDS: Final = (
    "requester id",
    "PASID",
    "PASID is there",
    "group index or tag",
    "last of its group",
    "read, write",
    "execute",
    "privileged",
    "page address",
    "byte address",
    "private data",
    "stage",
    "pages wanted behind it",
    "bytes done before it",
)


class Place(NamedTuple):
    """Where a field of a fault is, on its way."""

    record: str
    message: str
    answer: str


NOWHERE: Final = Place(NONE, NONE, NONE)


def ranges(varying: Iterable[tuple[int, int]]) -> str:
    """Bits of words, by number: ``0: 51:32``."""
    by_word: dict[int, list[int]] = {}
    for word, bit in sorted(varying):
        by_word.setdefault(word, []).append(bit)
    parts = []
    for word, numbers in by_word.items():
        runs: list[list[int]] = []
        for bit in numbers:
            if runs and bit == runs[-1][1] + 1:
                runs[-1][1] = bit
            else:
                runs.append([bit, bit])
        shown = ", ".join(str(low) if low == high else f"{high}:{low}" for low, high in reversed(runs))
        parts.append(f"{word}: {shown}")
    return "; ".join(parts) or NONE


def varying_bits(words: list[tuple[int, ...]]) -> set[tuple[int, int]]:
    """The bits that are not the same in all of these."""
    same = [one for one in words if one]
    return {
        (n, bit)
        for one in same
        for n, (word, first) in enumerate(zip(one, same[0], strict=True))
        for bit in range(64)
        if (word ^ first) >> bit & 1
    }


def place(seen: list[Seen]) -> Place:
    """Where the field is in which these faults differ."""
    messages = [one.message for one in seen if one.message is not None]
    names = [
        name
        for name in FaultMessage._fields
        if name not in UNUSED and len({getattr(one, name) for one in messages}) > 1
    ]
    # Whatever is told apart by the hardware must be told apart by the client, or some of it is lost.
    records = {one.record for one in seen}
    told = {tuple(getattr(one, name) for name in names) for one in messages}
    in_message = ", ".join(f"`{name}`" for name in names)
    if any(one.refusal for one in seen) and len(messages) < len(seen):
        in_message = f"{in_message}, some refused" if names else "refused"
    elif len(messages) < len(seen):
        in_message = f"{in_message + ', ' if in_message else ''}waits for the last"
    elif len(records) > 1 and not names:
        in_message = "**lost**"
    elif len(told) < len(records):
        in_message += ", not all of it"
    return Place(
        ranges(varying_bits([one.record for one in seen])),
        in_message or NONE,
        ranges(varying_bits([one.answer for one in seen])),
    )


def survey() -> dict[str, dict[str, list[Seen]]]:
    """For each kind and field, what became of the faults that differ in it."""
    return {
        kind.name: {
            name: [kind.probe(fault, others=[one.requester_id for one in faults]) for fault in faults]
            for name, faults in variations(kind).items()
        }
        for kind in KINDS
    }


def never_set(found: Mapping[str, Mapping[str, list[Seen]]]) -> list[str]:
    """The fields that are 0 in every message."""
    messages = [one.message for fields in found.values() for seen in fields.values() for one in seen if one.message]
    return [name for name in FaultMessage._fields if not any(getattr(one, name) for one in messages)]


def codes(kind: Kind) -> tuple[int, int, dict[str, int]]:
    """The word and the lowest bit of the client's code in the answer, and its value for each that the queue takes."""
    answers = {code.name: kind.probe(kind.base, code).answer for code in (PageResponse.SUCCESS, PageResponse.INVALID)}
    word, low = min(varying_bits(list(answers.values())))
    return word, low, {name: words[word] >> low & 0xF for name, words in answers.items()}


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def page(survey: Mapping[str, Mapping[str, list[Seen]]]) -> str:
    """The whole page."""
    found = {kind: {name: place(seen) for name, seen in fields.items()} for kind, fields in survey.items()}
    unset = ", ".join(f"`{name}`" for name in never_set({one: survey[one] for one in survey if one != "RDMA"}))
    names = [kind.name for kind in KINDS]
    lines = [INTRODUCTION, row("field of the fault", *names), row(*["---"] * (len(names) + 1))]
    lines += [row(one, *(found[name].get(one, NOWHERE).message for name in names)) for one in FIELDS]
    lines += ["", f"In all messages but those of RDMA these fields are 0: {unset}.", "", BETWEEN.rstrip()]
    for kind in KINDS:
        lines += [
            "",
            f"## {kind.name}",
            "",
            row("field of the fault", "record", "message", "answer"),
            row(*["---"] * 4),
        ]
        lines += [row(one, *found[kind.name][one]) for one in FIELDS if one in found[kind.name]]
        word, low, values = codes(kind)
        said = " and ".join(f"{name} is {value}" for name, value in values.items())
        lines += ["", f"The client's code is in word {word} of the answer, from bit {low} on: {said}."]
    return "\n".join([*lines, ""])


INTRODUCTION: Final = f"""# One message format for all?

In 2023 reviewers asked whether one message can carry the faults of all IOMMUs. This page answers by experiment: it is
the output of `python docs/message_formats.py`, and a test holds it to that. The script varies one field of a fault
after the other, bit by bit. It follows each fault through the emulated hardware, its driver and a
[fault queue](glossary.md#fault-queue), and its answer back. Whatever varies with a field is the place of that field.

## The message

Linux's message has the fields `flags`, `dev_id`, `pasid`, `grpid`, `perm`, `addr`, `length` and `cookie`.

- A field's name: it carries this part of the fault, and all of it.
- **lost**: the hardware says it, and the message does not.
- refused: Linux's driver answers such a fault by itself.
- waits for the last: there is no message before the last request of the group.
- {NONE}: the hardware does not say it.
"""
BETWEEN: Final = """The last two columns are no IOMMUs. [An RDMA adapter](iommu-device.md) reports its faults itself,
and says how many pages it wants; all other faults are of one page each. [An accelerator](iommu-device-log.md) has an
event log. How far its operation had come is for its submitter, and the driver gives it back.

No IOMMU's page request says which stage of translation has no page. Only a stall does, and the message drops it.
Private data and the stream response need no place in the message: the driver keeps the part that the answer must bring
back. A client that forwards faults to a guest needs it all the same, if the guest has that hardware. The message of the
series of 2023 had a place for private data ([VT-d](iommu-vtd.md#revision-3-private-data)). A request with private data
is the last of its group to Linux's driver, whether it is or not.

The tables below have the bits. `0: 51:32` are the bits 51 to 32 of the first word of 64 bits. Only bits that varied are
in them: tags of the emulated SMMUv3 have 9 bits of 16, and addresses have 47. The words of the RDMA adapter are
big-endian. The group index of the other device is the place of its operation.
"""

if __name__ == "__main__":
    print(page(survey()), end="")  # noqa: T201  that is what it is for
