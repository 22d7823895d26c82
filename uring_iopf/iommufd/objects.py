"""Ids and references: what every object of an open of /dev/iommu has in common.

An object stays while somebody uses it. Linux counts the table's own reference too; here `Object.users` counts only the
others, so that 0 means "may be destroyed". Source: drivers/iommu/iommufd/main.c, Linux 6.12.

A call checks everything first and collects what is to change as *steps* (`uring_iopf.handles`), which
`ObjectTable.change` then does at once. So a signal's exception finds the call done, or not begun. Steps say what
changes and not what it changes to (append, remove), since two of one call may concern the same object.
"""

from __future__ import annotations

import errno
import heapq
from _thread import get_ident
from functools import partial
from itertools import islice
from operator import call as do
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from uring_iopf._native import CIommu, ffi
from uring_iopf.errors import KernelError, UsageError
from uring_iopf.handles import NotCopied, Step, Unshared, at_once, foreign, quietly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

LAST_ID = 2**31 - 1
"""The highest object id: ``xa_limit_31b``."""


NO_IOMMU: Final = CIommu(ffi.NULL)
"""The IOMMU of what is gone: an object keeps no IOMMU in memory once it is destroyed."""

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
        self._returned: list[int] = []  # not among those yet

    def peek(self) -> int:
        """Return the lowest free number, which stays free. Raises: KernelError(EBUSY), all are taken (``xa_alloc``)."""
        self._settle()
        if self._blocks:
            block = self._blocks[0]
            bits = self._freed[block]
            return block * _BLOCK + (bits & -bits).bit_length() - 1
        if self._next > self._last:
            raise KernelError(errno.EBUSY, "xa_alloc")
        return self._next

    def taking(self) -> Step:
        """What takes the number that `peek` returned."""
        if not self._blocks:
            return partial(setattr, self, "_next", self._next + 1)
        block = self._blocks[0]
        bits = self._freed[block]
        rest = bits & bits - 1
        if rest:
            return partial(self._freed.__setitem__, block, rest)
        return quietly(partial(heapq.heappop, self._blocks), partial(self._freed.__delitem__, block))

    def take(self) -> int:
        """Return the lowest free number, and take it. Raises: as `peek`."""
        number = self.peek()
        at_once(self.taking())
        return number

    def giving(self, number: int) -> Step:
        """What takes back a number that was handed out."""
        return partial(self._returned.append, number)

    def give(self, number: int) -> None:
        """Take back a number that was handed out."""
        at_once(self.giving(number))
        self._settle()

    def _settle(self) -> None:
        while self._returned:
            block, bit = divmod(self._returned[-1], _BLOCK)
            bits = self._freed.get(block)
            steps: list[Step] = [
                partial(self._freed.__setitem__, block, (bits or 0) | 1 << bit),
                quietly(self._returned.pop),
            ]
            if bits is None:
                steps.insert(0, partial(heapq.heappush, self._blocks, block))
            at_once(*steps)


class Object(NotCopied):
    """One object of a context, with its id. It exists once `enter` has put it into the table."""

    def __init__(self, table: ObjectTable) -> None:
        self._table = table
        self._users: list[None] = []
        self._entering: list[Step] = []
        self.id = table.free_id()
        """Its number in this context. It may be given to another object once this one is gone."""

    def enter(self, *steps: Step) -> Self:
        """Put it into the table, with all that its making changes, and *steps*. Return it."""
        self._table.change("enter", *self.entering(), *steps)
        return self

    def entering(self) -> list[Step]:
        """What `enter` does."""
        return [*self._entering, *self._table.adding(self)]

    @property
    def users(self) -> int:
        """How many others use it; it can be destroyed at 0."""
        return len(self._users)

    @property
    def exists(self) -> bool:
        """Whether it is in its context's table."""
        return self._table.has(self)

    def holding(self) -> Step:
        """What counts one more user."""
        return partial(self._users.append, None)

    def putting(self) -> Step:
        """What counts one user less."""
        return partial(self._users.remove, None)

    def leaving(self) -> list[Step]:
        """What gives back all that it uses, for `ObjectTable.destroy`. Raises: KernelError, it cannot go."""
        return []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}{'' if self.exists else ' (destroyed)'}>"


ObjectRef: TypeAlias = Object | int
"""Where a call names an object, it takes the object or its id, as the ioctls do."""

T = TypeVar("T", bound=Object)


class ObjectTable(Unshared):
    """The objects of one context by id: Linux's ``ictx->objects``. And who may change them: one thread at a time."""

    _what = "context"

    def __init__(self) -> None:
        super().__init__()
        self._ids = IdAllocator()
        self._objects: dict[int, Object] = {}
        self._state: list[object] = [object()]  # another with each change; none while one is made
        self._seen: dict[int, object] = {}  # by thread: at the beginning of its call

    def begin(self) -> None:
        """At the beginning of each call that changes something: what it checks from now on must still hold then.

        Raises: UsageError, another thread is changing something now, or the parent process has the context.
        """
        self.check_own()
        try:
            self._seen[get_ident()] = self._state[0]
        except IndexError:
            raise _another() from None

    def check_own(self) -> None:
        """Raises: UsageError, in the child of a fork."""
        if self._is_foreign:
            raise foreign(self._what)

    def change(self, call: str, *steps: Step) -> None:
        """Do all steps at once, or those up to the first that C refuses, which must be the first.

        Raises: KernelError, C refuses; UsageError, another thread has changed something since `begin`.
        """
        refusals: list[object] = []
        begun: list[None] = []
        try:
            at_once(
                partial(self._state.remove, self._seen.get(get_ident())),
                partial(begun.append, None),
                partial(refusals.extend, islice(filter(None, map(do, steps)), 1)),
                partial(self._state.append, object()),
            )
        except ValueError:
            if begun:
                raise
            raise _another() from None
        if refusals:
            assert isinstance(refusals[0], int), refusals
            raise KernelError(-refusals[0], call)

    def free_id(self) -> int:
        """The id of the next object. Raises: KernelError(EBUSY), no id is free."""
        return self._ids.peek()

    def adding(self, which: Object) -> list[Step]:
        """What puts an object in, under the id that is free."""
        if which.id != self.free_id():  # another was put in since it was made
            raise _another()
        return [self._ids.taking(), partial(self._objects.__setitem__, which.id, which)]

    def removing(self, which: Object) -> list[Step]:
        """What takes an object out and frees its id."""
        return [partial(self._objects.__delitem__, which.id), self._ids.giving(which.id)]

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        """Those there are now, by rising id."""
        return iter([self._objects[number] for number in sorted(self._objects)])

    def has(self, which: Object) -> bool:
        """Whether this very object is in the table, not only one with its id."""
        return self._objects.get(which.id) is which

    def burying(self, which: Object) -> list[Step]:
        """What takes an object out, and keeps its id from all others for good.

        Its user has not destroyed it, and may not know yet that it is gone: the id must not name another object then.
        To every call, and so to DESTROY, it names none. Source: iommufd_object_tombstone_user, Linux 7.2.
        """
        return [partial(self._objects.__delitem__, which.id)]

    def get(self, ref: ObjectRef, kind: type[T], call: str, missing: int = errno.ENOENT) -> T:
        """Return the object of that *kind* which *ref* names.

        Raises: KernelError(*missing*), there is none, or it is of another kind. UsageError, another context's.
        """
        self.check_own()
        if isinstance(ref, Object):
            if ref._table is not self:
                raise UsageError(f"{call}: {ref} belongs to another context; use objects of this one")
            found = ref if self.has(ref) else None
        else:
            found = self._objects.get(ref)
        if not isinstance(found, kind):
            raise KernelError(missing, call)
        return found

    def destroy(self, which: Object, call: str) -> None:
        """Release an object and take it out. Raises: KernelError(EBUSY), it has users; nothing has changed."""
        self.begin()
        if which.users:
            raise KernelError(errno.EBUSY, call)
        self.change(call, *which.leaving(), *self.removing(which))


def _another() -> UsageError:
    return UsageError("another thread was changing this context; only one can at a time, so make the call again")
