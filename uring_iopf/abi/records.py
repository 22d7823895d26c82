"""The records of a fault queue's file: a message has 40 bytes, an answer has 8.

This module defines each layout once, as the list of its fields. The rest of the package and NumPy's arrays use it.
Source: linux/iommufd.h, ``iommu_hwpt_pgfault`` and ``iommu_hwpt_page_response``, Linux 6.12.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from uring_iopf.errors import UsageError, check_fits

if TYPE_CHECKING:
    from collections.abc import Iterable

LOST_GROUPS: Final = 0x8000_0000
"""A flag of a message that is no fault: `FaultMessage.lost` groups were lost. Linux does not have it."""

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
"""The fields of a message in their order, with their codes in `struct`. There is no padding."""
RESPONSE_FIELDS: Final = (("cookie", "I"), ("code", "I"))
"""The fields of an answer."""


def _format(fields: Iterable[tuple[str, str]]) -> struct.Struct:
    """Return the format of fields. Reserved fields are packed as 0, and skipped when unpacked."""
    codes = (f"{struct.calcsize('<' + code)}x" if name.startswith("__") else code for name, code in fields)
    return struct.Struct("<" + "".join(codes))


_MESSAGE: Final = _format(MESSAGE_FIELDS)
_RESPONSE: Final = _format(RESPONSE_FIELDS)
MESSAGE_BYTES: Final = _MESSAGE.size
RESPONSE_BYTES: Final = _RESPONSE.size


class FaultMessage(NamedTuple):
    """One fault, as a client reads it. The faults of a group share their *cookie*; the last has LAST_PAGE."""

    flags: int
    """`FaultFlags`, and 0x4 on VT-d and AMD."""
    dev_id: int
    """The iommufd id of the device."""
    pasid: int
    """The PASID; 0 if the flags do not have PASID_VALID."""
    grpid: int
    """The group index (PRGI), or the stall tag."""
    perm: int
    """`FaultPerm`."""
    addr: int
    """The address of the access."""
    length: int
    """The bytes that the device would like to have, from the address on; 0: it does not say, as with each IOMMU."""
    cookie: int
    """The number by which the client answers the group."""

    @property
    def lost(self) -> int:
        """The number of groups that were lost, if this is such a record of a queue with a depth; 0: this is a fault."""
        return self.length if self.flags & LOST_GROUPS else 0


Message: TypeAlias = "tuple[int, int, int, int, int, int, int, int]"
"""A `FaultMessage`, or a plain tuple of its fields in the same order."""


def unpack_messages(data: bytes | bytearray | memoryview) -> list[FaultMessage]:
    """Return the messages in the data of a read. Raises: UsageError, *data* is not a multiple of 40 bytes."""
    try:
        return list(map(FaultMessage._make, _MESSAGE.iter_unpack(data)))
    except struct.error:
        raise UsageError(f"data must be whole messages of {MESSAGE_BYTES} bytes each, not {len(data)} bytes") from None


def unpack_plain(data: bytes | bytearray | memoryview) -> list[Message]:
    """Return the messages as plain tuples, in a third of the time. Raises: struct.error, not a multiple of 40 bytes."""
    return list(_MESSAGE.iter_unpack(data))


def pack_message(message: FaultMessage) -> bytes:
    """Return the 40 bytes of a message. Raises: UsageError, a field is out of range."""
    try:
        return _MESSAGE.pack(*message)
    except (struct.error, TypeError):
        if isinstance(message, FaultMessage):
            for name, code in MESSAGE_FIELDS:
                if not name.startswith("__"):
                    check_fits(8 * struct.calcsize(code), **{name: getattr(message, name)})
        raise UsageError(f"message must be a FaultMessage, not {message!r}") from None


def pack_response(cookie: int, code: int) -> bytes:
    """Return the 8 bytes of an answer to the group with *cookie*. *code*: `PageResponse`, or another 32-bit number.

    Raises: UsageError, a number is out of range.
    """
    return pack_responses([(cookie, code)])


def pack_responses(responses: Iterable[tuple[int, int]]) -> bytes:
    """Return the bytes of several answers. *responses*: pairs of cookie and code. Raises: UsageError, out of range."""
    try:
        return b"".join(_RESPONSE.pack(cookie, code) for cookie, code in responses)
    except (struct.error, TypeError, ValueError):
        raise UsageError(f"responses must be pairs (cookie, code), each 0 to 2^32 - 1, not {responses!r}") from None


def unpack_responses(data: bytes | bytearray | memoryview) -> list[tuple[int, int]]:
    """Return the answers in *data*, as pairs of cookie and code. Raises: UsageError, not a multiple of 8 bytes."""
    try:
        return list(_RESPONSE.iter_unpack(data))
    except struct.error:
        raise UsageError(f"data must be whole answers of {RESPONSE_BYTES} bytes each, not {len(data)} bytes") from None
