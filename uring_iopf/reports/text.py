"""Numbers and names as text: plain ASCII, three significant digits."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH: Final = 80

_LATENCY_UNITS: Final = ((1e9, " s"), (1e6, " ms"), (1e3, " us"))
_RATE_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALLEST: Final = 0.001


def three_digits(value: float) -> str:
    """*value*, below 1,000, with three digits: 123, 12.3, 1.23, 0.123. A smaller value that is not zero is <0.001."""
    if value == 0:
        return "0"
    if abs(value) < _SMALLEST:
        return f"<{_SMALLEST}"
    decimals = next((n for limit, n in ((99.95, 0), (9.995, 1), (0.9995, 2)) if abs(value) >= limit), 3)
    return f"{value:.{decimals}f}"


def _scaled(value: float, units: Iterable[tuple[float, str]], unit: str) -> str:
    # 999.5 already reads as 1000, so that it goes into the next unit
    for size, name in units:
        if abs(value) >= 0.9995 * size:
            return three_digits(value / size) + name
    return three_digits(value) + unit


def rate(per_second: float) -> str:
    """A rate per second: 12.3M, 812k, 950."""
    return _scaled(per_second, _RATE_UNITS, "")


def duration(ns: float) -> str:
    """A time in nanoseconds: 812 ns, 1.23 us, 45.1 ms. A whole number below 1,000 has no fraction."""
    if ns == int(ns) and ns < 1000:
        return f"{int(ns)} ns"
    return _scaled(ns, _LATENCY_UNITS, " ns")


def plain(text: str) -> str:
    """*text* in printable ASCII, with escapes for other characters in the names of files and classes."""
    escaped = text.encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in escaped)


def paragraph(text: str, *, label: str = "") -> str:
    """*text*, wrapped after *label*. Further lines are indented as far as the label."""
    return textwrap.fill(plain(text), WIDTH, initial_indent=label, subsequent_indent=" " * len(label))
