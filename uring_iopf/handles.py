"""Handles: objects in Python that stand for something in C, which is made, used and given back whatever comes between.

What comes between is an exception. Python runs signal handlers between two bytecodes of the main thread. What a handler
raises comes out of the function that ran there: after an object was made in C and before its pointer was stored, or in
the middle of a ``finally``. No ``try`` helps against that, since the exception can come just before it. Two rules do:

- **An object in C belongs to its value** (`owned`). One bytecode makes it and gives it its owner. It is freed when the
  last reference to that value goes; a call that another thread is in has one. So `close` forgets the value: one store,
  which cannot be done halfway or twice. The order in which values go makes no difference, since objects in C hold what
  they work on (``cdefs/base/lifetime.h``).
- **What must change together is changed by one bytecode** (`at_once`): a chain of functions that are written in C, all
  prepared beforehand. A call checks everything, prepares, and changes at once.

The child of a fork cannot use a handle: it has no worker, and the shared memory is the parent's. So the child lets go
of all of them before anything else runs, which frees its copies and touches nothing shared. From then on they refuse.
"""

from __future__ import annotations

import errno
import itertools
import os
import warnings
import weakref
from collections import deque
from functools import partial
from operator import call
from typing import TYPE_CHECKING, ClassVar, Generic, NoReturn, TypeAlias, TypeVar

from uring_iopf._native import ffi
from uring_iopf.errors import HostError, UsageError

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
    """Make something by a C function. When nothing refers to the value any more, `free` is called; it takes NULL too.

    *keep*: what the object uses of Python's memory; all that is in the list stays until after `free`. Return the value,
    or None where C returned NULL. Store it at once where `close` will forget it, and in no local variable: an
    exception's traceback keeps the variables of the functions that it came through.
    """
    ffi.errno = 0
    if keep is None:
        return next(filter(None, map(ffi.gc, map(make, *zip(arguments, strict=True)), (free,))), None)
    # Its destructor holds the list, and is let go of after `free`. That it appends once more harms nobody.
    kept = map(ffi.gc, map(make, *zip(arguments, strict=True)), (keep.append,))
    return next(filter(None, map(ffi.gc, kept, (free,))), None)


def no_room(what: str) -> Exception:
    """What is raised where `owned` has returned None: HostError, there is no descriptor; MemoryError."""
    if ffi.errno in (errno.EMFILE, errno.ENFILE):
        return HostError(ffi.errno, what)
    return MemoryError(f"there is no memory for this: {what}")


def at_once(*steps: Step) -> object:
    """Do all *steps* within one bytecode, or those up to the first that returns anything true. Return that, or None.

    A C function of ours that fails returns ``-errno``, so what follows is not done then.
    """
    return next(filter(None, map(call, steps)), None)


def quietly(*steps: Step) -> Step:
    """Make one step of several, whatever they return."""
    return partial(deque, map(call, steps), 0)


class NotCopied:
    """Base of what exists once: a copy would give back, answer or close the same thing a second time."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise UsageError(f"{self!r} cannot be copied or pickled; pass the object itself")


class Unshared(NotCopied):
    """Base of what belongs to one process: in the child of a fork it refuses."""

    _what: ClassVar[str] = "object"
    """Its name, for errors."""
    _is_foreign = False
    _on: Unshared | None = None
    """The core that it was made on."""

    def __init__(self) -> None:
        _unshared.add(self)

    def _is_open(self) -> bool:
        return False

    def _abandon(self) -> None:
        """In the child of a fork, before anything lets go."""

    def _disown(self) -> None:
        """In the child of a fork: let go."""
        self._is_foreign = True


class Handle(Unshared, Generic[Pointer]):
    """Something in C, open until it is closed.

    A subclass makes it by `_make`, and stores None into `_c` in its `close`.
    """

    _c: Pointer | None = None

    def _make(
        self,
        free: Callable[[Pointer], object],
        make: Callable[..., Pointer],
        *arguments: object,
        keep: list[object] | None = None,
    ) -> None:
        """Make it; see `owned`. Raises: as `no_room`, C returned NULL."""
        try:
            self._c = owned(free, make, *arguments, keep=keep)
        except BaseException:
            self._c = None
            raise
        if self._c is None:
            raise no_room(self._what)

    @property
    def c(self) -> Pointer:
        """The C object, for the layers above. Raises: UsageError, it is closed, or the parent process has it."""
        # No variable: an exception's traceback would keep it, and with it the object that `close` is to let go of.
        return self._c or self._refuse()

    def _refuse(self) -> NoReturn:
        raise self._refusal()

    def _refusal(self) -> Exception:
        """What use after the end raises."""
        if self._is_foreign:
            return foreign(self._what)
        return UsageError(f"this {self._what} is closed")

    def _is_open(self) -> bool:
        return self._c is not None

    def _disown(self) -> None:
        super()._disown()
        self._c = None


def foreign(what: str) -> UsageError:
    """What the child of a fork is told."""
    return UsageError(f"this {what} belongs to the parent process; make another one in this process")


class _Known:
    """All that is unshared, without keeping it.

    No callback tells when one goes: a callback runs bytecodes of its own, and a signal handler's exception would be
    lost in it. So what is gone is dropped now and then.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._known: dict[int, weakref.ref[Unshared]] = {}
        self._look_at = 256

    def add(self, one: Unshared) -> None:
        """Remember one more."""
        if len(self._known) >= self._look_at:
            for number in [number for number, known in list(self._known.items()) if known() is None]:
                self._known.pop(number, None)
            self._look_at = max(256, 2 * len(self._known))
        self._known[next(self._numbers)] = weakref.ref(one)

    def all(self) -> list[Unshared]:
        """Those there are."""
        return [one for known in list(self._known.values()) if (one := known()) is not None]


_unshared = _Known()


def open_on(core: Unshared) -> list[Unshared]:
    """What was made on a core and is open still."""
    return [one for one in _unshared.all() if one._on is core and one._is_open()]


_watched: dict[int, weakref.ref[object]] = {}


def watch(one: object, message: str) -> None:
    """Give a ResourceWarning where *one* is forgotten, until `unwatch`.

    Not by ``__del__``: that runs bytecodes, and a signal handler's exception would be lost in them.
    """
    for number in [number for number, known in list(_watched.items()) if known() is None]:
        _watched.pop(number, None)
    # What it is called with besides, the reference, is the warning's source: where that was made.
    _watched[id(one)] = weakref.ref(one, partial(warnings.warn, message, ResourceWarning, 1))


def unwatch(one: object) -> None:
    """It is closed."""
    _watched.pop(id(one), None)


def _after_fork() -> None:
    everything = _unshared.all()
    for one in everything:
        one._abandon()
    for one in everything:
        one._disown()


os.register_at_fork(after_in_child=_after_fork)
