"""The ids and references of the objects of an open of /dev/iommu.

An object exists while it has a user. Linux counts the table's own reference too. Here `Object.users` counts only the
other users, so an object with 0 users may be destroyed. Source: drivers/iommu/iommufd/main.c, Linux 6.12.

A call checks everything first, and collects its changes as *steps* (`uring_iopf.handles`). `ObjectTable.change` then
does all steps at once. So an exception of a signal handler finds the call done, or not begun. A step names a change
(append, remove) and not a new value, because two steps of a call may change the same object.
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
from uring_iopf.errors import KernelError, UsageError, whole
from uring_iopf.handles import NotCopied, Step, Unshared, at_once, foreign, quietly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

LAST_ID = 2**31 - 1
"""The highest object id: ``xa_limit_31b``."""


NO_IOMMU: Final = CIommu(ffi.NULL)
"""The IOMMU of a destroyed object, which must not keep its IOMMU in memory."""

_BLOCK: Final = 1024


class IdAllocator:
    """Allocates the lowest free number, from 1.

    Freed numbers are bits of integers, `_BLOCK` numbers in each, and a heap has the integers that are not 0. So the
    time of a call grows only with the logarithm of the number of blocks.
    """

    def __init__(self, last: int = LAST_ID) -> None:
        self._last = last
        self._next = 1  # never handed out, nor any above it
        self._freed: dict[int, int] = {}  # by block; all below _next
        self._blocks: list[int] = []  # a heap of those
        self._returned: list[int] = []  # not among those yet

    def peek(self) -> int:
        """Return the lowest free number, which stays free. Raises: KernelError(EBUSY), none is free (``xa_alloc``)."""
        self._settle()
        if self._blocks:
            block = self._blocks[0]
            bits = self._freed[block]
            return block * _BLOCK + (bits & -bits).bit_length() - 1
        if self._next > self._last:
            raise KernelError(errno.EBUSY, "xa_alloc")
        return self._next

    def taking(self) -> Step:
        """The step that allocates the number that `peek` returned."""
        if not self._blocks:
            return partial(setattr, self, "_next", self._next + 1)
        block = self._blocks[0]
        bits = self._freed[block]
        rest = bits & bits - 1
        if rest:
            return partial(self._freed.__setitem__, block, rest)
        return quietly(partial(heapq.heappop, self._blocks), partial(self._freed.__delitem__, block))

    def take(self) -> int:
        """Allocate the lowest free number, and return it. Raises: as `peek`."""
        number = self.peek()
        at_once(self.taking())
        return number

    def giving(self, number: int) -> Step:
        """The step that frees a number."""
        return partial(self._returned.append, number)

    def give(self, number: int) -> None:
        """Free a number."""
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
        """Its number in this context. Another object may get the number once this one is destroyed."""

    def enter(self, *steps: Step) -> Self:
        """Put the object into the table, with all changes that its creation makes, and *steps*. Return it."""
        self._table.change("enter", *self.entering(), *steps)
        return self

    def entering(self) -> list[Step]:
        """The steps of `enter`."""
        return [*self._entering, *self._table.adding(self)]

    @property
    def users(self) -> int:
        """The number of its users. It can be destroyed at 0."""
        return len(self._users)

    @property
    def exists(self) -> bool:
        """Whether the object is in its context's table."""
        return self._table.has(self)

    def holding(self) -> Step:
        """The step that adds a user."""
        return partial(self._users.append, None)

    def putting(self) -> Step:
        """The step that removes a user."""
        return partial(self._users.remove, None)

    def leaving(self) -> list[Step]:
        """The steps that release the objects that it uses. Raises: KernelError, it cannot be destroyed."""
        return []

    def left(self) -> None:
        """Do what follows once it has been destroyed."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}{'' if self.exists else ' (destroyed)'}>"


ObjectRef: TypeAlias = Object | int
"""An object or its id. Calls that name an object accept both."""

T = TypeVar("T", bound=Object)


def check_refs(**refs: object) -> None:
    """Raises: UsageError, one of *refs* is neither an object nor a whole number."""
    for name, ref in refs.items():
        if not isinstance(ref, Object):
            try:
                whole(name, ref)
            except UsageError:
                raise UsageError(f"{name} must be an object of a context or its id, not {ref!r}") from None


class ObjectTable(Unshared):
    """The objects of one context by id: Linux's ``ictx->objects``. One thread at a time may change them."""

    _what = "context"

    def __init__(self) -> None:
        super().__init__()
        self._ids = IdAllocator()
        self._objects: dict[int, Object] = {}
        self._state: list[object] = [object()]  # another with each change; none while one is made
        self._seen: dict[int, object] = {}  # by thread: at the beginning of its call

    def begin(self) -> None:
        """Begin a call that changes objects. `change` fails if another thread has changed anything since then.

        Raises: UsageError, another thread is changing objects now, or the context belongs to the parent process.
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
        """Do all steps at once. Only the first step may be one that C can refuse; then no step is done.

        Raises: KernelError, C refused; UsageError, another thread has changed an object since `begin`.
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
        """The steps that add an object, under the free id."""
        if which.id != self.free_id():  # another was put in since it was made
            raise _another()
        return [self._ids.taking(), partial(self._objects.__setitem__, which.id, which)]

    def removing(self, which: Object) -> list[Step]:
        """The steps that remove an object, and free its id."""
        return [partial(self._objects.__delitem__, which.id), self._ids.giving(which.id)]

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        """Iterate over the objects, by rising id."""
        return iter([self._objects[number] for number in sorted(self._objects)])

    def has(self, which: Object) -> bool:
        """Whether this object itself is in the table, and not another one with its id."""
        return self._objects.get(which.id) is which

    def burying(self, which: Object) -> list[Step]:
        """The steps that remove an object, and never free its id.

        The client has not destroyed the object, and may not know yet that it is gone. So the id must not name another
        object. Every call, and so DESTROY, returns ENOENT for it. Source: iommufd_object_tombstone_user, Linux 7.2.
        """
        return [partial(self._objects.__delitem__, which.id)]

    def get(self, ref: ObjectRef, kind: type[T], call: str, missing: int = errno.ENOENT) -> T:
        """Return the object that *ref* names.

        Raises: KernelError(*missing*), there is no such object, or it is of another *kind*; UsageError, it belongs to
        another context.
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
        """Destroy an object. Raises: KernelError(EBUSY), it has users. Nothing has changed then."""
        self.begin()
        if which.users:
            raise KernelError(errno.EBUSY, call)
        self.change(call, *which.leaving(), *self.removing(which))
        which.left()


def _another() -> UsageError:
    return UsageError("another thread was changing this context; only one can at a time, so make the call again")
