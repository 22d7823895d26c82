"""The design passes the suite that every design must pass, and needs fewer calls than the one that Linux has."""

from my_design import Doorbell
from uring_iopf.testing.conformance import DesignConformance


class TestDoorbell(DesignConformance):
    """Every test of the suite, for one design."""

    design = Doorbell


def test_one_doorbell_serves_a_batch(compare_designs):
    results = compare_designs([Doorbell, "fd"], workload="gcc-compile", in_flight=16)
    mine, merged = results["doorbell"].per_fault, results["fd"].per_fault
    assert mine.system_calls < merged.system_calls
    assert mine.bytes_copied == merged.bytes_copied == 48
