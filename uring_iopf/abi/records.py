"""What goes through a fault queue's file, packed: the message of 40 bytes that is read, the answer of 8 bytes.

Each layout stands here once, as the list of its fields; the rest of the package, and NumPy's arrays, are made from it.
Source: linux/iommufd.h, ``iommu_hwpt_pgfault`` and ``iommu_hwpt_page_response``, Linux 6.12.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from uring_iopf.errors import UsageError, check_fits

if TYPE_CHECKING:
    from collections.abc import Iterable

LOST_GROUPS: Final = 0x8000_0000
"""In a message's flags: it is no fault, but says that `FaultMessage.lost` groups were lost. Ours, not Linux's."""

MESSAGE_FIELDS: Final = (
    ("flags", "I"),
    ("dev_id", "I"),
    ("pasid", "I"),
    ("grpid", "I"),
    ("perm", "I"),
    ("__reserved", "I"),
    ("addr", "Q"),
    ("length", "I"),
    ("cookie", "I"),
)
"""The message's fields in their order, with the codes that `struct` has for them; nothing is between them."""
RESPONSE_FIELDS: Final = (("cookie", "I"), ("code", "I"))
"""The answer's fields."""


def _format(fields: Iterable[tuple[str, str]]) -> struct.Struct:
    """Reserved fields are passed over when unpacked, and packed as 0."""
    codes = (f"{struct.calcsize('<' + code)}x" if name.startswith("__") else code for name, code in fields)
    return struct.Struct("<" + "".join(codes))


_MESSAGE: Final = _format(MESSAGE_FIELDS)
_RESPONSE: Final = _format(RESPONSE_FIELDS)
MESSAGE_BYTES: Final = _MESSAGE.size
RESPONSE_BYTES: Final = _RESPONSE.size


class FaultMessage(NamedTuple):
    """One fault, as a client reads it. The faults of a group share their *cookie*; the last has LAST_PAGE."""

    flags: int
    """`FaultFlags`, and on VT-d and AMD 0x4."""
    dev_id: int
    pasid: int
    """0 where the flags do not have PASID_VALID."""
    grpid: int
    """A PRG index or a stall tag."""
    perm: int
    """`FaultPerm`."""
    addr: int
    length: int
    """0: nobody sets it."""
    cookie: int

    @property
    def lost(self) -> int:
        """How many groups were lost here, for the record of a queue with a depth; 0: this is a fault."""
        return self.length if self.flags & LOST_GROUPS else 0


Message: TypeAlias = "tuple[int, int, int, int, int, int, int, int]"
"""A `FaultMessage`, or a plain tuple of its fields in the same order."""


def unpack_messages(data: bytes | bytearray | memoryview) -> list[FaultMessage]:
    """The messages in what a read returned. Raises: UsageError, not a multiple of 40 bytes."""
    try:
        return list(map(FaultMessage._make, _MESSAGE.iter_unpack(data)))
    except struct.error:
        raise UsageError(f"data must be whole messages of {MESSAGE_BYTES} bytes each, not {len(data)} bytes") from None


def unpack_plain(data: bytes | bytearray | memoryview) -> list[Message]:
    """The same as plain tuples, which take a third of the time. Raises: struct.error, not a multiple of 40 bytes."""
    return list(_MESSAGE.iter_unpack(data))


def pack_message(message: FaultMessage) -> bytes:
    """Its 40 bytes."""
    try:
        return _MESSAGE.pack(*message)
    except (struct.error, TypeError):
        if isinstance(message, FaultMessage):
            for name, code in MESSAGE_FIELDS:
                if not name.startswith("__"):
                    check_fits(8 * struct.calcsize(code), **{name: getattr(message, name)})
        raise UsageError(f"message must be a FaultMessage, not {message!r}") from None


def pack_response(cookie: int, code: int) -> bytes:
    """The 8 bytes that answer the group behind *cookie*; *code*: `PageResponse`, or any other number of 32 bits."""
    return pack_responses([(cookie, code)])


def pack_responses(responses: Iterable[tuple[int, int]]) -> bytes:
    """Several answers, pairs of cookie and code, one behind the other."""
    try:
        return b"".join(_RESPONSE.pack(cookie, code) for cookie, code in responses)
    except (struct.error, TypeError, ValueError):
        raise UsageError(f"responses must be pairs (cookie, code), each 0 to 2^32 - 1, not {responses!r}") from None


def unpack_responses(data: bytes | bytearray | memoryview) -> list[tuple[int, int]]:
    """The answers in what is written, pairs of cookie and code. Raises: UsageError, not a multiple of 8 bytes."""
    try:
        return list(_RESPONSE.iter_unpack(data))
    except struct.error:
        raise UsageError(f"data must be whole answers of {RESPONSE_BYTES} bytes each, not {len(data)} bytes") from None
