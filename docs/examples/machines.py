"""Machines of several parts: functions, queues, limits, loads. Each is data, of which a machine is made."""

from dataclasses import replace

from uring_iopf import (
    FaultPerm,
    FunctionParts,
    Load,
    LoadMode,
    Machine,
    MachineParts,
    QueueLimits,
    UsageError,
    Workload,
)
from uring_iopf.clients.sync import serve

PAGE = 4096


def touched(pages: int, *, pasid: int = 1, every_ns: int = 0) -> Workload:
    """A workload in memory: so many pages, one after the other."""
    return Workload.from_faults((n * every_ns, n * PAGE, pasid, FaultPerm.READ) for n in range(pages))


# Two functions behind one IOMMU. The second has its own workload, its own load, and groups of eight pages.
two_functions = MachineParts(
    touched(100),
    driver="inline",
    functions=(
        FunctionParts("nic"),
        FunctionParts("gpu", workload=touched(500, pasid=2), load=Load(in_flight=4, group=8)),
    ),
)
with Machine(two_functions) as machine:
    channel = machine.open("fd")  # one queue for both
    machine.start()
    serve(channel, machine.address_space, faults=600)
    machine.core.produce()
    print({name: account.answered for name, account in machine.accounts().items()})

# A queue for each function, in which four groups at most may wait, each for a millisecond.
limited = replace(two_functions, queues="device", limits=QueueLimits(depth=4, timeout_ns=1_000_000))
with Machine(limited) as machine:
    machine.open_each("fd")
    machine.start()
    machine.core.produce()
    print({key.function: queue.counts().lost_groups for key, queue in machine.queues.items()})

# Poisson arrivals, 1,000 a second; as many groups in flight as the machine says.
with Machine(touched(50), driver="inline", in_flight=64, load=Load(LoadMode.POISSON, rate=1000)) as machine:
    print(machine.load)

# What contradicts itself is refused, by the name of the field.
try:
    Machine(None, in_flight=256, load=Load(LoadMode.POISSON, in_flight=16))
except UsageError as error:
    print(error)
