"""What ends the receive of ``uring-linked``, and that no fault is lost by it: its one consumer is a condition."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import pytest

from tests.bench import MERGED, MESSAGE, PROPOSED, Queue
from uring_iopf._core import ffi, lib
from uring_iopf.abi.records import RESPONSE_BYTES, pack_response, unpack_messages
from uring_iopf.core import Core, Driver
from uring_iopf.designs import resolve

if TYPE_CHECKING:
    from types import TracebackType

SPIN, SLEEP = 0, 1
FAILURE, LOST = 2, 6


class Client:
    """A channel of a design on a queue, and what it has received: group ids and cookies, in order."""

    def __init__(
        self, core: Core, queue: Queue, design: str = "uring-linked", *, wait: int = SLEEP, in_flight: int = 1
    ) -> None:
        config = ffi.new("struct uiopf_channel_config *", {"wait": wait, "in_flight": in_flight, "group_most": 1})
        error = ffi.new("int *")
        self.c = lib.uiopf_channel_new(core.c, queue.c, resolve(design).index or 0, config, ffi.NULL, error)
        assert error[0] == 0
        self._messages = ffi.new("struct iommu_hwpt_pgfault[512]")
        self.received: list[tuple[int, int]] = []

    def close(self) -> None:
        lib.uiopf_channel_close(self.c)

    def receive(self, most: int = 512) -> list[int]:
        """The ids of the groups of one receive."""
        n = int(lib.uiopf_channel_receive(self.c, self._messages, most))
        assert n >= 0, errno.errorcode[-n]
        got = [(one.grpid, one.cookie) for one in unpack_messages(bytes(ffi.buffer(self._messages, MESSAGE * n)))]
        self.received += got
        return [grpid for grpid, _ in got]

    def wait(self) -> int:
        """Wait for a fault, or no longer than a millisecond."""
        return int(lib.uiopf_channel_wait(self.c, 1_000_000))

    def receive_all(self) -> list[int]:
        """Wait and receive until there is nothing."""
        got: list[int] = []
        while self.wait() == 1:
            got += self.receive()
        return got

    def answer(self, *cookies: int) -> None:
        for cookie in cookies:
            assert lib.uiopf_channel_answer_one(self.c, cookie, 0) == 1

    def flush(self) -> None:
        assert lib.uiopf_channel_flush(self.c) == 0

    def cost(self, counter: str) -> int:
        cost = ffi.new("struct uiopf_cost *")
        lib.uiopf_channel_cost(self.c, cost)
        return int(getattr(cost, counter))


class Scene:
    """A core, a queue with a device, and a client on it."""

    def __init__(
        self, driver: Driver = Driver.INLINE, design: str = "uring-linked", *, wait: int = SLEEP, in_flight: int = 1
    ) -> None:
        with ExitStack() as stack:
            self.core = stack.enter_context(Core(live=driver is not Driver.INLINE))
            self.queue = Queue(self.core, PROPOSED if resolve(design).proposed else MERGED)
            stack.callback(self.queue.close)  # and nothing holds the queue by then
            if driver is not Driver.INLINE:
                self.core.start_worker(driver)
            self.client = Client(self.core, self.queue, design, wait=wait, in_flight=in_flight)
            stack.callback(self.client.close)
            self.stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def steal(self) -> tuple[int, int]:
        """Read a group as another consumer would: its id and its cookie; cookie 0: there is none."""
        data = self.queue.read()
        assert isinstance(data, bytes)
        return next(((one.grpid, one.cookie) for one in unpack_messages(data)), (0, 0))

    def give_back(self, cookie: int) -> None:
        """Answer SUCCESS as that consumer."""
        assert lib.uiopf_faultq_write(self.queue.c, pack_response(cookie, 0), RESPONSE_BYTES) == RESPONSE_BYTES


def test_a_group_that_another_reader_takes_ends_the_receive_which_is_posted_again() -> None:
    """Between the poll and the read: the worker stands still, and its steps are made one by one."""
    with Scene(Driver.SQPOLL) as scene:
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
    with Scene() as scene:
        for stolen in (0, 2, 4):
            scene.queue.report()
            assert scene.steal()[0] == stolen
            assert scene.client.receive_all() == []
            scene.queue.report()
            assert scene.client.receive_all() == [stolen + 1]
        assert scene.client.cost("ends") == 0


def test_two_consumers_receive_each_group_once() -> None:
    with Scene() as scene:
        other = Client(scene.core, scene.queue)
        scene.stack.callback(other.close)
        for _ in range(20):
            scene.queue.report(3)
            other.receive_all()
            scene.client.receive_all()
        assert sorted(other.received + scene.client.received) == [(n, n + 1) for n in range(60)]


def test_the_receive_is_posted_again_when_the_buffers_were_used_up() -> None:
    with Scene() as scene:
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
    with Scene() as scene:
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
    with Scene() as scene:
        for _ in range(10):
            scene.client.answer(*([999] * 32))  # each is a completion of its own, since it is refused
            scene.client.flush()
        scene.queue.report(3)
        assert scene.client.receive_all() == [0, 1, 2]
        assert scene.client.cost("answer_errors") == 320
        scene.queue.report()
        assert scene.client.receive_all() == [3]


def test_a_queue_with_a_depth_loses_groups_and_goes_on() -> None:
    with Scene() as scene:
        limits = ffi.new("struct uiopf_faultq_limits *", {"depth": 4})
        assert lib.uiopf_faultq_limit(scene.queue.c, limits) == 0
        scene.queue.report(LOST)
        assert scene.client.receive_all() == [0, 1, 2, 3]
        assert scene.queue.answers() == [(4, FAILURE), (5, FAILURE)]
        scene.queue.report()
        assert scene.client.receive_all() == [6]


@pytest.mark.parametrize("reported", [0, 3])
def test_a_detach_answers_what_waits_and_the_receive_goes_on(reported: int) -> None:
    with Scene() as scene:
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
    with Scene() as scene:
        scene.queue.report(reported)
        scene.client.wait()


@pytest.mark.parametrize("driver", [Driver.ENTER, Driver.SQPOLL])
@pytest.mark.parametrize("wait", [SLEEP, SPIN], ids=["sleep", "spin"])
def test_beside_another_reader_each_fault_is_received_once(driver: Driver, wait: int) -> None:
    """Two consumers and a worker, whatever the order: who loses a race goes on, and every group is answered."""
    rounds = 30
    with Scene(driver, wait=wait) as scene:
        client, stolen = scene.client, []
        for n in range(rounds):
            scene.queue.report(2)
            if n % 3:
                client.wait()
            grpid, cookie = scene.steal()
            if cookie:
                stolen.append(grpid)
                scene.give_back(cookie)
            while len(stolen) + len(client.received) < 2 * (n + 1):
                client.wait()
                before = len(client.received)
                client.receive()
                client.answer(*(cookie for _, cookie in client.received[before:]))
            client.flush()
        assert sorted(stolen + [grpid for grpid, _ in client.received]) == list(range(2 * rounds))
        assert client.cost("answer_errors") == 0


def test_a_poll_that_fails_is_one_end_and_is_posted_again() -> None:
    """The read that is linked to it has no completion of its own, so it is not taken for another end."""
    with Scene() as scene:
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
    with Scene() as scene:
        lib.uiopf_core_set_nonblock(scene.core.c, lib.uiopf_faultq_file(scene.queue.c), 0)
        scene.queue.report()
        assert scene.client.receive_all() == []
