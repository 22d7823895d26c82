"""Find out what each field of a fault becomes, through the real models: ``python docs/message_formats.py``.

Prints ``docs/reference/message-formats.md``; a test holds that page to it. The fields of each vendor's record are in
``tests/data/fault_records.json``, from the specifications; what becomes of them is found out, in two ways.

A function sends faults in which one property after the other differs, and each is delivered and answered. Whatever bits
of the record differ then are those that a function sets.

In a record that a function has sent, one bit after the other is changed in the queue, before the driver reads it.
Whatever differs in the message carries that bit. If nothing does, it is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
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

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "reference" / "message-formats.md"
RECORDS: Final = json.loads((ROOT / "tests" / "data" / "fault_records.json").read_text(encoding="utf-8"))
"""For each kind of fault: the number of words of its record, and the record's fields."""
NONE: Final = "\N{EN DASH}"
NO_PLACE: Final = "no place"
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


class Read(NamedTuple):
    """What the driver made of a record. Neither a message nor refused: it has passed it over."""

    message: FaultMessage | None
    answer: tuple[int, ...]
    refused: bool


class Site:
    """Functions behind an IOMMU, with a fault queue for all. The one with *requester_id* is looked at."""

    def __init__(
        self,
        make: Callable[[Core], Iommu],
        make_end: Callable[..., Endpoint],
        requester_id: int,
        others: Iterable[int],
        kernel: str = "7.2",
    ) -> None:
        self.stack = ExitStack()
        core = self.core = self.stack.enter_context(Core(kernel=kernel))
        context = Context(core)
        self.iommu = make(core)
        self.stack.callback(self.iommu.close)
        ends = {one: make_end(self.iommu, requester_id=one) for one in sorted({*others, requester_id})}
        self.ends = list(ends.values())
        self.end = ends[requester_id]
        self.sent = 0
        """Page requests whose records have been overwritten: they have no answer."""
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

    def write(self, send: Callable[[], object], record: Sequence[int], queue: int) -> list[FaultMessage]:
        """Send any fault, put *record* in the place of its record, and let the driver read that."""
        with self.iommu.interrupt_held():
            send()
            self.core.produce()
            self.iommu.write_record(record, queue)
        self.core.produce()
        return self.queue.read_messages()


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
    kernel: str = "7.2"
    answer_type: int = 0
    """The bits of an answer's first word that say what answer it is, where there are several."""

    def probe(self, fault: Fault, code: PageResponse = PageResponse.SUCCESS, others: Iterable[int] = ()) -> Seen:
        """Send one fault, in a machine that also has functions with the requester ids *others*."""
        if self.stalls:
            return self._stall(fault, code, others)
        site = self._site(fault, others)
        with site.stack:
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
        site = self._site(fault, others)
        assert fault.pasid is not None, "a transaction of an access has one"
        perm = FaultPerm(0)
        for perm_bit, asked in (
            (FaultPerm.READ, fault.read),
            (FaultPerm.WRITE, fault.write),
            (FaultPerm.EXEC, fault.execute),
            (FaultPerm.PRIV, fault.privileged),
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
            seen = site.probe(access, code, self._queue)
            return seen._replace(record=self._words(seen.record), answer=self._words(seen.answer))

    def _site(self, fault: Fault, others: Iterable[int]) -> Site:
        """A function that can have this fault."""
        if not self.stalls:
            site = Site(self.make, Endpoint, fault.requester_id, others, self.kernel)
            site.end.enable_pri()
            return site
        options = {} if self.device else {"stage": fault.stage}
        if fault.prefetch:
            options["prefetch"] = fault.prefetch
        return Site(self.make, partial(Endpoint, stalls=512, **options), fault.requester_id, others, self.kernel)

    @property
    def _queue(self) -> int:
        return 1 if self.stalls and not self.device else 0

    def _words(self, words: tuple[int, ...]) -> tuple[int, ...]:
        """Words as they are read, in the order of the vendor's bits; and back."""
        return big_endian(words) if self.is_big_endian else words

    def open_site(self, others: Iterable[int]) -> Site:
        """A function that faults, and others. What is no IOMMU knows each by a number, from its first fault on."""
        site = self._site(self.base, others)
        if self.device:
            for end in site.ends:
                end.access(5, 0, FaultPerm.READ)
                site.core.produce()
                for message in site.queue.read_messages():
                    site.queue.respond(message.cookie, PageResponse.INVALID)
                site.core.produce()
        return site

    def write(self, site: Site, record: tuple[int, ...], last: tuple[int, ...]) -> Read:
        """Let the driver read *record*, and *last* behind it if it waits for the last of the group."""
        before = site.iommu.read_command(refusal=True)
        messages = site.write(self._any_fault(site), self._words(record), self._queue)
        refused = site.iommu.read_command(refusal=True) != before
        if not messages and not refused:
            messages = site.write(self._any_fault(site), self._words(last), self._queue)
            if len(messages) == 1:  # its own
                messages.clear()
        if not messages:
            return Read(None, (), refused)
        site.queue.respond(messages[-1].cookie, PageResponse.SUCCESS)
        return Read(messages[0], self._words(site.iommu.read_command()), refused=False)

    def _any_fault(self, site: Site) -> Callable[[], object]:
        if self.stalls:
            return partial(site.end.access, 5, 0x20000, FaultPerm.READ)
        site.sent += 1
        return partial(site.end.send, PageRequest(0x20000, 8 + site.sent, read=True, pasid=5))


def big_endian(words: Iterable[int]) -> tuple[int, ...]:
    """The same bytes, as big-endian words."""
    return tuple(int.from_bytes(word.to_bytes(8, "little"), "big") for word in words)


KINDS: Final = (
    Kind("VT-d 4", partial(VtdIommu, needs_pasid=False)),
    Kind("VT-d 4, Linux 6.12", VtdIommu, kernel="6.12"),
    Kind("VT-d 3", partial(VtdIommu, revision=3), base=Fault(private_data=(0, 0)), private_words=128),
    Kind("VT-d 2", partial(VtdIommu, revision=2), base=Fault(private_data=(0, 0)), private_words=23, answer_type=15),
    Kind(
        "VT-d 2, stream",
        partial(VtdIommu, revision=2),
        stream=True,
        base=Fault(private_data=(0, 0)),
        private_words=23,
        answer_type=15,
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
            "privileged": [base, replace(base, privileged=True)],
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


def contexts(kind: Kind) -> list[Fault]:
    """Faults of this kind whose records are changed: with all properties that a bit's meaning may depend on."""
    base = kind.base
    found = [base, replace(base, read=False, write=True), replace(base, write=True)]
    if kind.device:
        return found
    found += [replace(one, execute=True) for one in found[:3]]
    if kind.stalls:
        return found
    found += [replace(one, privileged=True) for one in found[:6]]
    nothing = replace(base, read=False)
    found += [nothing, replace(nothing, execute=True), replace(nothing, privileged=True)]
    found += [replace(one, private_data=None) for one in found if one.private_data]
    found += [replace(one, last=False) for one in found]
    return [*found, *(replace(one, pasid=None, execute=False, privileged=False) for one in found)]


class Bit(NamedTuple):
    """A bit of a record, by the number of its word."""

    word: int
    bit: int


def bits_of(at: str) -> list[Bit]:
    """The bits at a place such as ``0: 51:32; 1: 2``, lowest first."""
    found = []
    for part in at.split("; "):
        word, _, numbers = part.partition(": ")
        for one in numbers.split(", "):
            high, _, low = one.partition(":")
            found += [Bit(int(word), bit) for bit in range(int(low or high), int(high) + 1)]
    return found


def changed(record: tuple[int, ...], bit: Bit) -> tuple[int, ...]:
    """The record with this bit changed."""
    return tuple(word ^ (1 << bit.bit if n == bit.word else 0) for n, word in enumerate(record))


class Change(NamedTuple):
    """What has come of changing one bit of one record, whose own message is *before*."""

    bit: Bit
    before: Read
    after: Read

    @property
    def names(self) -> list[str]:
        """The fields of the message that have changed with it."""
        if self.after.message is None:
            return []
        old, new = self.before.message, self.after.message
        return [
            name for name in FaultMessage._fields if name not in UNUSED and getattr(old, name) != getattr(new, name)
        ]


class Driver:
    """The driver of one kind of fault, and records that it reads."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.contexts = list(dict.fromkeys(contexts(kind)))
        self._records: dict[Fault, tuple[int, ...]] = {}
        self._read: dict[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], Read] = {}
        self._sites: dict[tuple[int, ...], Site] = {}

    def close(self) -> None:
        """End the machines."""
        while self._sites:
            self._sites.popitem()[1].stack.close()

    def record(self, fault: Fault) -> tuple[int, ...]:
        """What the hardware writes for it."""
        if fault not in self._records:
            self._records[fault] = self.kind.probe(fault).record
        return self._records[fault]

    def _written(self, record: tuple[int, ...], last: tuple[int, ...], others: tuple[int, ...]) -> Read:
        key = (record, last, others)
        if key not in self._read:
            if others not in self._sites:
                self._sites[others] = self.kind.open_site(others)
            site = self._sites[others]
            self._read[key] = read = self.kind.write(site, record, last)
            if read.message is None or site.sent > MOST_SENT:  # something may have been kept of it
                self._sites.pop(others).stack.close()
        return self._read[key]

    def change(self, bit: Bit, fault: Fault, means: str) -> Change | None:
        """Change a bit of the record of *fault*. None: there is no message of it as it is."""
        record, last = (
            self.record(fault),
            self.record(replace(self.kind.base, pasid=fault.pasid, private_data=fault.private_data)),
        )
        if not record:  # the hardware keeps it out of the queue
            return None
        changed_last = changed(last, bit) if means in OF_A_GROUP else last
        found = None
        for others in self._others(means):
            before = self._written(record, last, others)
            if before.message is None:
                return None
            found = Change(bit, before, self._written(changed(record, bit), changed_last, others))
            if found.names:
                break
        return found

    def _others(self, means: str) -> list[tuple[int, ...]]:
        """Functions beside the one that faults, so that a changed number has one, too. There is room for 16."""
        if means in ("key", "work queue"):
            return [tuple(range(0x101, 0x110))]
        if means == "requester id":
            return [tuple(self.kind.base.requester_id ^ one for one in some) for some in (bits(0, 8), bits(8, 16))]
        return [()]

    def changes(self, at: str, means: str) -> list[Change]:
        """All that comes of changing the bits of a field: of a narrow one in all contexts, of another in one."""
        all_bits = bits_of(at)
        faults = self.contexts
        if means in ("execute", "privileged"):  # which there are with a PASID only
            faults = [one for one in faults if one.pasid is not None]
        if means == "PASID is there":  # without a PASID of its own, which would go with it
            faults = [replace(one, pasid=0) for one in faults if one.pasid] + faults
        found: list[Change] = []
        for fault in dict.fromkeys(faults):
            some = [change for bit in all_bits if (change := self.change(bit, fault, means)) is not None]
            found += some
            if some and (len(all_bits) > NARROW or means == "PASID is there"):
                break
        return found


MOST_SENT: Final = 400
OF_A_GROUP: Final = ("requester id", "group index or tag", "key")
"""What all requests of a group have in common."""
NARROW: Final = 2
"""Bits. A wider field is a number, and means the same in each fault."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a field of a record, or of some, of all the changes of its bits."""

    changes: tuple[Change, ...]
    constant: bool
    """It is the same in each fault of this kind."""
    answer_type: int = 0
    """The bits of an answer's first word that say how the others are to be read."""

    def text(self, *, short: bool = False) -> str:
        """For a table. *short*: without the bits that are lost."""
        names = {name for one in self.changes for name in one.names}
        parts = [", ".join(f"`{name}`" for name in FaultMessage._fields if name in names)] if names else []
        read = [one for one in self.changes if one.after.message is not None]
        carried = {one.bit for one in read if one.names}
        lost = {one.bit for one in read} - carried
        if names and lost:
            parts.append("not all of it" if short else f"not {ranges(lost)}")
        elif names and any(not one.names for one in read):
            parts.append("not always")
        elif read and not names:
            parts.append(NO_PLACE if self.constant else "**lost**")
        for what, some in (
            ("refused", [one for one in self.changes if one.after.refused]),
            ("passed over", [one for one in self.changes if one.after.message is None and not one.after.refused]),
        ):
            if some:
                parts.append(what if len(some) == len(self.changes) else f"some {what}")
        if self.constant and not read:
            parts = [NO_PLACE, *(f"others {part}" for part in parts)]
        return ", ".join(parts)

    def answer(self) -> str:
        """The bits of the answer that change with it."""
        if any(
            one.after.answer and (one.before.answer[0] ^ one.after.answer[0]) & self.answer_type for one in self.changes
        ):
            return "of another type"
        return ranges(
            varying for one in self.changes for varying in varying_bits([one.before.answer, one.after.answer])
        )


@dataclass(frozen=True)
class Field:
    """A field of a vendor's record."""

    name: str
    at: str
    means: str
    """What it is the same as in other vendors' records; empty: it is reserved."""
    constant: int | None
    verdict: Verdict
    expected: tuple[str, str]
    """What its verdict is to be, and the bits of the answer that are to change with it."""
    is_varied: bool
    """Whether a function sets it, of those that are here."""


def judged(kind: Kind, sent: Iterable[Seen]) -> list[Field]:
    """All fields of a kind's record, in their order, and what becomes of them. *sent*: all that functions have sent."""
    varying = varying_bits([one.record for one in sent])
    with closing(Driver(kind)) as driver:
        return [
            Field(
                one["field"],
                one["at"],
                one.get("means", ""),
                one.get("constant"),
                Verdict(tuple(driver.changes(one["at"], one.get("means", ""))), "constant" in one, kind.answer_type),
                (one.get("message", ""), one.get("answer", "")),
                not varying.isdisjoint(bits_of(one["at"])),
            )
            for one in RECORDS[kind.name]["fields"]
        ]


def ranges(varying: Iterable[tuple[int, int]]) -> str:
    """Bits of words, by number: ``0: 51:32``."""
    by_word: dict[int, list[int]] = {}
    for word, bit in sorted(set(varying)):
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
    """The bits that are not the same in all of these; what is empty does not count."""
    same = [one for one in words if one]
    return {
        (n, bit)
        for one in same
        for n, (word, first) in enumerate(zip(one, same[0], strict=True))
        for bit in range(64)
        if (word ^ first) >> bit & 1
    }


def survey() -> dict[str, dict[str, list[Seen]]]:
    """For each kind and property of a fault, what became of the faults that differ in it."""
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


def all_fields(survey: Mapping[str, Mapping[str, list[Seen]]]) -> dict[str, list[Field]]:
    """For each kind, the fields of its record."""
    return {kind.name: judged(kind, [one for sent in survey[kind.name].values() for one in sent]) for kind in KINDS}


def in_all(fields: Mapping[str, list[Field]]) -> list[str]:
    """The table of all kinds: a row for whatever any record says."""
    rows = list(dict.fromkeys(one.means for some in fields.values() for one in some if one.means))
    lines = [row("field of the fault", *fields), row(*["---"] * (len(fields) + 1))]
    for means in sorted(rows, key=ORDER.index):
        cells = []
        for some in fields.values():
            same = [one for one in some if one.means == means]
            changes = tuple(change for one in same for change in one.verdict.changes)
            constant = all(one.constant is not None for one in same)
            cells.append(Verdict(changes, constant).text(short=True) if same else NONE)
        lines.append(row(means, *cells))
    return lines


def page(survey: Mapping[str, Mapping[str, list[Seen]]], fields: Mapping[str, list[Field]]) -> str:
    """The whole page."""
    unset = ", ".join(f"`{name}`" for name in never_set({one: survey[one] for one in survey if one != "RDMA"}))
    lines = [INTRODUCTION, *in_all(fields)]
    lines += ["", f"In all messages but those of RDMA these fields are 0: {unset}.", "", BETWEEN.rstrip()]
    for kind in KINDS:
        lines += [
            "",
            f"## {kind.name}",
            "",
            row("field of the record", "bits", "what it says", "message", "answer"),
            row(*["---"] * 5),
        ]
        for one in fields[kind.name]:
            if not one.means:
                continue
            name = one.name if one.is_varied else f"{one.name} {BY_HAND}"
            message = one.verdict.text()
            if one.constant is not None:
                message = message.replace(NO_PLACE, f"{NO_PLACE} (always {one.constant:#x})")
            lines.append(row(name, one.at, one.means, message, one.verdict.answer()))
        reserved = "; ".join(one.at for one in fields[kind.name] if not one.means)
        if reserved:
            lines += ["", f"Reserved, and in no message: {reserved}."]
        word, low, values = codes(kind)
        said = " and ".join(f"{name} is {value}" for name, value in values.items())
        lines += ["", f"The client's code is in word {word} of the answer, from bit {low} on: {said}."]
    return "\n".join([*lines, ""])


ORDER: Final = (
    "requester id",
    "segment",
    "work queue",
    "key",
    "PASID",
    "PASID is there",
    "group index or tag",
    "last of its group",
    "read, write",
    "execute",
    "privileged",
    "page address",
    "byte address",
    "size",
    "pages wanted before it",
    "pages wanted behind it",
    "private data are there",
    "private data",
    "kind of answer",
    "access to its record",
    "stage",
    "intermediate address",
    "reason",
    "what was looked up",
    "operation",
    "bytes done before it",
    "batch",
    "interrupt handle",
    "reserved bit set",
    "bof",
    "kind of record",
    "owner and signature",
)
BY_HAND: Final = "\N{DAGGER}"

INTRODUCTION: Final = f"""# One message format for all?

In 2023 reviewers asked whether one message can carry the faults of all IOMMUs. This page answers by experiment: it is
the output of `python docs/message_formats.py`, and a test holds it to that. The script has the fields of each vendor's
record from the specifications. It changes each bit of a record in the hardware's queue, and lets the driver read that.
Whatever changes in the message of the [fault queue](glossary.md#fault-queue) carries the bit.

## The message

Linux's message has the fields `flags`, `dev_id`, `pasid`, `grpid`, `perm`, `addr`, `length` and `cookie`. Each field of
each record is in a row of this table:

- A field's name: it carries this part of the fault. *Not all of it*: bits of it are lost. *Not always*: in some faults.
- **lost**: the hardware says it, and the message does not.
- no place: the message has none, and nothing is lost. The field is the same in each fault of this kind.
- refused: the driver answers such a fault by itself.
- passed over: the driver reports no fault. Such a request is, for example, a stop marker.
- {NONE}: the hardware does not say it.
"""
BETWEEN: Final = f"""The last two columns are no IOMMUs. [An RDMA adapter](iommu-device.md) reports its faults itself,
and says how many pages it wants; `length` is the sum of the size and of the pages behind it. All other faults are of
one page each. Its key stands for a function and a PASID. [An accelerator](iommu-device-log.md) has an event log. How
far its operation had come is for its submitter, and the driver gives it back.

No IOMMU's page request says which stage of translation has no page. Only a stall does, and the message drops it, with
the reason and with what was looked up: a page that may not be written looks like one that is missing. Private data and
the stream response need no place in the message: the driver keeps the part that the answer must bring back. A client
that forwards faults to a guest needs it all the same, if the guest has that hardware. The message of the series of 2023
had a place for private data ([VT-d](iommu-vtd.md#revision-3-private-data)). A request with private data is the last of
its group to Linux's driver, whether it is or not.

Whose driver it is:

- VT-d 4: that of Linux 7.2. Linux 6.12, in the next column, refuses requests without a PASID. VT-d 3: Linux 6.9.
  VT-d 2: the formats of Linux 4.4 to 4.20; a request that asks for a stream response is reported as the last.
- SMMUv3, PRI: the series of 2021. Linux's own driver reports no page request, and answers the last of each group with a
  failure.
- SMMUv3, stall and AMD: Linux 7.2. Events that do not stall are no faults: a
  [virtual event queue](event-queues.md) has them, all 32 bytes.
- RISC-V: ours. Linux has none.
- RDMA and the event log: ours. Linux's drivers serve these faults themselves. mlx5 has two older kinds of fault (of a
  work queue entry, of an RDMA request), which the driver here passes over.

The tables below have the bits. `0: 51:32` are the bits 51 to 32 of the first word of 64 bits; the words of the RDMA
adapter are big-endian. *What it says* is the row of the table above. {BY_HAND}: the field is the same in all faults of
our functions, so it was only changed in the queue. Functions here have requester ids of 16 bits and one segment.
"""

if __name__ == "__main__":
    found = survey()
    print(page(found, all_fields(found)), end="")  # noqa: T201  that is what it is for
