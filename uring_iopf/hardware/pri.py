"""PCIe page requests as a function sends them, the answers to them, and the registers that control them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from uring_iopf.errors import UsageError, check_fits, check_whole

_READ, _WRITE, _LAST = 1, 2, 4
_INDEX_SHIFT: Final = 3
_PASID, _EXECUTE, _PRIVILEGED, _PRIVATE_DATA, _STREAM = 1, 2, 4, 8, 16


class PriRegister(enum.IntEnum):
    """Offsets of the registers in the Page Request Extended Capability. Source: PCIe 6.0, 7.8.9."""

    HEADER = 0x00
    """Read only: the capability's id, 0x13, its version, 1, and no next capability."""
    CONTROL = 0x04
    """`PriControl`, 16 bits."""
    STATUS = 0x06
    """`PriStatus`, 16 bits. A write clears RF and UPRGI where it has a 1."""
    CAPACITY = 0x08
    """Outstanding Page Request Capacity, in page requests. Read only."""
    ALLOCATION = 0x0C
    """Outstanding Page Request Allocation, in page requests: the credits."""


class PriControl(enum.IntFlag):
    """Bits of the Control register."""

    ENABLE = 0x1
    """The function may send page requests."""
    RESET = 0x2
    """Forget all outstanding page requests. Has an effect only if the same write leaves ENABLE clear."""


class PriStatus(enum.IntFlag):
    """Bits of the Status register."""

    RF = 0x1
    """A Response Failure was received."""
    UPRGI = 0x2
    """An answer was received whose group index is not outstanding (Unexpected Page Request Group Index)."""
    STOPPED = 0x100
    """The function sends no more, and nothing is outstanding."""
    PRPR = 0x8000
    """Answers have the PASID of their requests (PRG Response PASID Required). Always set."""


class PrgResponse(enum.IntEnum):
    """Response codes of a page request group. All other codes have the effect of FAILURE."""

    SUCCESS = 0x0
    INVALID = 0x1
    FAILURE = 0xF


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page request message, with each of its fields. Raises: UsageError, a field that is not allowed.

    Source: PCIe 6.0, 10.4.1.
    """

    address: int = 0
    """Bits 63:12 of the page's address are in the message. Lower bits must be 0."""
    prg_index: int = 0
    """Page request group index, 0 to 511."""
    read: bool = False
    write: bool = False
    last: bool = True
    """The last request of its group. Only a last request is answered."""
    pasid: int | None = None
    """20 bits; None: the message has no PASID, and then neither *execute* nor *privileged*."""
    execute: bool = False
    privileged: bool = False
    requester_id: int | None = None
    """None: the function's own. With another one the request comes, for the IOMMU, from that function."""
    private_data: tuple[int, int] | None = None
    """Two words of 64 bits that the answer must bring back. Only VT-d before revision 4 carries them: revision 3 both,
    revision 2 the lowest 23 bits of the first. A request with private data is answered even if it is not the last."""
    stream: bool = False
    """The request asks for a stream response, which names its page. Only VT-d of revision 2 has that, and only for a
    request that is not the last of a group."""

    def __post_init__(self) -> None:
        check_fits(64, address=self.address)
        if self.address % 4096:
            raise UsageError(
                f"address must be the address of a page, whose lowest 12 bits are 0, not {self.address:#x}"
            )
        check_whole("prg_index", self.prg_index, 0, 511, ", a group index of a function")
        if self.pasid is not None:
            check_fits(20, pasid=self.pasid)
        elif self.execute or self.privileged:
            raise UsageError("execute and privileged are bits of the PASID prefix; give a pasid, too")
        if self.requester_id is not None:
            check_fits(16, requester_id=self.requester_id)
        if self.private_data is not None:
            self._check_private_data(self.private_data)
        if self.stream and self.last:
            raise UsageError("a request of a stream is not the last of a group; give last=False")

    @staticmethod
    def _check_private_data(words: object) -> None:
        if not isinstance(words, tuple) or len(words) != 2:
            raise UsageError(f"private_data must be a tuple of two words, not {words!r}")
        for word in words:
            check_fits(64, private_data=word)

    @classmethod
    def stop_marker(cls, pasid: int) -> PageRequest:
        """The message that ends the page requests of a PASID. It costs no credit, and it is not answered."""
        return cls(pasid=pasid)

    @property
    def message(self) -> int:
        """Bytes 8 to 15 of the message, as a number of 64 bits."""
        bits = (_READ if self.read else 0) | (_WRITE if self.write else 0) | (_LAST if self.last else 0)
        return int(self.address) | int(self.prg_index) << _INDEX_SHIFT | bits

    @property
    def flags(self) -> int:
        """UIOPF_RAW_* of ``struct uiopf_raw_request``."""
        others = (0 if self.private_data is None else _PRIVATE_DATA) | (_STREAM if self.stream else 0)
        if self.pasid is None:
            return others
        return others | _PASID | (_EXECUTE if self.execute else 0) | (_PRIVILEGED if self.privileged else 0)


class PrgAnswer(NamedTuple):
    """An answer that was received for a `PageRequest`, or for no outstanding group."""

    prg_index: int
    code: int
    """`PrgResponse`, or another code of 4 bits: Linux's VT-d driver sends 2 for FAILURE."""
