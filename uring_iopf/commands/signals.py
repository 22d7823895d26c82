"""The signals that end a command: Ctrl-C (SIGINT), SIGTERM and SIGHUP.

A signal that was ignored when the program was started (a shell's ``&``, ``nohup``) stays ignored. The exit status
follows the shells: 128 plus the signal's number.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from uring_iopf.commands.shared import INTERRUPTED, SIGNALLED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self


class _Handlers:
    """A context manager that handles signals, and restores the earlier handlers. It works on the main thread only."""

    _numbers: tuple[signal.Signals, ...]

    def __init__(self) -> None:
        self.by: int | None = None
        """The number of the first signal that came; None: none came."""
        self._before: list[tuple[signal.Signals, Any]] = []

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    self._before.append((number, before))
                    signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._before:
            signal.signal(*self._before.pop())


class Interrupts(_Handlers):
    """The first SIGTERM or SIGHUP raises KeyboardInterrupt, wherever Ctrl-C would raise it.

    Later ones are ignored, so that the command can write its results. A second Ctrl-C interrupts that, too.
    """

    _numbers = (signal.SIGTERM, signal.SIGHUP)
    _held = False

    def __enter__(self) -> Self:
        """Install the handlers. If SIGINT is ignored, block it, and install Python's own handler for it.

        trio replaces Python's own handler by one that protects trio's internals, and replaces no other. Without it,
        KeyboardInterrupt would be raised inside trio. SIGINT is blocked meanwhile, and discarded at the end.
        """
        on_main_thread = threading.current_thread() is threading.main_thread()
        if on_main_thread and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            self._held = signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
            self._before.append((signal.SIGINT, signal.SIG_IGN))
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # SIGINT is ignored again, which discards a pending one
        if self._held:
            self._held = False
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.by is not None:
            return
        self.by = number
        # trio may have replaced the handler of SIGINT by one that protects its internals.
        ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(ctrl_c):
            ctrl_c(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    def status(self, status: int) -> int:
        """The exit status: *status*, or 128 plus the number of the signal that interrupted the command."""
        return SIGNALLED + self.by if status == INTERRUPTED and self.by is not None else status


class Ends(_Handlers):
    """Ctrl-C, SIGTERM and SIGHUP call the function that ends the service. The first one is remembered.

    None of them raises an exception, so the service ends in good order.
    """

    _numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        super().__init__()
        self._end: Callable[[], None] | None = None

    def call(self, end: Callable[[], None]) -> None:
        """Set the function that the signals call. If a signal has come already, call it at once."""
        self._end = end
        if self.by is not None:
            end()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.by is None:
            self.by = number
        if self._end is not None:
            self._end()
