"""What ends a command: Ctrl-C, SIGTERM and SIGHUP.

One that was ignored when the program was started (a shell's ``&``, ``nohup``) stays so. The exit status is the shells':
128 and the signal's number.
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
    """Handles signals until the end of the block; the handlers are as before afterwards. For the main thread."""

    _numbers: tuple[signal.Signals, ...]

    def __init__(self) -> None:
        self.by: int | None = None
        """The first of them that came."""
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
    """SIGTERM and SIGHUP do what Ctrl-C does: a KeyboardInterrupt, once, wherever Ctrl-C would raise it.

    More of them are let pass, so that what was measured is written; Ctrl-C again ends that, too.
    """

    _numbers = (signal.SIGTERM, signal.SIGHUP)
    _held = False

    def __enter__(self) -> Self:
        """Where Ctrl-C is ignored, it stays so, but has Python's handler, for which trio puts one that spares itself.

        Without it a KeyboardInterrupt would come out of trio's insides. SIGINT is held back meanwhile, and forgotten in
        the end.
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
        super().__exit__(kind, error, trace)  # ignored again, it is not pending any more
        if self._held:
            self._held = False
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.by is not None:
            return
        self.by = number
        # trio has its own way with Ctrl-C, which spares its insides.
        ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(ctrl_c):
            ctrl_c(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    def status(self, status: int) -> int:
        """What the command returned, but for the number of the signal that interrupted it."""
        return SIGNALLED + self.by if status == INTERRUPTED and self.by is not None else status


class Ends(_Handlers):
    """Ctrl-C, SIGTERM and SIGHUP, once or often: each is remembered, and calls what ends the service, in order.

    None of them raises an exception, so nothing is left half done.
    """

    _numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        super().__init__()
        self._end: Callable[[], None] | None = None

    def call(self, end: Callable[[], None]) -> None:
        """Let them call *end*; at once, if one has come."""
        self._end = end
        if self.by is not None:
            end()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.by is None:
            self.by = number
        if self._end is not None:
            self._end()
