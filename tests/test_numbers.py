"""Every public callable that takes numbers, with numbers that no field has room for and with what is no number.

It refuses by `UsageError` or by the emulated kernel's `KernelError`, or it does what it was asked for. What comes from
below (OverflowError, struct.error, TypeError, ValueError of Python's own) says nothing of the argument that was wrong.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from tests.test_handles import ARGUMENTS, HANDLES, Made, end, end_all, methods
from uring_iopf import FaultPerm, FunctionParts, KernelError, Load, Machine, MachineParts, UsageError, Workload
from uring_iopf.abi.records import FaultMessage, pack_message, pack_response, pack_responses
from uring_iopf.clients.sync import serve_once
from uring_iopf.core import Core
from uring_iopf.designs import Cost, FaultSource
from uring_iopf.errors import PeerError
from uring_iopf.hardware.endpoint import Endpoint
from uring_iopf.hardware.iommus.vtd import VtdIommu
from uring_iopf.hardware.tables import AddressSpace
from uring_iopf.iommufd import Context, QueueLimits, unpack_events
from uring_iopf.rings import ProvidedBuffers, Ring, Sqe, Window
from uring_iopf.rings.buffers import BufferRing
from uring_iopf.rings.kernel import enter_fd, register_fd
from uring_iopf.server import RingServer
from uring_iopf.server.attached import AttachableRing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BAD: Final = (2**32, 2**63, 2**64, -1, "x", None, 1.5)
LOOK_UPS: Final = {"has_taken", "attached_to", "find", "push", "FaultSource.takes"}
"""They refuse nothing: what is not there is not found."""
OTHERS: Final = ("source must be an IOAS", "translator must be a Translator", "this machine has several functions")
"""What is wrong with the rest of a call in these tests, and is found before the number."""
REFUSALS: Final = (
    UsageError,
    KernelError,
    PeerError,
    trio.ClosedResourceError,
    trio.EndOfChannel,
    trio.WouldBlock,
    NotImplementedError,
)
NUMBER: Final = re.compile(r"\b(int|float|ObjectRef|Personality|PageResponse)\b")
"""What an annotation says where a number is taken."""


def takes(call: Callable[..., object], *, bound: bool) -> Iterator[str]:
    """The parameters of a callable that are numbers, or several."""
    for parameter in list(inspect.signature(call).parameters.values())[0 if bound else 1 :]:
        many = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not many and NUMBER.search(str(parameter.annotation)):
            yield parameter.name


def given(call: Callable[..., object]) -> dict[str, Any]:
    """Arguments that suit, for the parameters that have no default."""
    return {
        one.name: ARGUMENTS[one.name]()
        for one in inspect.signature(call).parameters.values()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }


def names(message: str, parameter: str, value: object) -> bool:
    """Whether an error names the parameter that was wrong, and its value."""
    shown = {repr(value), str(value), f"{value:#x}" if isinstance(value, int) else ""} - {""}
    each = parameter.removesuffix("s")  # one of several is the one that is wrong
    return re.search(rf"\b{each}s?\b", message) is not None and any(one in message for one in shown)


def refused_properly(what: str, call: Callable[..., object], arguments: dict[str, Any]) -> bool:
    """Call it: True, it refused. Fails where it raises what no caller can make sense of."""

    async def main() -> None:
        with trio.move_on_after(0.01):
            await call(**arguments)  # type: ignore[misc]

    try:
        if inspect.iscoroutinefunction(call):
            trio.run(main)
        else:
            result = call(**arguments)
            end(result)
    except UsageError as error:
        refusal = str(error)
    except REFUSALS:
        return True
    except MemoryError:
        return True  # the host's trouble: it asked for more than there is
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        return False
    for name, value in arguments.items():
        if f"({name}={value!r})" in what and not any(one in refusal for one in OTHERS):
            assert names(refusal, name, value), f"{what}: {refusal}"
    return True


def methods_with_numbers() -> Iterator[tuple[str, str]]:
    """Those of all handles."""
    for kind, make in HANDLES.items():
        made = make()
        for name in [*methods(made.handle), *(["enter"] if kind == "Ring" else [])]:
            found = getattr(type(made.handle), name, None)
            if callable(found) and any(takes(found, bound=False)):
                yield kind, name
        end_all(made)


METHODS: Final = list(methods_with_numbers())


def test_the_methods_that_take_numbers_are_found() -> None:
    assert len(METHODS) > 90
    assert {("Endpoint", "access"), ("Ring", "enter"), ("FaultGroup", "respond"), ("IOAS", "map")} <= set(METHODS)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_a_method_refuses_numbers_that_cannot_be(kind: str, name: str) -> None:
    def fresh() -> Made:
        return HANDLES[kind]()

    refused = 0
    for parameter in takes(getattr(type(fresh().handle), name), bound=False):
        for bad in BAD:
            made = fresh()
            call = getattr(made.handle, name)
            what = f"{kind}.{name}({parameter}={bad!r})"
            refused += refused_properly(what, call, {**given(call), parameter: bad})
            end_all(made)
    assert refused or name in LOOK_UPS, "nothing at all was refused"


# ---- what is not a method of a handle ----


def with_core(make: Callable[..., object]) -> Callable[..., object]:
    """The same with a core of its own as first argument, which is closed."""

    def call(**arguments: Any) -> None:
        core = Core()
        made: object = None
        try:
            made = make(core, **arguments)
        finally:
            end(made)
            core.end()

    return call


def of_iommu(core: Core, **arguments: Any) -> None:
    iommu = VtdIommu(core)
    try:
        Endpoint(iommu, **arguments).close()
    finally:
        iommu.close()


def of_queue(core: Core, **arguments: Any) -> None:
    with Context(core) as context:
        FaultSource(context.fault_queue_alloc(), **arguments)


def source(call: str) -> Callable[..., object]:
    def make(core: Core, **arguments: Any) -> None:
        with Context(core) as context:
            getattr(FaultSource(context.fault_queue_alloc(), 4), call)(**arguments)

    return with_core(make)


def buffers(core: Core, **arguments: Any) -> None:
    with Ring(core, 8) as ring:
        window = Window(1 << 16)
        ring.add_window(window)
        given_address = {"address": window.address}
        BufferRing(ring, **{"group": 1, "entries": 8, "window": window, **given_address, **arguments})


def provided(core: Core, **arguments: Any) -> None:
    with Ring(core, 8) as ring:
        ProvidedBuffers(ring, **{"group": 1, "count": 8, "length_bytes": 64, **arguments})


def provide(core: Core, **arguments: Any) -> None:
    with Ring(core, 8) as ring:
        ProvidedBuffers(ring, 1, 8, 64).ring.provide(**{"buffer_id": 0, "address": 0, "length_bytes": 1, **arguments})


def attachable(core: Core, **arguments: Any) -> object:
    return AttachableRing(core, **{"files": (), "entries": 8, "cq_entries": 16, **arguments})


def message(**fields: Any) -> bytes:
    return pack_message(FaultMessage(**{**dict.fromkeys(FaultMessage._fields, 0), **fields}))


def a_core(**arguments: Any) -> object:
    return Core(**arguments)


CALLS: Final[dict[str, tuple[Callable[..., object], tuple[str, ...]]]] = {
    "Core": (a_core, ("kernel", "clock")),
    "AddressSpace": (AddressSpace, ("pasids", "table_pages")),
    "Endpoint": (with_core(of_iommu), ("requester_id", "capacity", "group_most", "retries", "stalls", "stage")),
    "Context": (with_core(Context), ("kernel",)),
    "Ring": (
        with_core(lambda core, **some: Ring(core, **{"entries": 8, **some})),
        ("entries", "cq_entries", "flags", "sq_thread_idle_ms"),
    ),
    "enter_fd": (
        with_core(
            lambda core, **some: enter_fd(core, **{"fd": 3, "to_submit": 0, "min_complete": 0, "flags": 0} | some)
        ),
        ("fd", "to_submit", "min_complete", "flags", "size"),
    ),
    "register_fd": (
        with_core(lambda core, **some: register_fd(core, **{"fd": 3, "opcode": 0} | some)),
        ("fd", "opcode", "nr_args"),
    ),
    "Window": (lambda **some: Window(**{"length_bytes": 4096, **some}), ("address",)),
    "Window's length": (lambda **some: Window(**some, memory=bytearray(8)), ("length_bytes",)),
    "BufferRing": (with_core(buffers), ("group", "entries", "address", "flags", "min_left")),
    "BufferRing.provide": (with_core(provide), ("buffer_id", "address", "length_bytes")),
    "ProvidedBuffers": (with_core(provided), ("group", "count", "length_bytes", "flags")),
    "AttachableRing": (
        with_core(attachable),
        ("files", "entries", "cq_entries", "groups", "group_entries", "data_bytes"),
    ),
    "Sqe": (
        lambda **some: Sqe(**some).pack(),
        ("opcode", "flags", "ioprio", "fd", "off", "addr", "len", "op_flags", "user_data", "buf_group", "addr3"),
    ),
    "FaultSource": (with_core(of_queue), ("most",)),
    "FaultSource.answer": (source("answer"), ("cookie", "code")),
    "FaultSource.takes": (source("takes"), ("cookie", "code")),
    "Cost.copied": (lambda length_bytes: Cost().copied(length_bytes), ("length_bytes",)),
    "pack_message": (message, ("flags", "dev_id", "pasid", "grpid", "perm", "addr", "length", "cookie")),
    "pack_response": (lambda **some: pack_response(**{"cookie": 1, "code": 0, **some}), ("cookie", "code")),
    "pack_responses": (pack_responses, ("responses",)),
    "unpack_events": (lambda **some: unpack_events(b"", **some), ("size_bytes",)),
    "Workload.from_faults": (lambda **some: Workload.from_faults(**some), ("faults",)),
    "Load": (Load, ("mode", "in_flight", "group", "speed", "rate", "seed")),
    "QueueLimits": (QueueLimits, ("depth", "depth_response", "timeout_ns", "timeout_response", "by_group_index")),
    "FunctionParts": (FunctionParts, ("requester_id", "pasids", "credits")),
    "MachineParts": (
        MachineParts,
        ("in_flight", "group", "seed", "cpu", "report_flags", "pasid_table", "table_pages", "kernel", "functions"),
    ),
    "Machine": (lambda **some: Machine(**some), ("workload",)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_refuses_numbers_that_cannot_be(name: str) -> None:
    call, parameters = CALLS[name]
    for parameter in parameters:
        refused = 0
        for bad in BAD:
            if name == "Machine" and bad is None:
                continue
            refused += refused_properly(f"{name}({parameter}={bad!r})", call, {**_needed(name), parameter: bad})
        assert refused or name in LOOK_UPS, f"{name}({parameter}=) refuses nothing at all"


def _needed(name: str) -> dict[str, Any]:
    return {"FaultSource.answer": {"cookie": 1}, "FaultSource.takes": {"cookie": 1, "code": 0}}.get(name, {})


def test_a_server_refuses_numbers_that_cannot_be(tmp_path: Path) -> None:
    arguments: dict[str, Any]
    for parameter in ("most_clients", "reply_timeout_s", "buffer_groups"):
        for bad in ("x", None, -1, math.nan, object()):
            arguments = {"path": tmp_path / "socket", "new_machine": Machine, parameter: bad}
            assert refused_properly(f"RingServer({parameter}={bad!r})", RingServer, arguments)
    with RingServer(tmp_path / "socket", Machine) as server:
        for arguments in ({"clients": "x"}, {"clients": 1.5}, {"interval_s": "x"}, {"interval_s": b"x"}):
            assert refused_properly(f"serve({arguments})", server.serve, arguments)


def test_an_answer_s_code_is_refused_by_its_client() -> None:
    """A group that was refused an answer can still be answered."""
    for bad in BAD:
        with Machine(None, driver="inline") as machine:
            machine.open("fd")
            machine.endpoint.access(1, 0x1000, FaultPerm.READ)
            machine.core.produce()
            with pytest.raises(UsageError):
                serve_once(machine.channel, machine.address_space, lambda _group, bad=bad: bad)  # type: ignore[misc]
            machine.detach()
            assert machine.account().lost == 0
