"""The client's side of a ring: its mapping of the shared memory, as in liburing.

C loads and stores the shared words, with io_uring's barriers. This module makes the calls. Heads and tails are
free-running numbers of 32 bits. A slot is a masked head or tail. One thread at a time may use a ring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from uring_iopf._native import CClientRing, CData, ffi, lib
from uring_iopf.abi import CqeFlags, SetupFlags
from uring_iopf.errors import UsageError, check_fits, whole
from uring_iopf.handles import Handle
from uring_iopf.rings.entries import SQE_BYTES, WIDE_SQE_BYTES, Cqe

if TYPE_CHECKING:
    from uring_iopf.rings.entries import Sqe

WordName: TypeAlias = Literal[
    "sq_head",
    "sq_tail",
    "sq_mask",
    "sq_entries",
    "sq_flags",
    "sq_dropped",
    "cq_head",
    "cq_tail",
    "cq_mask",
    "cq_entries",
    "cq_overflow",
    "cq_flags",
]
WORDS: Final[tuple[WordName, ...]] = get_args(WordName)
"""The words that two sides share, by the names of the offsets that setup publishes."""
_MASK: Final = 2**32 - 1
_BATCH: Final = 256


class ClientRing(Handle[CClientRing]):
    """A mapping of the ring whose memory is *fd*. *params*: the ``struct io_uring_params *`` that setup has filled in.

    *size_bytes*: the size of that memory. *sqes_offset*: the offset of the SQEs in it, in bytes. The mapping stores the
    identity into the SQ array, and continues at the heads and tails that it finds.

    Raises: MemoryError, the memory cannot be mapped.
    """

    _what = "ring"

    def __init__(self, fd: int, params: CData, *, size_bytes: int, sqes_offset: int) -> None:
        super().__init__()
        check_fits(31, fd=fd)
        check_fits(64, size_bytes=size_bytes, sqes_offset=sqes_offset)
        make, free = lib.uiopf_client_ring_map, lib.uiopf_client_ring_unmap
        self._make(free, make, fd, params, size_bytes, sqes_offset)
        self.sq_entries = int(params.sq_entries)
        self.cq_entries = int(params.cq_entries)
        self._flags = SetupFlags(params.flags)
        self._array = 0 if self._flags & SetupFlags.NO_SQARRAY else int(params.sq_off.array)
        sq, cq = params.sq_off, params.cq_off
        self._offsets: dict[WordName, int] = {
            "sq_head": sq.head,
            "sq_tail": sq.tail,
            "sq_mask": sq.ring_mask,
            "sq_entries": sq.ring_entries,
            "sq_flags": sq.flags,
            "sq_dropped": sq.dropped,
            "cq_head": cq.head,
            "cq_tail": cq.tail,
            "cq_mask": cq.ring_mask,
            "cq_entries": cq.ring_entries,
            "cq_overflow": cq.overflow,
            "cq_flags": cq.flags,
        }
        self._sqe_bytes = WIDE_SQE_BYTES if self._flags & SetupFlags.SQE128 else SQE_BYTES
        self._wide_cqes = bool(self._flags & SetupFlags.CQE32)
        self._mixed = bool(self._flags & SetupFlags.CQE_MIXED)
        self._filled = self.load("sq_tail")
        self._cqe_words = 4 if self._wide_cqes else 2
        self._out = ffi.new("uint64_t[]", _BATCH * self._cqe_words)

    @property
    def has_array(self) -> bool:
        """Whether the ring has an SQ array. A ring with NO_SQARRAY has none."""
        return bool(self._array)

    # ---- submission ----

    def space(self) -> int:
        """The number of SQEs that can be filled now."""
        return self.sq_entries - (self._filled - self.load("sq_head") & _MASK)

    def fill(self, sqe: Sqe) -> int | None:
        """Fill the next free SQE. Return its slot, or None if the SQ is full. The kernel sees it after `publish`.

        Raises: UsageError, a field is out of range, or *sqe* is a `WideSqe` and the ring has no SQE128.
        """
        data = sqe.pack()
        if len(data) > self._sqe_bytes:
            raise UsageError("an SQE of 128 bytes needs a ring with SetupFlags.SQE128; this ring has SQEs of 64 bytes")
        slot = lib.uiopf_client_push_wide(self.c, data.ljust(self._sqe_bytes, b"\0"))
        if slot < 0:
            return None
        self._filled = self._filled + 1 & _MASK
        return slot

    def set_index(self, slot: int, index: int) -> None:
        """Store *index* into a slot of the SQ array for good. Raises: UsageError, no such slot, or no array."""
        whole("index", index)
        if not self._array or not 0 <= whole("slot", slot) < self.sq_entries:
            has = f"0 to {self.sq_entries - 1}" if self._array else "a slot of an SQ array, which this ring has not"
            raise UsageError(f"slot must be {has}, not {slot}")
        lib.uiopf_client_store(self.c, self._array + 4 * slot, index & _MASK)

    def publish(self) -> int:
        """Publish the filled SQEs by the SQ tail. Return their number."""
        return lib.uiopf_client_submit(self.c)

    # ---- completion ----

    def reap(self, most: int = 1 << 16) -> list[Cqe]:
        """Return the completions that wait, oldest first, at most *most*, and advance the CQ head. It may be empty."""
        whole("most", most)
        if self._mixed:
            return self._reap_mixed(most)
        found: list[Cqe] = []
        while most > 0:
            n = lib.uiopf_client_reap_wide(self.c, self._out, min(most, _BATCH))
            words = ffi.unpack(self._out, n * self._cqe_words)
            if self._wide_cqes:
                found += [_cqe(*words[at : at + 4]) for at in range(0, len(words), 4)]
            else:
                found += [_cqe(*words[at : at + 2]) for at in range(0, len(words), 2)]
            most -= n
            if n < _BATCH:
                break
        return found

    def _reap_mixed(self, most: int) -> list[Cqe]:
        """Read slot by slot, because a CQE of 32 bytes has two slots, which the kernel publishes together."""
        found: list[Cqe] = []
        while len(found) < most and lib.uiopf_client_reap_wide(self.c, self._out, 1):
            words = ffi.unpack(self._out, 2)
            if words[1] >> 32 & CqeFlags.F_32:
                lib.uiopf_client_reap_wide(self.c, self._out, 1)
                words += ffi.unpack(self._out, 2)
            found.append(_cqe(*words))
        return found

    # ---- the shared words ----

    def load(self, name: WordName) -> int:
        """Return a shared word, loaded with acquire order. Raises: UsageError, *name* is none of `WORDS`."""
        return lib.uiopf_client_load(self.c, self._offset(name))

    def _offset(self, name: WordName) -> int:
        try:
            return self._offsets[name]
        except (KeyError, TypeError):
            raise UsageError(f"name must be one of {', '.join(WORDS)}; not {name!r}") from None

    def store(self, name: WordName, value: int) -> None:
        """Store *value* into a shared word, sequentially consistent, even into a word that only the kernel stores.

        A client stores ``cq_flags``. The other words are for tests, because this side does not read its own indices.
        """
        lib.uiopf_client_store(self.c, self._offset(name), whole("value", value) & _MASK)

    def close(self) -> None:
        """Unmap the ring. Closing again does nothing."""
        self._c = None


def _cqe(user_data: int, second: int, *big_cqe: int) -> Cqe:
    """Make a CQE of its words. The second word has res and flags."""
    res = second & _MASK
    return Cqe(user_data, res - (res >> 31 << 32), second >> 32, (big_cqe[0], big_cqe[1]) if big_cqe else None)
