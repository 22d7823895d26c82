"""A client of a design on a fault queue, for tests that make the faults, the answers and the turns one by one."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from tests.bench import COMMANDS, MERGED, MESSAGE, PROPOSED, Queue
from uring_iopf._core import ffi, lib
from uring_iopf.abi.records import RESPONSE_BYTES, pack_response, unpack_messages
from uring_iopf.core import Core, Driver
from uring_iopf.designs import resolve

if TYPE_CHECKING:
    from types import TracebackType

SPIN, SLEEP = 0, 1


class Client:
    """A channel of a design on a queue, and what it has received: group ids and cookies, in order."""

    def __init__(self, core: Core, queue: Queue, design: str, *, wait: int = SLEEP, in_flight: int = 1) -> None:
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

    def __init__(self, design: str, driver: Driver = Driver.INLINE, *, wait: int = SLEEP, in_flight: int = 1) -> None:
        with ExitStack() as stack:
            self.core = stack.enter_context(Core(live=driver is not Driver.INLINE))
            info = resolve(design)
            self.queue = Queue(self.core, COMMANDS if info.commands else PROPOSED if info.proposed else MERGED)
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
        if data == -errno.EAGAIN:  # the proposed file says so
            return 0, 0
        assert isinstance(data, bytes)
        return next(((one.grpid, one.cookie) for one in unpack_messages(data)), (0, 0))

    def give_back(self, cookie: int) -> None:
        """Answer SUCCESS as that consumer."""
        assert lib.uiopf_faultq_write(self.queue.c, pack_response(cookie, 0), RESPONSE_BYTES) == RESPONSE_BYTES
