"""Any workload, and any machine: what holds for one program's faults should hold for all."""

from hypothesis import given, settings

from my_design import Doorbell
from uring_iopf.testing.strategies import options, workloads


@settings(max_examples=30, deadline=None)
@given(workload=workloads(most_faults=100), how=options())
def test_a_doorbell_never_takes_more_calls(compare_designs, workload, how):
    results = compare_designs([Doorbell, "fd"], workload=workload, **how)
    assert results["doorbell"].per_fault.system_calls <= results["fd"].per_fault.system_calls
