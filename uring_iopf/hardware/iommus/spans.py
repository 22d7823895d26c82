"""The ranges that invalidation commands name: powers of two of pages, and PCIe's way to write them."""

from __future__ import annotations

from typing import Final, NamedTuple

from uring_iopf.hardware.translator import range_of

PAGE: Final = 4096


class Span(NamedTuple):
    """A range of 4096 << *order* bytes; its address is a multiple of that."""

    address: int
    order: int


def covering(address: int, length: int) -> Span:
    """Return the smallest span that covers a range.

    Linux computes it so in arm_smmu_atc_inv_to_cmd(), and to the same effect in calculate_psi_aligned_address() and
    build_inv_address(). Raises: UsageError, the range is empty, or goes beyond 64 bits.
    """
    first, last = (one // PAGE for one in range_of(address, length))
    order = (first ^ last).bit_length()
    return Span(first >> order << order + 12, order)


def ats_word(span: Span, more: int) -> int:
    """Return a span as PCIe's ATS has it: the lowest 0 of the address says the size, if *more* (the bit S) is set."""
    if not span.order:
        return span.address
    return span.address | (PAGE << span.order - 1) - PAGE | more
