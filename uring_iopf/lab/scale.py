"""Timings of the emulated iommufd with many objects, in seconds, to see how they grow with the number."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from uring_iopf.iommufd import Context
from uring_iopf.iommufd.objects import IdAllocator

if TYPE_CHECKING:
    from collections.abc import Callable

TAKES: Final = 20_000
"""Ids that are allocated for one figure."""


def measure_replace(groups: int, times: int) -> float:
    """The seconds to replace a device's table *times* times, each time with *groups* outstanding, half of them read."""
    with Context() as context:
        ioas = context.ioas_alloc()
        device = context.mock_device(ioas)
        queues = [context.fault_queue_alloc() for _ in range(2)]
        parent = context.hwpt_alloc_paging(device, ioas, nest_parent=True)
        tables = [context.hwpt_alloc_nested(device, parent, fault=queue) for queue in queues]
        device.replace(tables[0])
        seconds = 0.0
        for number in range(times):
            for group in range(groups):
                device.report(group, 0x1000)
            queues[number % 2].read_messages(groups // 2)
            start = time.perf_counter()
            device.replace(tables[1 - number % 2])
            seconds += time.perf_counter() - start
            if len(context.mock.take()) != groups:
                raise RuntimeError("a group was not answered, or was answered more than once")
    return seconds


def measure_ids(alive: int) -> Callable[[], float]:
    """Return a function that measures the seconds to free and allocate one id, with *alive* ids in use.

    A tenth as many ids are free among those in use.
    """
    ids = IdAllocator()
    numbers = [ids.take() for _ in range(alive + alive // 10)]
    random.Random(0).shuffle(numbers)  # noqa: S311  an order, not a secret
    for _ in range(alive // 10):
        ids.give(numbers.pop())

    def measure() -> float:
        start = time.perf_counter()
        for turn in range(TAKES):
            one = turn % alive
            ids.give(numbers[one])
            numbers[one] = ids.take()
        return (time.perf_counter() - start) / TAKES

    return measure
