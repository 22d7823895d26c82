"""Cost models: the prices of one machine, for virtual time.

`PRICES` is the table: each price has its name, its unit, the event that is paid for, and the side that pays. Everything
else follows from it: the fields of a model file, the printed table, the help, and the page on prices. A model is
measured by ``uring-iopf calibrate`` (`uring_iopf.lab.calibration`), or written down from published figures. Models of
the second kind are in the folder ``models`` beside this module.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from uring_iopf.errors import UsageError, check_is

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

SCHEMA: Final = 1
"""The number is raised when a key of the file is removed or changes its meaning."""
UNSAID: Final = "the model does not say why"
"""The reason for a price that a file neither gives nor lists as missing."""

_MODELS: Final = Path(__file__).with_name("models")
_TEXTS: Final = ("name", "machine", "kernel", "source", "when")
_KEYS: Final = ("schema", *_TEXTS, "prices", "missing")
_PRICE_KEYS: Final = ("ns", "spread", "source")
_SHOWN: Final = 60


class PriceFact(NamedTuple):
    """The facts of one price."""

    name: str
    unit: str
    """The unit, as nanoseconds for one of something."""
    what: str
    """The event that is paid for."""
    who: str
    """The side that pays."""


def _table(*facts: PriceFact) -> Mapping[str, PriceFact]:
    return MappingProxyType({one.name: one for one in facts})


PRICES: Final[Mapping[str, PriceFact]] = _table(
    PriceFact("system_call", "ns/call", "a system call that does nothing", "the caller"),
    PriceFact(
        "eventfd_write",
        "ns/write",
        "an eventfd write that wakes a thread asleep on another core, the call included",
        "the waker",
    ),
    PriceFact(
        "wake_up",
        "ns/wake-up",
        "from the beginning of that write until the sleeper's call has returned",
        "nobody, a delay",
    ),
    PriceFact("sleep", "ns/sleep", "from a call that blocks until its core runs another thread", "the sleeper"),
    PriceFact(
        "copy_start", "ns/copy", "the fixed part of a copy that finds both sides in its core's cache", "the copier"
    ),
    PriceFact("copy_byte", "ns/byte", "each byte of such a copy", "the copier"),
    PriceFact(
        "cache_line_same_cache",
        "ns/line",
        "a written cache line, one way between two cores that share a cache",
        "the reader",
    ),
    PriceFact(
        "cache_line_other",
        "ns/line",
        "a written cache line, one way between two cores that share no cache",
        "the reader",
    ),
    PriceFact("empty_look", "ns/look", "a look of a spinning client at a ring that has nothing for it", "the client"),
    PriceFact("interrupt", "ns/interrupt", "an interrupt of the IOMMU, until its driver runs", "the driver's core"),
    PriceFact("table_walk", "ns/walk", "a walk of page tables by an IOMMU, all levels", "the hardware"),
    PriceFact(
        "fault_hardware",
        "ns/fault",
        "the emulated function, IOMMU and driver: a fault into its queue, and its answer back",
        "the emulator",
    ),
    PriceFact(
        "fault_kernel", "ns/fault", "the kernel's half of the design uring-multishot, in batches of 64", "the kernel"
    ),
    PriceFact(
        "fault_client",
        "ns/fault",
        "the client's half of the same: receive, store the page-table entry, answer",
        "the client",
    ),
    PriceFact("request", "ns/request", "a NOP in the emulated ring, from SQE to CQE, in batches of 64", "the kernel"),
    PriceFact(
        "packet_send",
        "ns/packet",
        "a call that puts 40 bytes into a SOCK_SEQPACKET socket of the host; nobody sleeps on it",
        "the sender",
    ),
    PriceFact("packet_receive", "ns/packet", "a call that takes them out, on the same core", "the receiver"),
    PriceFact("packet_look", "ns/call", "a call that finds no packet", "the caller"),
    PriceFact(
        "host_request", "ns/request", "a NOP in the host's io_uring, from SQE to CQE, in batches of 64", "the kernel"
    ),
)
"""Every price, by its name, in the order of the table."""


@dataclass(frozen=True, slots=True)
class Price:
    """One price. Raises: UsageError, a number that a price cannot be."""

    ns: float
    """The median, in nanoseconds, above 0."""
    spread: float = 0.0
    """Half of the distance between the quartiles, over the median; 0: the figure was published without one."""
    source: str = ""
    """The address of the publication; empty: the source of the model."""

    def __post_init__(self) -> None:
        for name, least in (("ns", "above 0"), ("spread", "0 or more")):
            number = _number(getattr(self, name))
            if number is None or number < 0 or (name == "ns" and not number):
                raise UsageError(f"{name}: {_shown(getattr(self, name))} is no finite number {least}; give one")
            object.__setattr__(self, name, number)
        if not isinstance(self.source, str):
            raise UsageError(f"source: {_shown(self.source)} is no text; give the address of the publication")


@dataclass(frozen=True)
class CostModel:
    """The prices of one machine. Every name of `PRICES` is in `prices`, or in `missing` with the reason.

    Raises: UsageError, a name that is no price, or one that has a price and is missing.
    """

    name: str
    machine: str
    """The processor, and what else matters of the hardware."""
    kernel: str
    """The operating system whose calls were measured; empty: no price depends on it, or the source does not say."""
    source: str
    """How the prices came to be: ``uring-iopf calibrate``, or the publication."""
    when: str
    """The date of the measurement or publication, such as 2026-11-30."""
    prices: Mapping[str, Price]
    """The prices, by name, in the order of `PRICES`."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """The reasons why the other prices are missing, by name, in the same order."""

    def __post_init__(self) -> None:
        check_is("text", str, **{name: getattr(self, name) for name in _TEXTS})
        check_is("a mapping", Mapping, prices=self.prices, missing=self.missing)
        _check_names("prices", self.prices)
        _check_names("missing", self.missing)
        check_is("a Price", Price, **self.prices)
        check_is("text, the reason", str, **self.missing)
        for name in PRICES:
            if name in self.prices and name in self.missing:
                raise UsageError(f"{name} has a price and is listed as missing; remove one of the two")
        prices = {name: self.prices[name] for name in PRICES if name in self.prices}
        missing = {name: self.missing.get(name, UNSAID) for name in PRICES if name not in prices}
        object.__setattr__(self, "prices", MappingProxyType(prices))
        object.__setattr__(self, "missing", MappingProxyType(missing))

    def ns(self, name: str) -> float:
        """Return a price in nanoseconds. Raises: UsageError, the model does not have it, or there is no such price."""
        self.need([name])
        return self.prices[name].ns

    def need(self, names: Iterable[str]) -> None:
        """Check that the model has all of these prices, before they are used.

        Raises: UsageError, with each that is missing and the reason; or there is no such price.
        """
        wanted = list(names)
        _check_names("price", wanted)
        if absent := [name for name in PRICES if name in wanted and name not in self.prices]:
            said = "; ".join(f"{name} ({PRICES[name].what}): {self.missing[name]}" for name in absent)
            raise UsageError(
                f"the cost model {self.name} lacks prices: {said}. Measure your own machine with `uring-iopf "
                "calibrate`, or add them to a copy of this model"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the content of the model's file, in its order."""
        prices = {
            name: {"ns": price.ns, "spread": price.spread} | ({"source": price.source} if price.source else {})
            for name, price in self.prices.items()
        }
        texts = {name: getattr(self, name) for name in _TEXTS}
        return {"schema": SCHEMA, **texts, "prices": prices, "missing": dict(self.missing)}

    def dumps(self) -> str:
        """Return the text of the model's file."""
        return json.dumps(self.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the model to a file. Raises: UsageError, the file cannot be written."""
        try:
            Path(path).write_text(self.dumps(), encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: the file cannot be written ({_reason(error)}); give another name") from error

    @classmethod
    def loads(cls, text: str, where: str = "the cost model") -> Self:
        """Return the model of a file's text. Raises: UsageError, with *where*, the key, and what to do."""
        try:
            return cls(**_fields(_parsed(text)))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None

    @classmethod
    def load(cls, path_or_name: str | Path) -> Self:
        """Return a shipped model by its name (`names`), or a model from a file.

        Raises: UsageError, there is no such name or file, or the file is no cost model.
        """
        if not isinstance(path_or_name, (str, os.PathLike)):
            raise UsageError(f"a cost model must be a name or a path, not {path_or_name!r}")
        name = str(path_or_name)
        path = _MODELS / f"{name}.json" if name in names() else Path(path_or_name)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{name}: byte {error.start} is no UTF-8; give a file that `uring-iopf calibrate` wrote"
            ) from error
        except (OSError, ValueError) as error:
            raise UsageError(
                f"there is no cost model {_shown(name)} ({_reason(error)}); give the path of a file that `uring-iopf "
                f"calibrate -o` wrote, or the name of a shipped model ({', '.join(names())})"
            ) from error
        return cls.loads(text, name)


def names() -> list[str]:
    """The names of the shipped models, sorted."""
    return sorted(path.stem for path in _MODELS.glob("*.json"))


# ---- reading a file ----


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _number(value: object) -> float | None:
    """Return a number as a float; None: it is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _check_names(what: str, given: Iterable[str]) -> None:
    for name in given:
        if name not in PRICES:
            raise UsageError(f"{what}: there is no price {_shown(name)}; the prices are {', '.join(PRICES)}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UsageError(f"{twice} is there twice; remove one of the two")
    return found


def _no_constant(name: str) -> float:
    raise UsageError(f"{name} is no number in JSON; give a finite number")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except UsageError:
        raise
    except (ValueError, RecursionError) as error:  # numbers of more than 4,300 digits give a ValueError of their own
        raise UsageError(f"no JSON ({error}); give a file that `uring-iopf calibrate` wrote") from error


def _object(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {_shown(value)} is no JSON object; give one")
    return value


def _check_keys(where: str, content: Mapping[str, Any], keys: Iterable[str]) -> None:
    for key in content:
        if key not in keys:
            raise UsageError(f"{where}: there is no key {_shown(key)}; the keys are {', '.join(keys)}")


def _required(where: str, content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise UsageError(f"{where}: the key {key} is missing; add it")
    return content[key]


def _text(where: str, content: Mapping[str, Any], key: str) -> str:
    value = _required(where, content, key)
    if not isinstance(value, str):
        raise UsageError(f"{key}: {_shown(value)} is no text; give it in quotation marks")
    return value


def _fields(read: object) -> dict[str, Any]:
    """The fields of a model, from what JSON has read."""
    whole = "the file"
    content = _object(whole, read)
    schema = _required(whole, content, "schema")
    if type(schema) is not int or schema != SCHEMA:
        raise UsageError(
            f"schema: {_shown(schema)} is not {SCHEMA}, the format that this version reads; calibrate again, or use "
            "the version that wrote the file"
        )
    _check_keys(whole, content, _KEYS)
    texts = {name: _text(whole, content, name) for name in _TEXTS}
    prices = _object("prices", _required(whole, content, "prices"))
    _check_keys("prices", prices, PRICES)
    reasons = _object("missing", content.get("missing", {}))
    _check_keys("missing", reasons, PRICES)
    return {
        **texts,
        "prices": {name: _price(name, price) for name, price in prices.items()},
        "missing": {name: _text("missing", reasons, name) for name in reasons},
    }


def _price(name: str, read: object) -> Price:
    where = f"prices.{name}"
    content = _object(where, read)
    _check_keys(where, content, _PRICE_KEYS)
    _required(where, content, "ns")
    try:
        return Price(**content)
    except UsageError as error:
        raise UsageError(f"{where}.{error}") from None
