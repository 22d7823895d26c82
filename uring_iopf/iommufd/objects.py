"""Ids and references: what every object of an open of /dev/iommu has in common.

An object stays while somebody uses it. Linux counts the table's own reference too; here `Object.users` counts only the
others, so that 0 means "may be destroyed". Source: drivers/iommu/iommufd/main.c, Linux 6.12.
"""

from __future__ import annotations

import errno
import heapq
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from uring_iopf.errors import KernelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_ID = 2**31 - 1
"""The highest object id: ``xa_limit_31b``."""


_BLOCK: Final = 1024


class IdAllocator:
    """Hands out the lowest free number from 1.

    Numbers given back are bits, `_BLOCK` to an integer, and a heap has the blocks with any: what a call takes does not
    grow with the numbers in use, but for the logarithm of the blocks.
    """

    def __init__(self, last: int = LAST_ID) -> None:
        self._last = last
        self._next = 1  # never handed out, nor any above it
        self._freed: dict[int, int] = {}  # by block; all below _next
        self._blocks: list[int] = []  # a heap of those

    def take(self) -> int:
        """Return the lowest free number. Raises: KernelError(EBUSY), all are taken, as ``xa_alloc`` says it."""
        if self._blocks:
            block = self._blocks[0]
            bits = self._freed[block]
            lowest = bits & -bits
            if bits == lowest:
                heapq.heappop(self._blocks)
                del self._freed[block]
            else:
                self._freed[block] = bits ^ lowest
            return block * _BLOCK + lowest.bit_length() - 1
        if self._next > self._last:
            raise KernelError(errno.EBUSY, "xa_alloc")
        self._next += 1
        return self._next - 1

    def give(self, number: int) -> None:
        """Take back a number that was handed out."""
        block, bit = divmod(number, _BLOCK)
        bits = self._freed.get(block)
        if bits is None:
            heapq.heappush(self._blocks, block)
            bits = 0
        self._freed[block] = bits | 1 << bit


class Object:
    """One object of a context, with its id. Making it puts it into the table."""

    def __init__(self, table: ObjectTable) -> None:
        self._table = table
        self.users = 0
        """How many others use it; it can be destroyed at 0."""
        self.id = table.add(self)
        """Its number in this context. It may be given to another object once this one is gone."""

    @property
    def exists(self) -> bool:
        """Whether it is still in its context's table."""
        return self._table.has(self)

    def hold(self) -> None:
        """Count one more user."""
        self.users += 1

    def put(self) -> None:
        """Count one user less."""
        assert self.users > 0
        self.users -= 1

    def release(self) -> None:
        """Give back what this object uses. For `ObjectTable.destroy` only; if it raises, nothing has changed."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}{'' if self.exists else ' (destroyed)'}>"


ObjectRef: TypeAlias = Object | int
"""Where a call names an object, it takes the object or its id, as the ioctls do."""

T = TypeVar("T", bound=Object)


class ObjectTable:
    """The objects of one context by id: Linux's ``ictx->objects``."""

    def __init__(self) -> None:
        self._ids = IdAllocator()
        self._objects: dict[int, Object] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        """Those there are now, by rising id."""
        return iter([self._objects[number] for number in sorted(self._objects)])

    def has(self, which: Object) -> bool:
        """Whether this very object is in the table, not only one with its id."""
        return self._objects.get(which.id) is which

    def add(self, which: Object) -> int:
        """Give an object its id. Raises: KernelError(EBUSY), no id is free."""
        number = self._ids.take()
        self._objects[number] = which
        return number

    def remove(self, which: Object) -> None:
        """Take an object out and free its id."""
        del self._objects[which.id]
        self._ids.give(which.id)

    def tombstone(self, which: Object) -> None:
        """Take an object out, and keep its id from all others for good.

        Its user has not destroyed it, and may not know yet that it is gone: the id must not name another object then.
        To every call, and so to DESTROY, it names none. Source: iommufd_object_tombstone_user, Linux 7.2.
        """
        del self._objects[which.id]

    def get(self, ref: ObjectRef, kind: type[T], call: str, missing: int = errno.ENOENT) -> T:
        """Return the object of that *kind* which *ref* names.

        Raises: KernelError(*missing*), there is none, or it is of another kind. UsageError, another context's.
        """
        if isinstance(ref, Object):
            if ref._table is not self:
                raise UsageError(f"{call}: {ref} belongs to another context")
            found = ref if self.has(ref) else None
        else:
            found = self._objects.get(ref)
        if not isinstance(found, kind):
            raise KernelError(missing, call)
        return found

    def destroy(self, which: Object, call: str) -> None:
        """Release an object and take it out. Raises: KernelError(EBUSY), it has users; nothing has changed."""
        if which.users:
            raise KernelError(errno.EBUSY, call)
        which.release()
        self.remove(which)
