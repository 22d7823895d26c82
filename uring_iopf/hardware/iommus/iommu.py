"""An IOMMU that PCI functions are plugged into, by the name of its model."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from uring_iopf._native import CData, CDevice, CEndpoint, CIommu, CModel, CPort, check, ffi, lib
from uring_iopf.core import Core
from uring_iopf.errors import KernelError, UsageError, check_fits, check_is
from uring_iopf.handles import Handle, no_room, owned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DROPPED: Final = ("success", "failure", "nothing")
"""The answers that the hardware may give to a page request that overflows its queue, if it is the last of its group."""


class SupportsEndpoint(Protocol):
    """A PCI function, such as `uring_iopf.hardware.endpoint.Endpoint`."""

    @property
    def c(self) -> CEndpoint:
        """The C object."""


class SupportsDevice(Protocol):
    """An iommufd device, such as `Context.bind` returns."""

    @property
    def c(self) -> CDevice:
        """The C object."""


def model_names() -> list[str]:
    """The names of the models that there are."""
    names: list[str] = []
    while (name := lib.uiopf_model_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


def dropped_flag(dropped: str) -> int:
    """UIOPF_MODEL_DROPPED_* of one of `DROPPED`. Raises: UsageError, it is none of them."""
    if not isinstance(dropped, str) or dropped not in DROPPED:
        raise UsageError(f"dropped must be one of {', '.join(DROPPED)}, not {dropped!r}")
    flags = (lib.UIOPF_MODEL_DROPPED_SUCCESS, lib.UIOPF_MODEL_DROPPED_FAILURE, lib.UIOPF_MODEL_DROPPED_NOTHING)
    return flags[DROPPED.index(dropped)]


class Iommu(Handle[CIommu]):
    """An IOMMU: its page request queue, its command queue, and its driver for both.

    *model*: one of `model_names`. *needs_pasid*: page requests without a PASID are refused, as by VT-d's driver in
    Linux 6.12. *drains*: detach and replace first report the page requests in the queue to the old attachment. Without
    draining, such a request can reach the next attachment, which counts it as stale (`DeviceCounts`).

    Raises: UsageError, no such model.
    """

    _what = "IOMMU"
    _model: CModel | None = None
    _own_flags = 0
    """UIOPF_MODEL_* of a model's own options."""

    def __init__(self, core: Core, model: str, *, needs_pasid: bool = False, drains: bool = True) -> None:
        super().__init__()
        check_is("a Core", Core, core=core)
        names = model_names()
        if model not in names:
            raise UsageError(f"model must be one of {', '.join(names)}, not {model!r}")
        self.core = self._on = core
        self.model_name = model
        self.drains = drains
        flags = (lib.UIOPF_MODEL_NEEDS_PASID if needs_pasid else 0) | (0 if drains else lib.UIOPF_MODEL_UNDRAINED)
        flags |= self._own_flags
        self._model = owned(lib.uiopf_model_free, lib.uiopf_model_make, core.c, names.index(model), flags)
        if self._model is None:
            raise no_room(self._what)
        self._make(lib.uiopf_iommu_let_go, lib.uiopf_model_hold_iommu, self._model)

    @property
    def model(self) -> CModel:
        """The C object, as a model that functions are plugged into."""
        model = self._model
        if model is None:
            raise self._refusal()
        return model

    @property
    def closed(self) -> bool:
        """Whether it has been closed. Its functions may be there still."""
        return self._model is None

    @property
    def port(self) -> CPort:
        """The C object to which functions connect."""
        return lib.uiopf_model_port(self.model)

    @property
    def carries_private_data(self) -> bool:
        """Whether page requests can carry data private to their function (`Endpoint`)."""
        return bool(lib.uiopf_port_private_mask(self.port, 0))

    def bind(self, endpoint: SupportsEndpoint, device: SupportsDevice) -> None:
        """Bind a function behind this IOMMU to an iommufd device. The driver reports its page requests to the device.

        Raises: KernelError(EBUSY), the function is bound; KernelError(EINVAL), one of the two is behind another IOMMU,
        or their requester ids differ; KernelError(ENOSPC), 16 functions are behind this IOMMU; UsageError, *endpoint*
        is no function, or *device* is no device.
        """
        model = self.model
        try:
            rc = lib.uiopf_model_bind(model, endpoint.c, device.c)
        except (AttributeError, TypeError):  # no handles, or cffi's, for handles of something else
            raise UsageError(
                f"endpoint and device must be an Endpoint and a Device, not {endpoint!r} and {device!r}"
            ) from None
        check(rc, "bind to the IOMMU")

    def unbind(self, device: SupportsDevice) -> None:
        """Unbind a device's function. Page requests on the way are reported first; later ones are refused.

        Does nothing if the device is not bound. Raises: UsageError, *device* is no device, or is behind another IOMMU.
        """
        model = self.model
        try:
            rc = lib.uiopf_model_unbind(model, device.c)
        except (AttributeError, TypeError):
            rc = -1
        if rc < 0:
            raise UsageError(f"device must be a Device behind this IOMMU, not {device!r}")

    @contextmanager
    def interrupt_held(self) -> Iterator[None]:
        """Hold back the driver's interrupt: page requests are sent, stay in the queue, and are not reported.

        A detach or replace that drains reports them nevertheless. With every driver of a machine.
        """
        lib.uiopf_model_hold_interrupt(self.model, 1)
        try:
            yield
        finally:
            if self._model is not None:  # it may have been closed meanwhile
                lib.uiopf_model_hold_interrupt(self._model, 0)

    def read_record(self, queue: int = 0) -> tuple[int, ...]:
        """The oldest record of a request queue that the driver has not taken, in words of 64 bits; empty: none.

        *queue*: 0, the page requests; 1, SMMUv3's events. While the interrupt is held, records stay in their queue.
        Raises: KernelError(EINVAL), no such queue.
        """
        check_fits(32, queue=queue)
        words = ffi.new("uint64_t[]", lib.UIOPF_MODEL_MOST_WORDS)
        n = check(lib.uiopf_model_read_record(self.model, queue, words), "read a record")
        return tuple(int(word) for word in words[0:n])

    def write_record(self, words: Sequence[int], queue: int = 0) -> None:
        """Put other words into the oldest record of a request queue, as other hardware would write them.

        *words*: as many as `read_record` returns, of 64 bits each; *queue*: as there. The driver decodes these, and the
        function that has sent the record is not asked. Use it while the interrupt is held, to see what the driver makes
        of any record. Raises: KernelError(ENOENT), no record waits; KernelError(EINVAL), no such queue; UsageError,
        another number of words, or a word out of range.
        """
        try:
            given = list(words)
        except TypeError:
            raise UsageError(f"words must be a sequence of numbers, not {words!r}") from None
        check_fits(64, **{f"words[{at}]": word for at, word in enumerate(given)})
        there = len(self.read_record(queue))
        if not there:
            raise KernelError(errno.ENOENT, "write a record")
        if len(given) != there:
            raise UsageError(f"words must be {there} words, as many as the record has, not {len(given)}")
        padded = ffi.new("uint64_t[]", lib.UIOPF_MODEL_MOST_WORDS)
        padded[0:there] = [int(word) for word in given]
        if not check(lib.uiopf_model_write_record(self.model, queue, padded), "write a record"):
            raise KernelError(errno.ENOENT, "write a record")

    def read_command(self, *, refusal: bool = False) -> tuple[int, ...]:
        """The newest answer in the command queue, in words of 64 bits; empty: there was none.

        *refusal*: the newest that the driver has given by itself, in its interrupt; else the newest of a client, or of
        a detach for it.
        """
        words = ffi.new("uint64_t[]", lib.UIOPF_MODEL_MOST_WORDS)
        n = check(lib.uiopf_model_read_command(self.model, bool(refusal), words), "read a command")
        return tuple(int(word) for word in words[0:n])

    def command(self, word0: int, word1: int = 0, word2: int = 0, word3: int = 0) -> None:
        """Put a command into the command queue, as any software might, behind those of the driver.

        It has two words, or in VT-d since revision 3 four. The hardware carries it out in its next turn. A command that
        invalidates names translations. The TLBs of the functions behind this IOMMU, and of the translators that they
        use (`Endpoint.use_translator`), drop these.

        Raises: KernelError(EOPNOTSUPP), this model takes none; KernelError(ENOMEM); UsageError, a number out of range.
        """
        check_fits(64, word0=word0, word1=word1, word2=word2, word3=word3)
        words = ffi.new("uint64_t[]", (word0, word1, word2, word3))
        check(lib.uiopf_model_command(self.model, words), "give a command")

    def functions_of(self, domain: int) -> list[int]:
        """The requester ids of the functions behind this IOMMU whose translator has this domain."""
        check_fits(16, domain=domain)
        ids = ffi.new("uint32_t[]", lib.UIOPF_MODEL_MOST_FUNCTIONS)
        n = lib.uiopf_model_functions_of(self.model, domain, ids)
        return sorted(int(one) for one in ids[0:n])

    def flush_stage_2(self, domain: int, address: int = 0, length: int = 0) -> None:
        """Give the commands that follow an unmap in stage 2, and wait for them. *length* 0: all addresses.

        Raises: KernelError(EOPNOTSUPP), this model has none; UsageError, a number out of range.
        """
        check_fits(16, domain=domain)
        check_fits(64, address=address, length=length)
        raise KernelError(errno.EOPNOTSUPP, "invalidate stage 2")

    def finish_commands(self) -> None:
        """Let the hardware carry out the commands in the queue, as Linux waits for them (``qi_submit_sync``)."""
        lib.uiopf_model_finish_commands(self.model)

    def completed_commands(self) -> int:
        """The number of commands carried out that say that all before them have been.

        They are CMD_SYNC, VT-d's Invalidation Wait, COMPLETION_WAIT and IOFENCE.C.
        """
        return int(self._counts().completed)

    def read_register(self, register: int) -> int:
        """Read a register by the vendor's offset.

        Raises: KernelError(EINVAL), there is none; KernelError(EOPNOTSUPP), no register of this model may be used.
        """
        check_fits(32, register=register)
        value = ffi.new("uint64_t *")
        check(lib.uiopf_model_read_register(self.model, register, value), "read a register")
        return int(value[0])

    def write_register(self, register: int, value: int) -> None:
        """Write a register by the vendor's offset, as any software might. Its driver finds what was written.

        Raises: as `read_register`.
        """
        check_fits(32, register=register)
        check_fits(64, value=value)
        check(lib.uiopf_model_write_register(self.model, register, value), "write a register")

    def strangers(self) -> int:
        """The number of page requests that had the requester id of no function behind this IOMMU."""
        return int(self._counts().strangers)

    def lost(self) -> int:
        """The number of page requests that overflowed the queue, and of answers that did not reach the hardware."""
        counts = self._counts()
        return int(counts.overflowed + counts.commands_lost)

    def waited(self) -> int:
        """The number of faults that found the queue full, and that the hardware kept until there was room.

        Transactions that stall wait, and operations of a device that reports its faults; page requests do not. None of
        the faults counted here is lost.
        """
        return int(self._counts().waited)

    def _counts(self) -> CData:
        counts = ffi.new("struct uiopf_model_counts *")
        lib.uiopf_model_get_counts(self.model, counts)
        return counts

    def close(self) -> None:
        """Close it. It is freed with the last function and device behind it. Closing again does nothing."""
        self._model = self._c = None

    def _disown(self) -> None:
        super()._disown()
        self._model = None
