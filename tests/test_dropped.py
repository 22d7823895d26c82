"""The hardware's answer to a group whose last request finds the queue full, where a specification leaves that open."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.test_pri import PAGE, Site, accounts
from uring_iopf.core import Core
from uring_iopf.errors import UsageError
from uring_iopf.hardware.iommus.amd import AmdIommu
from uring_iopf.hardware.iommus.iommu import DROPPED, Iommu
from uring_iopf.hardware.iommus.riscv import RiscvIommu
from uring_iopf.hardware.iommus.smmuv3 import SmmuV3Iommu
from uring_iopf.hardware.iommus.vtd import REVISIONS, VtdIommu
from uring_iopf.hardware.limits import DEVICES, MODELS, REQUEST_QUEUES
from uring_iopf.hardware.pri import PageRequest, PrgAnswer, PrgResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FREE: Final[Mapping[str, Callable[..., Iommu]]] = {
    "amd": AmdIommu,
    "riscv": RiscvIommu,
    **{name: partial(VtdIommu, revision=revision) for revision, name in REVISIONS.items()},
}
"""The models whose specification says nothing, or leaves a choice."""
DEFAULTS: Final = {"riscv": "success"}
"""What each does if nothing is said; the others: nothing."""
STRANGERS: Final = PageRequest(PAGE, read=True, pasid=3, requester_id=0x7777)


class FreeSite(Site):
    """A function behind one of them."""

    def __init__(self, make: Callable[..., Iommu], **options: str) -> None:
        self.make_free = partial(make, **options)
        super().__init__()
        self.end.enable_pri()

    def make_iommu(self) -> Iommu:
        return self.make_free(self.core)


def test_every_model_has_the_choice_or_a_specification_that_takes_it_away() -> None:
    assert set(MODELS) - set(FREE) == {"smmuv3", *DEVICES}, "IHI 0070, 8.1: Success; devices drop nothing"
    with Core() as core, pytest.raises(TypeError):
        SmmuV3Iommu(core, dropped="nothing")  # type: ignore[call-arg]


@pytest.mark.parametrize("make", FREE.values(), ids=FREE)
def test_an_answer_that_there_is_not_is_refused(make: Callable[..., Iommu]) -> None:
    with (
        Core() as core,
        pytest.raises(UsageError, match="dropped must be one of success, failure, nothing"),
    ):
        make(core, dropped="both")


@pytest.mark.parametrize("dropped", [*DROPPED, None])
@pytest.mark.parametrize("model", FREE)
def test_a_dropped_last_request_is_answered_as_was_chosen(model: str, dropped: str | None) -> None:
    """A group of three: one is in the queue, one that is not the last and then the last find it full."""
    site = FreeSite(FREE[model]) if dropped is None else FreeSite(FREE[model], dropped=dropped)
    does = DEFAULTS.get(model, "nothing") if dropped is None else dropped
    site.end.send(PageRequest(PAGE, 7, read=True, pasid=5, last=False))
    for _ in range(REQUEST_QUEUES[model] - 1):
        site.end.send(STRANGERS)
    site.end.send(PageRequest(2 * PAGE, 7, read=True, pasid=5, last=False))
    site.end.send(PageRequest(3 * PAGE, 7, read=True, pasid=5))
    site.end.send(PageRequest.stop_marker(5))
    assert site.end.take_answers() == [], "it arrives with the hardware's next turn"
    site.turn()
    assert site.queue.read_messages() == []
    counts = site.end.counts()
    (account,) = accounts(site)
    assert account.sent == 3
    if does == "nothing":
        assert site.end.take_answers() == []
        assert (counts.outstanding, counts.iommu_answered, site.iommu.lost()) == (3, 0, 2)
        assert account.lost >= 2
        site.end.reset()
    else:
        code = PrgResponse.SUCCESS if does == "success" else PrgResponse.FAILURE
        assert site.end.take_answers() == [PrgAnswer(7, code)], "one answer for the group"
        assert (counts.outstanding, counts.iommu_answered, site.iommu.lost()) == (0, 2, 0)
        assert counts.failed == (3 if does == "failure" else 0)
        assert (account.auto_answered, account.lost) == (2, 0)
        assert account.passed_over + account.pending == 1, "the one that was in the queue"
    if does != "success":
        site.end.reset()
        site.end.enable_pri()
    site.end.send(PageRequest(4 * PAGE, 9, read=True, pasid=5))
    site.turn()
    assert site.answer() == 1, "the queue goes on"
    site.close()
