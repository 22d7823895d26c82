"""A client's page tables: what a reset forgets, and what it costs."""

from __future__ import annotations

import mmap
import time

import pytest

from uring_iopf.hardware.tables import AddressSpace

READ = 1
PASIDS = [0, 511, 512, 100_000, (1 << 20) - 1]


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with another writer"])
def test_a_reset_forgets_every_pasid(shared: bool) -> None:
    space = AddressSpace(pasids=1 << 20, table_pages=64)
    if shared:
        assert space.fd >= 0
    for _ in range(2):
        for pasid in PASIDS:
            space.map_page(pasid, 0x1000, READ)
        assert all(space.allows(pasid, 0x1000, READ) for pasid in PASIDS)
        space.reset()
        assert not any(space.allows(pasid, 0x1000, READ) for pasid in PASIDS)
        assert space.used_bytes() == 8 << 20
    space.close()


def test_a_reset_clears_what_another_writer_stored_where_this_one_has_nothing() -> None:
    space = AddressSpace(pasids=1 << 20, table_pages=4)
    with mmap.mmap(space.fd, 8 << 20) as memory:
        for pasid in PASIDS:
            memory[8 * pasid : 8 * pasid + 8] = b"\xff" * 8
        space.reset()
        for pasid in PASIDS:
            assert memory[8 * pasid : 8 * pasid + 8] == bytes(8)
        memory[8 * 600_000] = 1  # and again, after a reset
        space.reset()
        assert memory[8 * 600_000] == 0
    space.close()


def test_a_reset_costs_what_was_used_and_not_what_the_highest_pasid_would_take() -> None:
    """All 8 MiB of such a table take at least half a millisecond, at each pass over a trace."""
    space = AddressSpace(pasids=1 << 20, table_pages=64)
    taken = []
    for _ in range(50):  # the best of many: the machine may be busy with something else
        space.map_page((1 << 20) - 1, 0x1000, READ)
        before = time.thread_time_ns()
        space.reset()
        taken.append(time.thread_time_ns() - before)
    space.close()
    assert min(taken) < 100_000
