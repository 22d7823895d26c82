"""The host's own io_uring by raw system calls, with the few calls that `ring_helper.Ring` has as well."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from typing import Any

from cffi import FFI

from tests.ring_helper import Cqe, Sqe
from uring_iopf.abi import RegisterOp

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_PARAMS = struct.Struct("=10I 10I 10I")
_SQ_OFFSET, _SQES_OFFSET = 0, 0x10000000

_ffi = FFI()
_ffi.cdef("long syscall(long number, ...); extern int errno;")
_libc: Any = _ffi.dlopen(None)


def system_call(number: int, *args: object) -> int:
    """Make a system call; return what it returns, or -errno."""
    result = int(_libc.syscall(number, *(_ffi.cast("long", a) if isinstance(a, int) else a for a in args)))
    return -_ffi.errno if result == -1 else result


class HostRing:
    """A ring of the host's kernel. Raises: OSError, the host refuses io_uring."""

    def __init__(self, entries: int = 8, *, cq_entries: int = 0, flags: int = 0) -> None:
        if cq_entries:
            flags |= 0x8
        params = _ffi.new("unsigned[30]")
        params[1], params[2] = cq_entries, flags
        self.fd = system_call(_SETUP, entries, _ffi.cast("void *", params))
        if self.fd < 0:
            raise OSError(-self.fd, os.strerror(-self.fd))
        self.sq_entries, self.cq_entries = params[0], params[1]
        sq, cq = list(params)[10:20], list(params)[20:30]
        self._at = {"sq_head": sq[0], "sq_tail": sq[1], "sq_flags": sq[4], "sq_dropped": sq[5], "sq_array": sq[6]}
        self._at |= {"cq_head": cq[0], "cq_tail": cq[1], "cq_overflow": cq[4], "cqes": cq[5], "cq_flags": cq[6]}
        self.features, self._flags = params[5], flags
        self._sqe_size, self._cqe_size = (128 if flags & 0x400 else 64), (32 if flags & 0x800 else 16)
        self._map()

    def _map(self) -> None:
        cqes = self._at["cqes"] + self._cqe_size * self.cq_entries
        array = 0 if self._flags & 0x10000 else self._at["sq_array"] + 4 * self.sq_entries
        self._ring = mmap.mmap(self.fd, max(cqes, array), offset=_SQ_OFFSET)
        self._sqes = mmap.mmap(self.fd, self._sqe_size * self.sq_entries, offset=_SQES_OFFSET)

    def close(self) -> None:
        self._ring.close()
        self._sqes.close()
        os.close(self.fd)

    def word(self, name: str) -> int:
        return int(struct.unpack_from("=I", self._ring, self._at[name])[0])

    def store(self, name: str, value: int) -> None:
        struct.pack_into("=I", self._ring, self._at[name], value & 0xFFFFFFFF)

    def push(self, *sqes: Sqe, slots: Sequence[int] | None = None) -> None:
        """Fill in *sqes* and publish them; *slots* replaces what goes into the SQ array."""
        tail = self.word("sq_tail")
        for i, sqe in enumerate(sqes):
            slot = (tail + i) % self.sq_entries
            at = self._sqe_size * slot
            self._sqes[at : at + 64] = sqe.packed()
            index = slots[i] if slots is not None else slot
            if self._flags & 0x10000:
                continue
            struct.pack_into("=I", self._ring, self._at["sq_array"] + 4 * slot, index)
        self.store("sq_tail", tail + len(sqes))

    def enter(self, to_submit: int, min_complete: int = 0, flags: int = 0) -> int:
        return system_call(_ENTER, self.fd, to_submit, min_complete, flags, _ffi.NULL, 0)

    def register(self, op: RegisterOp, arg: object, nr_args: int) -> int:
        return system_call(_REGISTER, self.fd, int(op), arg, nr_args)

    def reap(self, most: int = 1 << 30) -> list[Cqe]:
        head, tail = self.word("cq_head"), self.word("cq_tail")
        cqes: list[Cqe] = []
        while head != tail and len(cqes) < most:
            at = self._at["cqes"] + self._cqe_size * (head % self.cq_entries)
            cqes.append(Cqe(*struct.unpack_from("=QiI", self._ring, at)))
            head = (head + 1) & 0xFFFFFFFF
        self.store("cq_head", head)
        return cqes

    def reap_words(self) -> list[tuple[int, ...]]:
        """Every slot of the CQ that is filled, as four words, or two where it has 16 bytes."""
        head, tail = self.word("cq_head"), self.word("cq_tail")
        slots = [(head + i) % self.cq_entries for i in range((tail - head) & 0xFFFFFFFF)]
        self.store("cq_head", tail)
        at, size = self._at["cqes"], self._cqe_size
        return [struct.unpack_from(f"={size // 8}Q", self._ring, at + size * slot) for slot in slots]

    def resize(self, entries: int, cq_entries: int = 0, flags: int = 0) -> int:
        """RESIZE_RINGS, and the new mappings."""
        params = _ffi.new("unsigned[30]")
        params[0], params[1], params[2] = entries, cq_entries, flags
        result = system_call(_REGISTER, self.fd, 33, _ffi.cast("void *", params), 1)
        if result == 0:
            sq, cq = list(params)[10:20], list(params)[20:30]
            self._ring.close()
            self._sqes.close()
            self.sq_entries, self.cq_entries = params[0], params[1]
            self._at |= {"sq_array": sq[6], "cqes": cq[5]}
            self._map()
        return result
