"""Replays recorded scripts on the emulator and says where it differs from the kernel that was recorded.

Every recorded value is compared, and an operation that cannot be done here is a difference, so that nothing passes
unseen. The scripts are those of `load`; the operations are described beside the recordings' format.
"""

from __future__ import annotations

import errno
import json
import select
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from uring_iopf.abi.iommufd import HwptAllocFlags
from uring_iopf.abi.records import FaultMessage, pack_responses
from uring_iopf.conformance.coverage import errno_name
from uring_iopf.conformance.recording import FAULT_FILES, RecordingError, Script, Step, kernel_of, load
from uring_iopf.conformance.ring_player import RingPlayer
from uring_iopf.conformance.worker_times import WorkerTimes
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.iommufd import (
    MOCK_FORMAT,
    MOCK_VEVENTQ_TYPE,
    MOCK_VIOMMU_TYPE,
    Context,
    FaultQueue,
    MockDevice,
    Personality,
    SelftestDevice,
    unpack_messages,
)

__all__ = [
    "NOTHING",
    "Difference",
    "Outcome",
    "RecordingError",
    "Script",
    "Step",
    "kernel_of",
    "load",
    "outcome_of",
    "replay",
]

LOST_EVENTS: Final = 1
"""In the header of an event: events were lost here, and nothing follows. Source: iommufd.h, Linux 7.2."""

PERSONALITIES: Final = dict(
    zip(FAULT_FILES, (Personality.MERGED, Personality.PROPOSED, Personality.PROPOSED_UNKEYED), strict=True)
)
"""The personality that is each of the recorded fault files."""

STORES: Final = frozenset({"sqe", "give", "reap"})
"""Operations on memory that is shared with the kernel: no call, after which task work would run."""

FILLS: Final = STORES - {"reap"}
"""Operations that look at nothing of the kernel's."""

MOST_TIMES: Final = 100
"""The most choices of times of worker threads that are tried for a script."""

NOTHING: Final = "(nothing)"
"""Stands for a value that one side does not have at all."""


@dataclass(frozen=True)
class Difference:
    """One value in which the emulator is not what was recorded."""

    script: str
    step: int
    """From 0."""
    op: str
    field: str
    """``ret``, ``errno``, ``msgs``, ``hw``, …; ``op`` for an operation that is not known here."""
    expected: object
    got: object

    def __str__(self) -> str:
        expected, got = map(_shown, (self.expected, self.got))
        return f"{self.script}, step {self.step} `{self.op}`: {self.field}: expected {expected}, got {got}"


class UnknownOperationError(Exception):
    """A script has an operation, or a form of one, that the replayer cannot do."""


def _shown(value: object) -> str:
    return NOTHING if value == NOTHING else json.dumps(value)


@dataclass(frozen=True)
class Outcome:
    """A replay's."""

    differences: tuple[Difference, ...]
    """None if there is a choice of times for worker threads with which everything comes out as recorded."""
    later_workers: bool = False
    """Whether that is so only with threads that run later than at the next turn."""


def replay(script: Script, *, kernel: str | None = None) -> Iterator[Difference]:
    """Run one script on a fresh context, by the rules of *kernel*, and return the differences, in order.

    *kernel*: None: the script's own. Raises: UsageError, no such kernel here, or the script names none.
    """
    return iter(outcome_of(script, kernel=kernel).differences)


def outcome_of(script: Script, *, kernel: str | None = None) -> Outcome:
    """Do what `replay` does, and say also whether it took other times of worker threads.

    In Linux the scheduler says when a thread runs, and a script does not hold it. So the script is run again with other
    times, until one run is as recorded: results, order, messages and the hardware's events are compared all the same.
    """
    kernel = kernel or script.kernel
    if kernel is None:
        raise UsageError(f"script {script.name} does not name its kernel: give kernel")
    found = tuple(_run(script, kernel, None))
    if not found or script.fault_file is None or script.varies:
        return Outcome(found)
    times = WorkerTimes()
    for _ in range(MOST_TIMES):
        if next(_run(script, kernel, times), None) is None:
            return Outcome((), later_workers=True)
        if not times.advance():
            break
    return Outcome(found)


def _run(script: Script, kernel: str, times: WorkerTimes | None) -> Iterator[Difference]:
    player = _Player(kernel, PERSONALITIES[script.fault_file or "merged"], times)
    try:
        for index, step in enumerate(script.steps):
            op = step["op"]
            for name, expected, got in _compare(step, player.play(step)):
                yield Difference(script.name, index, " ".join(op), name, expected, got)
    finally:
        player.leave()


def _compare(step: Step, outcome: Mapping[str, object]) -> Iterator[tuple[str, object, object]]:
    """The fields in which an outcome is not what was recorded, both ways."""
    if "op" in outcome:
        yield "op", " ".join(step["op"]), outcome["op"]
        return
    for name in sorted({*step, *outcome} - {"op"}):
        expected, got = step.get(name, NOTHING), outcome.get(name, NOTHING)
        if step["op"][0] == "end" and name == "hw" and expected != NOTHING and got != NOTHING:
            expected, got = _in_any_order(expected), _in_any_order(got)
        if expected != got:
            yield name, expected, got


def _in_any_order(events: Any) -> list[Any]:
    return sorted(events, key=lambda event: json.dumps(event, sort_keys=True))


class _File(Protocol):
    """The calls that fault queues and event queues share."""

    @property
    def closed(self) -> bool: ...

    def read(self, length: int) -> bytes: ...
    def write(self, data: bytes) -> int: ...
    def poll(self) -> int: ...
    def close(self) -> None: ...


@dataclass
class _Player:
    """One context, and the names that a script gives to its objects.

    As for the recorder, a name is an id, and stays so when the object is destroyed: it may mean another one then. A
    device is known by its `stdev`, and a queue by its file.
    """

    kernel: str
    personality: Personality = Personality.MERGED
    times: WorkerTimes | None = None
    context: Context = field(init=False)
    ids: dict[str, int] = field(default_factory=dict)
    stdevs: dict[str, int] = field(default_factory=dict)
    files: dict[str, _File] = field(default_factory=dict)
    device_names: dict[int, str] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    """Ids of devices that were destroyed: the recorder calls whatever still has such an id `?`."""

    def __post_init__(self) -> None:
        self.context = Context(kernel=self.kernel)
        self.mock = self.context.mock
        self.descriptors: dict[str, int] = {}
        """Of fault queues, in rings; a closed one has none."""
        self.rings = RingPlayer(self.context.core, self.descriptors, self.described, self.times)

    def leave(self) -> None:
        """Close what the script has left open."""
        self.rings.close()
        self.context.close()

    def play(self, step: Step) -> dict[str, object]:
        """Do one step; return what the recording would hold of it."""
        verb, *words = step["op"]
        hardware: list[dict[str, object]] = []
        outcome: dict[str, object] = {"ret": 0, "errno": "0"}
        if verb not in FILLS:
            self.rings.let_workers_run()
        try:
            outcome |= self.do(verb, words, step, hardware)
        except KernelError as error:
            outcome |= {"ret": -1, "errno": errno_name(_number(error))}
            if verb == "write":
                outcome |= _write_operands(words, step)
        except (
            UnknownOperationError,
            UsageError,
            LookupError,
            ValueError,
            TypeError,
            OverflowError,
            struct.error,
        ) as error:
            # In a script that `load` has not seen: words that are no numbers, too large, too many or too few.
            outcome = {"op": f"not supported: {error}"}
        hardware = self.responses() + hardware
        if self.rings.rings and verb not in STORES:
            self.rings.let_workers_run()
            self.rings.returned()
            while self.rings.let_workers_run():
                self.rings.returned()
            hardware += self.responses()
        outcome["hw"] = hardware
        return outcome

    def responses(self) -> list[dict[str, object]]:
        """The page responses that have reached the hardware since the last time."""
        return [
            {
                "ev": "resp",
                "dev": self.device_names.get(one.dev_id, one.dev_id),
                "pasid": one.pasid,
                "grpid": one.grpid,
                "code": int(one.code),
            }
            for one in self.mock.take()
        ]

    def do(self, verb: str, words: list[str], step: Step, hardware: list[dict[str, object]]) -> Mapping[str, object]:
        if verb == "pri":
            return self.pri(*words, hardware=hardware)
        if verb == "write":
            return self.write(words, step)
        if verb == "sqe":
            return self.sqe(*words, step=step)
        calls: dict[str, Callable[..., Mapping[str, object]]] = {
            "ioas": self.ioas,
            "dev": self.dev,
            "devf": self.devf,
            "fault": self.fault,
            "hwpt": self.hwpt,
            "nested": self.nested,
            "replace": self.replace,
            "pattach": self.pattach,
            "preplace": self.preplace,
            "pdetach": self.pdetach,
            "read": self.read,
            "poll": self.poll,
            "close": self.close,
            "viommu": self.viommu,
            "vdevice": self.vdevice,
            "veventq": self.veventq,
            "vevent": self.vevent,
            "readev": self.readev,
            "writeev": self.writeev,
            "detach": self.detach,
            "destroy": self.destroy,
            "end": self.end,
            "nonblock": self.nonblock,
            "ring": self.rings.ring,
            "buffers": self.rings.buffers,
            "unbuffers": self.rings.unbuffers,
            "give": self.rings.give,
            "files": self.rings.files,
            "enter": self.rings.enter,
            "reap": self.rings.reap,
            "kick": self.rings.kick,
            "settle": self.rings.settle,
            "closering": self.rings.closering,
        }
        if verb not in calls:
            raise UnknownOperationError(verb)
        return calls[verb](*words)

    # ---- names ----

    def ref(self, word: str) -> int:
        """The id that a word stands for: 0, which no object has, for a name that was never handed out."""
        return int(word[1:], 0) if word.startswith("#") else self.ids.get(word, 0)

    def device(self, word: str) -> MockDevice:
        found = self.context.get(self.stdevs.get(word, 0))
        if not isinstance(found, SelftestDevice) or found.device is None:
            raise KernelError(errno.ENOENT, word)
        return found.device

    def queue(self, word: str) -> _File:
        if word not in self.files:
            raise KernelError(errno.EBADF, word)
        return self.files[word]

    # ---- operations ----

    def ioas(self, name: str) -> Mapping[str, object]:
        made = self.context.ioas_alloc()
        self.ids[name] = made.id
        return {"id": made.id}

    def dev(self, name: str, ioas: str) -> Mapping[str, object]:
        return self.named(name, self.context.mock_device(self.ref(ioas)))

    def devf(self, name: str, ioas: str, flags: str) -> Mapping[str, object]:
        return self.named(name, self.context.mock_device(self.ref(ioas), flags=int(flags, 0)))

    def named(self, name: str, made: MockDevice) -> Mapping[str, object]:
        self.ids[name] = made.id
        self.stdevs[name] = made.stdev.id
        self.device_names[made.id] = name
        self.gone.discard(made.id)
        assert made.hwpt is not None
        return {"id": made.id, "stdev": made.stdev.id, "hwpt": made.hwpt.id}

    def fault(self, name: str, flags: str = "0") -> Mapping[str, object]:
        made = self.context.fault_queue_alloc(int(flags, 0), personality=self.personality)
        self.files[name] = made
        self.ids[name] = made.id
        self.descriptors[name] = made.fd
        return {"id": made.id}

    def nonblock(self, name: str, on: str) -> Mapping[str, object]:
        queue = self.queue(name)
        assert isinstance(queue, FaultQueue)
        queue.set_nonblocking(on == "1")
        return {}

    def hwpt(self, name: str, device: str, pt: str, flags: str, fault: str = "#0") -> Mapping[str, object]:
        made = self.context.hwpt_alloc(
            self.ref(device), self.ref(pt), HwptAllocFlags(int(flags, 0)), fault=self.ref(fault)
        )
        self.ids[name] = made.id
        return {"id": made.id}

    def nested(self, name: str, device: str, pt: str, flags: str, fault: str = "#0") -> Mapping[str, object]:
        made = self.context.hwpt_alloc(
            self.ref(device),
            self.ref(pt),
            HwptAllocFlags(int(flags, 0)),
            fault=self.ref(fault),
            data_type=MOCK_FORMAT.data_type,
            data=MOCK_FORMAT.blank,
        )
        self.ids[name] = made.id
        return {"id": made.id}

    def replace(self, device: str, pt: str) -> Mapping[str, object]:
        return {"pt": self.device(device).replace(self.ref(pt)).id}

    def pattach(self, device: str, pasid: str, pt: str) -> Mapping[str, object]:
        return {"pt": self.device(device).attach(self.ref(pt), pasid=int(pasid, 0)).id}

    def preplace(self, device: str, pasid: str, pt: str) -> Mapping[str, object]:
        return {"pt": self.device(device).replace(self.ref(pt), pasid=int(pasid, 0)).id}

    def pdetach(self, device: str, pasid: str) -> Mapping[str, object]:
        self.device(device).detach(pasid=int(pasid, 0))
        return {}

    def pri(
        self,
        device: str,
        pasid: str,
        grpid: str,
        perm: str,
        addr: str,
        which: str,
        *,
        hardware: list[dict[str, object]],
    ) -> Mapping[str, object]:
        target = self.device(device)
        if which not in ("last", "more"):
            raise UnknownOperationError(which)
        ret = 0
        try:
            target.report(
                int(grpid, 0),
                int(addr, 0),
                pasid=None if pasid == "-" else int(pasid, 0),
                perm=int(perm, 0),
                last=which == "last",
            )
        except KernelError as error:
            ret = -_number(error)
        hardware.append({"ev": "report", "dev": device, "ret": ret})
        return {}

    def read(self, queue: str, length: str) -> Mapping[str, object]:
        data = self.queue(queue).read(int(length, 0))
        messages = [self.described(one) for one in unpack_messages(data)]
        return {"ret": len(data)} | ({"msgs": messages} if messages else {})

    def described(self, one: FaultMessage) -> dict[str, object]:
        """A message as recordings have it."""
        return {
            "flags": one.flags,
            "dev": "?" if one.dev_id in self.gone else self.device_names.get(one.dev_id, "?"),
            "pasid": one.pasid,
            "grpid": one.grpid,
            "perm": one.perm,
            "addr": one.addr,
            "length": one.length,
            "cookie": one.cookie,
        }

    def sqe(self, ring: str, kind: str, user_data: str, flags: str, *words: str, step: Step) -> Mapping[str, object]:
        operands = _write_operands(list(words), step) if kind == "write" else {}
        return {**operands, **self.rings.sqe(ring, kind, user_data, flags, *words, step=operands)}

    def write(self, words: list[str], step: Step) -> Mapping[str, object]:
        operands = _write_operands(words, step)
        data = pack_responses(operands["responses"])
        data += bytes(operands["count"] - len(data))
        return operands | {"ret": self.queue(words[0]).write(data)}

    def poll(self, queue: str) -> Mapping[str, object]:
        # The recorder put -1 in place of a closed descriptor, which poll(2) passes over.
        found = self.files.get(queue)
        if found is None or found.closed:
            return {"ret": 0, "revents": 0}
        revents = found.poll() & (select.POLLIN | select.POLLOUT)
        return {"ret": int(revents != 0), "revents": revents}

    def close(self, queue: str) -> Mapping[str, object]:
        self.queue(queue).close()
        self.descriptors.pop(queue, None)
        return {}

    def viommu(
        self, name: str, device: str, hwpt: str, flags: str = "0", viommu_type: str = str(MOCK_VIOMMU_TYPE)
    ) -> Mapping[str, object]:
        made = self.context.viommu_alloc(self.ref(device), self.ref(hwpt), int(viommu_type, 0), flags=int(flags, 0))
        self.ids[name] = made.id
        return {"id": made.id}

    def vdevice(self, name: str, viommu: str, device: str, virt_id: str) -> Mapping[str, object]:
        made = self.context.vdevice_alloc(self.ref(viommu), self.ref(device), int(virt_id, 0))
        self.ids[name] = made.id
        return {"id": made.id}

    def veventq(
        self, name: str, viommu: str, depth: str, event_type: str = str(MOCK_VEVENTQ_TYPE), flags: str = "0"
    ) -> Mapping[str, object]:
        made = self.context.veventq_alloc(self.ref(viommu), int(event_type, 0), int(depth, 0), flags=int(flags, 0))
        self.files[name] = made
        self.ids[name] = made.id
        return {"id": made.id}

    def vevent(self, device: str) -> Mapping[str, object]:
        self.device(device).raise_event()
        return {}

    def readev(self, queue: str, length: str) -> Mapping[str, object]:
        data = self.queue(queue).read(int(length, 0))
        events = list(_events(data))
        return {"ret": len(data)} | ({"vevents": events} if events else {})

    def writeev(self, queue: str) -> Mapping[str, object]:
        return {"ret": self.queue(queue).write(bytes(8))}

    def detach(self, device: str) -> Mapping[str, object]:
        target = self.device(device)
        self.context.destroy(target.stdev)
        self.gone.add(target.id)
        return {}

    def destroy(self, name: str) -> Mapping[str, object]:
        self.context.destroy(self.ref(name))
        return {}

    def end(self) -> Mapping[str, object]:
        self.rings.close()
        self.context.close()
        return {}


def _number(error: KernelError) -> int:
    number = error.errno
    assert number is not None
    return number


def _events(data: bytes) -> Iterator[dict[str, int]]:
    """The events in the data of a read: a header each, then a virtual device id unless events were lost."""
    at = 0
    while at < len(data):
        flags, sequence = struct.unpack_from("<2I", data, at)
        at += 8
        event = {"flags": flags, "sequence": sequence}
        if not flags & LOST_EVENTS:
            (event["virt_id"],) = struct.unpack_from("<I", data, at)
            at += 4
        yield event


def _write_operands(words: list[str], step: Step) -> dict[str, Any]:
    """The arguments of a `write`, from its words: `responses` and `count`.

    ``#n:code`` is a number, ``o0:code`` the oldest unanswered cookie and ``c0:code`` the first one ever read, by the
    recorder's book-keeping, of which the recorded cookies are the result: those are taken from there.
    """
    answers = [word.split(":") for word in words[1:] if not word.startswith("+")]
    recorded = step.get("responses", [])
    if len(recorded) != len(answers):
        raise UnknownOperationError(f"the words have {len(answers)} responses, but {len(recorded)} were recorded")
    responses = [
        [int(name[1:], 0) if name[0] == "#" else cookie, int(code, 0)]
        for (name, code), (cookie, _) in zip(answers, recorded, strict=True)
    ]
    beyond = sum(int(word[1:], 0) for word in words[1:] if word.startswith("+"))
    return {"responses": responses, "count": 8 * len(responses) + beyond}
