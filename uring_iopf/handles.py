"""Handles: objects in Python that own an object in C. They survive an exception at any bytecode.

Python runs signal handlers between two bytecodes of the main thread. An exception of a handler is raised in the
function that ran there: after an object was made in C and before its pointer was stored, or in the middle of a
``finally``. A ``try`` does not help, because the exception can come just before it. Two rules help:

- **A value owns its object in C** (`owned`). One bytecode makes the object and its owner. The object is freed when the
  last reference to that value is dropped. A call in another thread has such a reference. So `close` drops the value by
  one store, which cannot be done halfway or twice. The order in which values are dropped makes no difference, because
  objects in C hold the objects that they use (``cdefs/base/lifetime.h``).
- **One bytecode makes all changes that belong together** (`at_once`): a chain of functions in C, all prepared
  beforehand. A call checks everything, prepares the changes, and makes them at once.

The child of a fork cannot use a handle: it has no worker, and the shared memory is the parent's. So the child drops all
handles before anything else runs. That frees its copies and touches nothing shared. From then on a handle refuses its
calls.
"""

from __future__ import annotations

import errno
import itertools
import os
import warnings
import weakref
from collections import deque
from functools import partial
from io import FileIO
from operator import call
from typing import TYPE_CHECKING, ClassVar, Generic, NoReturn, TypeAlias, TypeVar

from uring_iopf._native import ffi
from uring_iopf.errors import HostError, KernelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

Pointer = TypeVar("Pointer")
Step: TypeAlias = "Callable[[], object]"
"""A function without parameters and without bytecodes: a `functools.partial` of one that is written in C."""


def owned(
    free: Callable[[Pointer], object],
    make: Callable[..., Pointer],
    *arguments: object,
    keep: list[object] | None = None,
) -> Pointer | None:
    """Make an object by the C function *make*. Return the value that owns it, or None if C returned NULL.

    *free* is called when nothing refers to the value any more; it must accept NULL. *keep*: Python memory that the
    object uses; the list's elements live until after *free*. Store the value at once where `close` drops it, and in no
    local variable, because the traceback of an exception keeps local variables alive.
    """
    ffi.errno = 0
    if keep is None:
        return next(filter(None, map(ffi.gc, map(make, *zip(arguments, strict=True)), (free,))), None)
    # The inner destructor holds the list, and is dropped after `free` has run. Its extra append has no effect.
    kept = map(ffi.gc, map(make, *zip(arguments, strict=True)), (keep.append,))
    return next(filter(None, map(ffi.gc, kept, (free,))), None)


def held(make: Callable[..., int], *arguments: object) -> FileIO:
    """Make a descriptor and hold it, within one bytecode: no exception comes between the two."""
    return next(map(FileIO, map(make, *zip(arguments, strict=True))))


def no_room(what: str) -> Exception:
    """The error to raise when `owned` has returned None: HostError if no descriptor is free, else MemoryError."""
    if ffi.errno in (errno.EMFILE, errno.ENFILE):
        return HostError(ffi.errno, f"no descriptor is free for this: {what}")
    return MemoryError(f"there is no memory for this: {what}")


def at_once(*steps: Step) -> object:
    """Do all *steps* within one bytecode, up to the first that returns a true value. Return that value, or None.

    A C function that fails returns ``-errno``, so the steps after it are not done.
    """
    return next(filter(None, map(call, steps)), None)


def quietly(*steps: Step) -> Step:
    """Make one step of several. Their return values are ignored."""
    return partial(deque, map(call, steps), 0)


def leave(close: Step, error: BaseException | None) -> None:
    """Close at the end of a with block. An exception out of the block comes out, not a refusal to close after it."""
    try:
        close()
    except (KernelError, UsageError):
        if error is None:
            raise


class NotCopied:
    """Base of objects that exist once. A copy would free, answer or close the same object a second time."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise UsageError(f"{self!r} cannot be copied or pickled; pass the object itself")


class Unshared(NotCopied):
    """Base of objects that belong to one process. In the child of a fork their calls raise UsageError."""

    _what: ClassVar[str] = "object"
    """The name of the object in errors."""
    _is_foreign = False
    _on: Unshared | None = None
    """The core on which it was made."""

    def __init__(self) -> None:
        _unshared.add(self)

    def _is_open(self) -> bool:
        return False

    def _abandon(self) -> None:
        """Prepare the child of a fork, before any object is dropped."""

    def _disown(self) -> None:
        """Drop the object in the child of a fork."""
        self._is_foreign = True


class Handle(Unshared, Generic[Pointer]):
    """An object in C, open until it is closed.

    A subclass makes the object by `_make`, and stores None into `_c` in its `close`.
    """

    _c: Pointer | None = None

    def _make(
        self,
        free: Callable[[Pointer], object],
        make: Callable[..., Pointer],
        *arguments: object,
        keep: list[object] | None = None,
    ) -> None:
        """Make the object; see `owned`. Raises: as `no_room`, C returned NULL."""
        try:
            self._c = owned(free, make, *arguments, keep=keep)
        except BaseException:
            self._c = None
            raise
        if self._c is None:
            raise no_room(self._what)

    @property
    def c(self) -> Pointer:
        """The C object, for the layers above. Raises: UsageError, it is closed, or belongs to the parent process."""
        # Use no local variable: the traceback of an exception would keep the object that `close` is to free.
        return self._c or self._refuse()

    def _refuse(self) -> NoReturn:
        raise self._refusal()

    def _refusal(self) -> Exception:
        """The error for a call after `close`."""
        if self._is_foreign:
            return foreign(self._what)
        return UsageError(f"this {self._what} is closed")

    def _is_open(self) -> bool:
        return self._c is not None

    def _disown(self) -> None:
        super()._disown()
        self._c = None


def foreign(what: str) -> UsageError:
    """The error for a call in the child of a fork."""
    return UsageError(f"this {what} belongs to the parent process; make another one in this process")


class _Known:
    """Weak references to all unshared objects.

    References have no callback: a callback runs bytecodes, and an exception of a signal handler would be lost in them.
    So dead references are removed now and then.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._known: dict[int, weakref.ref[Unshared]] = {}
        self._look_at = 256

    def add(self, one: Unshared) -> None:
        """Add an object."""
        if len(self._known) >= self._look_at:
            for number in [number for number, known in list(self._known.items()) if known() is None]:
                self._known.pop(number, None)
            self._look_at = max(256, 2 * len(self._known))
        self._known[next(self._numbers)] = weakref.ref(one)

    def all(self) -> list[Unshared]:
        """The objects that are alive."""
        return [one for known in list(self._known.values()) if (one := known()) is not None]


_unshared = _Known()


def open_on(core: Unshared) -> list[Unshared]:
    """The open objects on a core."""
    return [one for one in _unshared.all() if one._on is core and one._is_open()]


_watched: dict[int, weakref.ref[object]] = {}


def watch(one: object, message: str) -> None:
    """Give a ResourceWarning if *one* is garbage-collected before `unwatch`.

    A ``__del__`` would run bytecodes, and an exception of a signal handler would be lost in them.
    """
    for number in [number for number, known in list(_watched.items()) if known() is None]:
        _watched.pop(number, None)
    # The reference is passed as the warning's source, so the warning tells where the object was made.
    _watched[id(one)] = weakref.ref(one, partial(warnings.warn, message, ResourceWarning, 1))


def unwatch(one: object) -> None:
    """Give no ResourceWarning for *one*, because it is closed."""
    _watched.pop(id(one), None)


def _after_fork() -> None:
    everything = _unshared.all()
    for one in everything:
        one._abandon()
    for one in everything:
        one._disown()


os.register_at_fork(after_in_child=_after_fork)
