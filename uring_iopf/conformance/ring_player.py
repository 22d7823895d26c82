"""The operations on rings in recorded scripts. One thread of the recorder did all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.abi import CQE_BUFFER_SHIFT, CqeFlags, Op, PbufRingFlags, SetupFlags, SqeFlags
from uring_iopf.abi.records import MESSAGE_BYTES, pack_responses, unpack_messages
from uring_iopf.errors import UsageError
from uring_iopf.rings import BufferRing, Ring, Sqe, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uring_iopf.abi.records import FaultMessage
    from uring_iopf.conformance.worker_times import WorkerTimes
    from uring_iopf.core import Core

_MEMORY_BYTES: Final = 1 << 20
_ALL: Final = 0xFFFFFFFF
_PAGE: Final = 4096
_MOST_TURNS: Final = 1000
_MOST_GIVEN: Final = 4096
"""The most bytes of a provided buffer."""


@dataclass
class _Given:
    """A provided buffer."""

    address: int
    done: int = 0
    """Bytes that the kernel has filled, of a buffer that is used in parts."""


@dataclass
class _PlayedRing:
    """A ring of the script."""

    ring: Ring
    groups: dict[int, BufferRing] = field(default_factory=dict)
    in_parts: set[int] = field(default_factory=set)
    """Groups whose buffers are used in parts."""
    given: dict[tuple[int, int], _Given] = field(default_factory=dict)
    """Buffers by group and id."""
    reads: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By ``user_data``: the address that a READ reads to and -1, or 0 and its group of buffers."""

    @property
    def interrupted(self) -> bool:
        """Whether its task work runs whenever a call returns."""
        return not self.ring.flags & (SetupFlags.DEFER_TASKRUN | SetupFlags.SQPOLL)


class RingPlayer:
    """The rings of one script.

    *queues*: the descriptors of queues by their names. *described*: returns a message as recordings have it. *times*:
    when worker threads run; None: at the next turn.
    """

    def __init__(
        self,
        core: Core,
        queues: Mapping[str, int],
        described: Callable[[FaultMessage], dict[str, object]],
        times: WorkerTimes | None = None,
    ) -> None:
        self.core = core
        self.queues = queues
        self.described = described
        self.times = times
        self.rings: dict[str, _PlayedRing] = {}
        self.memory: Window | None = None
        self.used = 0
        self.places: dict[tuple[str, int, int], int] = {}
        """The memory of each buffer, by ring, group and id: the same whenever it is given."""

    def allocate(self, length: int, align: int = 64) -> int:
        """Return the address of *length* bytes of the client's memory."""
        if self.memory is None:
            self.memory = Window(_MEMORY_BYTES)
        start = (self.used + align - 1) // align * align
        if start + length > _MEMORY_BYTES:
            raise UsageError(f"the script needs more than {_MEMORY_BYTES} bytes of memory")
        self.used = start + length
        return self.memory.address + start

    def descriptor(self, word: str) -> int:
        """The descriptor that a word stands for: -1, which is none, for a queue that is closed or was never made."""
        return int(word[1:], 0) if word.startswith("#") else self.queues.get(word, -1)

    # ---- operations ----

    def ring(self, name: str, entries: str, flags: str, cq_entries: str = "0") -> Mapping[str, object]:
        """Make a ring."""
        made = Ring(self.core, int(entries, 0), cq_entries=int(cq_entries, 0), flags=int(flags, 0))
        self.allocate(0)
        assert self.memory is not None
        made.add_window(self.memory)
        made.replay(hold_workers=self.times is not None)
        self.rings[name] = _PlayedRing(made)
        return {"sq": made.sq_entries, "cq": made.cq_entries}

    def buffers(self, ring: str, group: str, entries: str, flags: str = "0") -> Mapping[str, object]:
        """Register a ring of buffers for a group."""
        played, number, count = self.rings[ring], int(group, 0), int(entries, 0)
        address = self.allocate(16 * count, _PAGE)
        assert self.memory is not None
        played.groups[number] = BufferRing(played.ring, number, count, self.memory, address, flags=int(flags, 0))
        if int(flags, 0) & PbufRingFlags.INC:
            played.in_parts.add(number)
        return {}

    def unbuffers(self, ring: str, group: str) -> Mapping[str, object]:
        """Unregister it."""
        self.rings[ring].groups[int(group, 0)].unregister()
        return {}

    def give(self, ring: str, group: str, length: str, *bids: str) -> Mapping[str, object]:
        """Give buffers to the kernel: stores, no call."""
        played = self.rings[ring]
        for word in bids:
            key = (int(group, 0), int(word, 0))
            address = self.places.setdefault((ring, *key), 0) or self.allocate(_MOST_GIVEN)
            if int(length, 0) > _MOST_GIVEN:
                raise UsageError(f"a buffer has {_MOST_GIVEN} bytes at most, not {length}")
            self.places[ring, *key] = address
            played.given[key] = _Given(address)
            played.groups[int(group, 0)].provide(int(word, 0), address, int(length, 0))
        return {}

    def files(self, ring: str, *names: str) -> Mapping[str, object]:
        """Register files."""
        self.rings[ring].ring.register_files([self.descriptor(name) for name in names])
        return {}

    def enter(self, ring: str, to_submit: str, least: str, flags: str) -> Mapping[str, object]:
        """Call io_uring_enter."""
        return {"ret": self.rings[ring].ring.enter(int(to_submit, 0), int(least, 0), int(flags, 0))}

    def reap(self, ring: str, most: str = "65536") -> Mapping[str, object]:
        """Take completions, with the messages that they brought: loads and stores, no call."""
        played = self.rings[ring]
        cqes = []
        for cqe in played.ring.reap(int(most, 0)):
            seen: dict[str, object] = {"ud": cqe.user_data, "res": cqe.res, "flags": cqe.flags}
            if messages := self.messages(played, cqe.user_data, cqe.res, cqe.flags):
                seen["msgs"] = messages
            cqes.append(seen)
        return {
            "ret": len(cqes),
            "cqes": cqes,
            "sq_flags": played.ring.word("sq_flags"),
            "overflow": played.ring.word("cq_overflow"),
        }

    def messages(self, played: _PlayedRing, user_data: int, res: int, flags: int) -> list[dict[str, object]]:
        """The messages that a completion of a READ brought."""
        address, group = played.reads.get(user_data, (0, -1))
        if res <= 0 or (not address and group < 0):
            return []
        if flags & CqeFlags.F_BUFFER:
            given = played.given[group, flags >> CQE_BUFFER_SHIFT]
            address = given.address + given.done
            if group in played.in_parts:
                given.done += res
        assert self.memory is not None
        return [
            self.described(one)
            for one in unpack_messages(self.memory.read(address, res // MESSAGE_BYTES * MESSAGE_BYTES))
        ]

    def kick(self, ring: str) -> Mapping[str, object]:
        """Wake the thread that polls the ring."""
        # What that thread does is there after a `settle`.
        assert ring in self.rings
        return {}

    def settle(self, milliseconds: str) -> Mapping[str, object]:
        """Wait until what runs beside the recorder has ended."""
        del milliseconds  # nothing here takes time: what is under way beside the recorder's thread ends
        for _ in range(_MOST_TURNS):
            held = [played.ring for played in self.rings.values() if played.ring.run_workers(0)]
            for ring in held:
                ring.run_workers(_ALL)
            if held:
                self.returned()
            elif not self.core.consume():
                break
        return {}

    def closering(self, ring: str) -> Mapping[str, object]:
        """Close a ring."""
        self.rings.pop(ring).ring.close()
        return {}

    def sqe(self, ring: str, kind: str, user_data: str, flags: str, *words: str, step: Any) -> Mapping[str, object]:
        """Fill an SQE and publish it: stores, no call."""
        played = self.rings[ring]
        played.ring.push(self.made(played, kind, int(user_data, 0), int(flags, 0), words, step))
        return {}

    def made(
        self, played: _PlayedRing, kind: str, user_data: int, flags: int, words: tuple[str, ...], step: Any
    ) -> Sqe:
        """The SQE of an operation."""
        numbers = [0 if one[0].isalpha() or one[0] == "#" else int(one, 0) for one in words if ":" not in one]
        fd = self.descriptor(words[0]) if words else -1
        played.reads.pop(user_data, None)
        match kind:
            case "nop":
                return Sqe.nop(user_data, flags=flags)
            case "read":
                address = self.allocate(numbers[1])
                played.reads[user_data] = (address, -1)
                offset = numbers[2] if len(numbers) > 2 else 0
                return Sqe.read(user_data, fd, address, numbers[1], off=offset, flags=flags)
            case "readsel":
                played.reads[user_data] = (0, numbers[2])
                selected = flags | SqeFlags.BUFFER_SELECT
                return Sqe.read(user_data, fd, 0, numbers[1], buf_group=numbers[2], flags=selected)
            case "mshot":
                played.reads[user_data] = (0, numbers[1])
                return Sqe.read_multishot(user_data, fd, numbers[1], flags=flags)
            case "write":
                data = pack_responses(step["responses"])
                data += bytes(step["count"] - len(data))
                address = self.allocate(len(data))
                assert self.memory is not None
                self.memory.write(address, data)
                return Sqe.write(user_data, fd, address, len(data), flags=flags)
            case "poll":
                return Sqe.poll_add(user_data, fd, numbers[1], multishot=numbers[2] == 1, flags=flags)
            case "pollremove":
                return Sqe(Op.POLL_REMOVE, flags, user_data=user_data, addr=numbers[0])
            case "cancel":
                target = self.descriptor(words[2]) if len(words) > 2 else 0
                return Sqe.async_cancel(user_data, numbers[0], numbers[1], fd=target, flags=flags)
        raise ValueError(f"sqe {kind}")

    def let_workers_run(self) -> bool:
        """Worker threads run now, as far as the times say. Return whether any did."""
        if self.times is None:
            return False
        ran = False
        for played in self.rings.values():
            asked = played.ring.run_workers(0)
            while asked and (now := self.times.choose(asked)):
                asked = played.ring.run_workers(now)
                ran = True
        return ran

    def returned(self) -> None:
        """A call of the recorder has returned: its task work ran."""
        waiting = [played.ring for played in self.rings.values() if played.interrupted]
        while waiting:  # the thread's task work is one queue, whatever ring it is for
            ring = min(waiting, key=lambda one: one.work_since)
            waiting.remove(ring)
            ring.enter(0)

    def close(self) -> None:
        """Close all rings, as the exit of the process does."""
        for played in self.rings.values():
            played.ring.close()
        self.rings.clear()
