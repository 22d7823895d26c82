"""What ends the receive of ``uring-linked``, and that no fault is lost by it: its one consumer is a condition."""

from __future__ import annotations

import pytest

from tests.scene import Scene
from uring_iopf._core import ffi, lib
from uring_iopf.core import Driver

FAILURE, LOST = 2, 6


def test_a_group_that_another_reader_takes_ends_the_receive_which_is_posted_again() -> None:
    """Between the poll and the read: the worker stands still, and its steps are made one by one."""
    with Scene("uring-linked", Driver.SQPOLL) as scene:
        client, core = scene.client, scene.core
        lib.uiopf_control_begin(core.c)
        while core.consume() > 0:
            pass
        scene.queue.report()
        core.consume()  # the poll completes; the read is the next turn's
        grpid, cookie = scene.steal()
        assert (grpid, cookie) == (0, 1)
        while core.consume() > 0:
            pass
        lib.uiopf_control_end(core.c)
        assert client.receive() == []
        assert client.cost("ends") == 1
        scene.give_back(cookie)
        scene.queue.report(3)
        while len(client.received) < 3:
            client.wait()
            client.receive()
        assert [grpid for grpid, _ in client.received] == [1, 2, 3]
        client.answer(*(cookie for _, cookie in client.received))
        client.flush()
        answers: list[tuple[int, int]] = []
        while len(answers) < 4:
            answers += scene.queue.answers()
        assert answers == [(0, 0), (1, 0), (2, 0), (3, 0)]
        assert client.cost("ends") == 1


def test_without_that_race_other_readers_end_nothing() -> None:
    """The file is polled before each read: a group that is gone by then was never there."""
    with Scene("uring-linked") as scene:
        for stolen in (0, 2, 4):
            scene.queue.report()
            assert scene.steal()[0] == stolen
            assert scene.client.receive_all() == []
            scene.queue.report()
            assert scene.client.receive_all() == [stolen + 1]
        assert scene.client.cost("ends") == 0


def test_the_receive_is_posted_again_when_the_buffers_were_used_up() -> None:
    with Scene("uring-linked") as scene:
        scene.queue.report(150)  # the client has 64 buffers, and gives one back when it has received what is in it
        assert scene.client.wait() == 1
        assert scene.client.receive() == list(range(64))
        assert scene.client.cost("ends") == 1
        assert scene.client.receive_all() == list(range(64, 150))
        assert scene.client.cost("ends") == 2
        scene.queue.report()
        assert scene.client.receive_all() == [150]
        assert scene.client.cost("ends") == 2


def test_poll_and_read_are_posted_together_when_the_queue_is_nearly_full() -> None:
    """63 answers of 64 wait to be submitted when the receive ends: the read alone would end once more, with 0."""
    with Scene("uring-linked") as scene:
        scene.queue.report(66)
        assert scene.client.wait() == 1
        assert scene.client.receive(63) == list(range(63))
        scene.client.answer(*range(1, 64))
        assert scene.client.receive() == [63]
        assert scene.client.cost("ends") == 1
        assert scene.client.receive_all() == [64, 65]
        scene.queue.report()
        assert scene.client.receive_all() == [66]
        assert scene.client.cost("ends") == 1
        assert scene.client.cost("answer_errors") == 0


def test_a_completion_queue_that_overflows_loses_no_fault() -> None:
    with Scene("uring-linked") as scene:
        for _ in range(10):
            scene.client.answer(*([999] * 32))  # each is a completion of its own, since it is refused
            scene.client.flush()
        scene.queue.report(3)
        assert scene.client.receive_all() == [0, 1, 2]
        assert scene.client.cost("answer_errors") == 320
        scene.queue.report()
        assert scene.client.receive_all() == [3]


def test_a_queue_with_a_depth_loses_groups_and_goes_on() -> None:
    with Scene("uring-linked") as scene:
        limits = ffi.new("struct uiopf_faultq_limits *", {"depth": 4})
        assert lib.uiopf_faultq_limit(scene.queue.c, limits) == 0
        scene.queue.report(LOST)
        assert scene.client.receive_all() == [0, 1, 2, 3]
        assert scene.queue.answers() == [(4, FAILURE), (5, FAILURE)]
        scene.queue.report()
        assert scene.client.receive_all() == [6]


@pytest.mark.parametrize("reported", [0, 3])
def test_a_detach_answers_what_waits_and_the_receive_goes_on(reported: int) -> None:
    with Scene("uring-linked") as scene:
        scene.queue.report(reported)
        lib.uiopf_detach(scene.queue.device, lib.UIOPF_NO_PASID)
        assert [code for _, code in scene.queue.answers()] == [1] * reported
        assert scene.client.receive_all() == []
        assert lib.uiopf_attach(scene.queue.device, lib.UIOPF_NO_PASID, scene.queue.c, lib.UIOPF_USER_MANAGED) == 0
        scene.queue.report(2)
        assert scene.client.receive_all() == [reported, reported + 1]
        assert scene.client.cost("ends") == 0


@pytest.mark.parametrize("reported", [0, 1, 100], ids=["polls", "reads", "has-no-buffer"])
def test_a_channel_is_closed_with_its_receive_posted(reported: int) -> None:
    """Closing the queue after it finds no request that holds it; what was received is answered by the detach."""
    with Scene("uring-linked") as scene:
        scene.queue.report(reported)
        scene.client.wait()


def test_a_poll_that_fails_is_one_end_and_is_posted_again() -> None:
    """The read that is linked to it has no completion of its own, so it is not taken for another end."""
    with Scene("uring-linked") as scene:
        scene.queue.report(65)
        assert scene.client.wait() == 1
        lib.uiopf_core_uninstall(scene.core.c, scene.queue.fd + 1, ffi.NULL)  # the number is the client's only one
        assert len(scene.client.receive()) == 64
        for ends in (2, 3, 4):
            assert (scene.client.wait(), scene.client.receive()) == (1, [])
            assert scene.client.cost("ends") == ends
        assert lib.uiopf_core_install(scene.core.c, lib.uiopf_faultq_file(scene.queue.c)) == scene.queue.fd + 1
        assert scene.client.receive_all() == [64]
        assert scene.client.cost("ends") == 5


def test_the_file_does_not_block_while_the_design_is_open() -> None:
    """With a file that may block the read is a worker thread's, and a multishot can not be that: nothing would come."""
    with Scene("uring-linked") as scene:
        lib.uiopf_core_set_nonblock(scene.core.c, lib.uiopf_faultq_file(scene.queue.c), 0)
        scene.queue.report()
        assert scene.client.receive_all() == []
