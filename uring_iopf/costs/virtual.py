"""Prices in virtual time: a cost model's, as the prices of the events that are counted (``struct uiopf_prices``)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from uring_iopf.costs.model import PRICES
from uring_iopf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uring_iopf.costs.model import CostModel

DEFAULT_MODEL: Final = "round-numbers"
"""The name of the shipped model that is used where none is given, so that results are the same everywhere."""

SHIFT: Final = 10
"""Prices in C are in 1/1024 ns, so that the price of a byte has a value (``UIOPF_PRICE_SHIFT``)."""

MAY_LACK: Final = ("interrupt", "table_walk")
"""The prices that a model may lack, because no program can measure them. They are 0 then."""
NOT_CHARGED: Final = ("copy_start",)
"""The prices that are in others already: each copy of a design is part of a call, a request or a fault."""
ON_HOST: Final = ("packet_send", "packet_receive", "packet_look", "host_request")
"""The prices that only designs on the host need."""
LINES: Final = ("cache_line_same_cache", "cache_line_other")
"""The prices of a cache line. The cores share a cache if the model has the first."""

NOP_BYTES: Final = 64 + 16
"""The bytes that a NOP copies, an SQE and a CQE; the price ``request`` has them in it."""
MULTISHOT_BYTES: Final = 40 + 8 + 64 + 16
"""The bytes that a fault of ``uring-multishot`` copies; the price ``fault_kernel`` has them in it."""


def prices_of(model: CostModel) -> dict[str, float]:
    """The prices of `struct uiopf_prices`, by its fields, in nanoseconds.

    `fault_kernel` and `request` were measured with the copies that they make, and `fault_kernel` with the ring's work.
    Both have a price or a count of their own here, so they are taken out. Halves go to the two ends of a way.

    Raises: UsageError, the model lacks prices, and says why.
    """
    line = next((name for name in LINES if name in model.prices), LINES[0])
    model.need([name for name in PRICES if name not in (*MAY_LACK, *NOT_CHARGED, *LINES, *ON_HOST)] + [line])

    def may_lack(name: str) -> float:
        return model.ns(name) if name in model.prices else 0.0

    byte = model.ns("copy_byte")
    request = max(0.0, model.ns("request") - NOP_BYTES * byte)
    kernel = max(0.0, model.ns("fault_kernel") - request - MULTISHOT_BYTES * byte)
    hardware = model.ns("fault_hardware")
    return {
        "system_call": model.ns("system_call"),
        "empty_poll": model.ns("system_call"),
        "packet_sent": 0.0,
        "packet_received": 0.0,
        "copy_byte": byte,
        "sqe": request / 2,
        "cqe": request / 2,
        "punt": model.ns("wake_up"),
        "look": model.ns("empty_look"),
        "line": model.ns(line),
        "sleep": model.ns("sleep"),
        "wake": max(0.0, model.ns("eventfd_write") - model.ns("system_call")),
        "wake_up": model.ns("wake_up"),
        "sent": hardware / 2,
        "answered": hardware / 2,
        "walk": may_lack("table_walk"),
        "interrupt": may_lack("interrupt"),
        "taken": kernel / 2,
        "accepted": kernel / 2,
        "client": model.ns("fault_client"),
    }


def host_prices_of(model: CostModel) -> dict[str, float]:
    """The same for a design on the host: its sockets and its ring in place of the emulated ones.

    `packet_send` and `packet_receive` were measured with their calls, which are counted too, so the calls are taken
    out. These prices and `host_request` contain all copies.

    Raises: UsageError, the model lacks prices, and says why.
    """
    prices = prices_of(model)
    model.need(ON_HOST)
    call = model.ns("system_call")
    request = model.ns("host_request")
    return prices | {
        "empty_poll": model.ns("packet_look"),
        "packet_sent": max(0.0, model.ns("packet_send") - call),
        "packet_received": max(0.0, model.ns("packet_receive") - call),
        "copy_byte": 0.0,
        "sqe": request / 2,
        "cqe": request / 2,
    }


def in_c(prices: Mapping[str, float]) -> dict[str, int]:
    """The same in the units of C. Raises: UsageError, a price of more than a day."""
    found = {name: round(ns * 2**SHIFT) for name, ns in prices.items()}
    if too_large := [name for name, price in found.items() if price >= 86_400 * 10**9 << SHIFT]:
        raise UsageError(f"virtual time: a price of more than a day: {', '.join(too_large)}; give smaller ones")
    return found


def digest_of(model: CostModel) -> str:
    """The SHA-256 of the model's text, shortened: results of one digest have the same prices."""
    return hashlib.sha256(model.dumps().encode()).hexdigest()[:16]
