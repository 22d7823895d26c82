"""Every known difference from Linux and from the hardware, with its reason, and the judges of the rest.

`uring-iopf conformance report` writes the conformance page from this. Text is Markdown; links are as from
``docs/reference/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Reference:
    """The judge of one part of the emulator."""

    part: str
    reference: str
    """The judge; `RECORDINGS` and `RING_RECORDINGS` in it stand for the recordings given to the report."""
    how: str


@dataclass(frozen=True)
class KnownDifference:
    """A difference from Linux or from a specification, or a behaviour that can be taken for one."""

    difference: str
    reason: str
    test: str = ""
    """The name of a test that shows it, or an empty string. The name in a C program is ``FILE.c: FUNCTION``."""
    id: str = ""
    """Its name for the judge of the rings (`tests/rings`), which skips and counts programs that meet it."""


@dataclass(frozen=True)
class Section:
    """The differences of one part."""

    title: str
    rows: tuple[KnownDifference, ...]
    before: str = ""
    """Paragraphs above the table."""
    after: str = ""


@dataclass(frozen=True)
class ByHand:
    """A refusal that is in no recording, but in a test written by hand."""

    operation: str
    """The name of the operation in recordings."""
    errno: str
    when: str
    test: str


RECORDINGS: Final = "{recordings}"
RING_RECORDINGS: Final = "{ring recordings}"

REFERENCES: Final = (
    Reference(
        "ABI of io_uring and iommufd",
        "Linux 6.12 and 7.2 headers",
        "sizes, offsets and values of all structs and constants, `tests/test_abi.py`",
    ),
    Reference(
        "iommufd",
        RECORDINGS,
        "replayed step by step, each return value, errno, id, message, event and response: "
        "`uring-iopf conformance golden`, `tests/test_golden_iommufd.py`",
    ),
    Reference(
        "rings",
        "the host's own io_uring, where the host allows it",
        "a table of programs, and thousands that are generated, on both: return values, errnos, `user_data`, `res`, "
        "`flags`, order, memory; `tests/rings`. Where the host refuses io_uring, recorded outcomes are the judge",
    ),
    Reference(
        "rings on a fault file",
        f"{RING_RECORDINGS}. The patch to Linux's fault file is to `eventq.c` alone: `read_iter` and `write_iter`, "
        "FMODE_NOWAIT, -EAGAIN in place of 0; keyed, its wake-up says POLLIN; unkeyed, it says nothing",
        "replayed step by step, each return value, completion, message, flags word and response: "
        "`uring-iopf conformance golden`, `tests/test_golden_rings.py`",
    ),
    Reference(
        "VT-d page requests",
        "Linux 6.12's `drivers/iommu/intel/prq.c`",
        "read beside the code; no recording",
    ),
    Reference(
        "SMMUv3 page requests",
        "Arm IHI 0070, chapters 4, 7 and 8; Linux 6.12's and 7.2's `arm-smmu-v3.c`; the series of 2021",
        "hand-computed words field by field, `tests/c/smmuv3.c`; a model in any order, `tests/test_smmuv3.py`",
    ),
    Reference(
        "Page faults of mlx5",
        "Linux 7.2's `include/linux/mlx5/device.h`, `mlx5_ifc.h`, `drivers/infiniband/hw/mlx5/odp.c`",
        "hand-computed words field by field, `tests/c/device.c`; a model in any order, `tests/test_device.py`",
    ),
    Reference(
        "Intel DSA's event log",
        "Linux 7.2's `drivers/dma/idxd/registers.h`, `irq.c`, `cdev.c`, `include/uapi/linux/idxd.h`; its commit "
        "2f431ba908d2, which describes the log",
        "hand-computed words field by field, `tests/c/device_log.c`; a model in any order, `tests/test_device_log.py`",
    ),
    Reference(
        "AMD page requests",
        "Linux 6.12's and 7.2's `drivers/iommu/amd/ppr.c`, `init.c`, `iommu.c`",
        "hand-computed words field by field, `tests/c/amd.c`; a model in any order, `tests/test_amd.py`",
    ),
    Reference(
        "RISC-V page requests",
        "RISC-V IOMMU Architecture Specification 1.0 and its reference model",
        "hand-computed words field by field, `tests/c/riscv.c`; a model in any order, `tests/test_riscv.py`",
    ),
    Reference("designs", "the posted series (2021, 2023), Linux 6.11", "counts per fault, `tests/test_designs.py`"),
)

SECTIONS: Final = (
    Section(
        "iommufd",
        before="""\
There: address spaces with mappings, paging and nested tables, fault queues, attach, replace and detach of devices, of
groups of them and of single PASIDs, destroy, close, virtual IOMMUs with virtual devices and event queues, mock devices
as in the kernel's selftest, devices behind the emulated VT-d; all of it as Python methods, and
[by request number and struct](ioctl.md).

Not there: hardware queues, dirty tracking, cache invalidation, VFIO's own requests on /dev/iommu. Mappings are kept and
checked, and no device's accesses go by them: those walk the tables of the address space that the client fills.""",
        rows=(
            KnownDifference(
                "attaching a device to the table that it is attached to already is -EBUSY",
                "6.12 does not look, and damages its own list",
                "test_a_refused_call_changes_nothing",
            ),
            KnownDifference(
                "a device's pool of groups is sized when it is made",
                "nothing is allocated per fault. Beyond it we do what Linux does without memory: a partial fault is "
                "dropped, the last of a group is answered FAILURE. Mock devices' pools grow",
                "test_a_device_that_outran_its_capacity_is_answered_failure",
            ),
            KnownDifference(
                "`FaultQueue.read` never waits", "Linux's does not either: an empty queue reads as 0 bytes"
            ),
            KnownDifference(
                "personality `proposed`",
                "ours: the file has what io_uring needs to post reads ahead, and an empty queue is EAGAIN. `merged` is "
                "Linux's. Its wake-ups say POLLIN (`PROPOSED`) or nothing (`PROPOSED_UNKEYED`); Linux with a patch to "
                "one file does the same, and is recorded",
                "test_only_the_proposed_file_says_not_yet",
            ),
            KnownDifference("groups of one index but two PASIDs are merged", "as Linux does; recorded"),
            KnownDifference(
                "a mock device that is destroyed with PASIDs attached keeps its id, its tables and its groups until "
                "the context is closed; what is answered then reaches nobody",
                "as Linux does, which leaks them; recorded",
            ),
            KnownDifference(
                "VT-d: a nested table takes the faults of every PASID that has no table of its own",
                "Linux has each of its PASIDs attached. Here a client need not know beforehand which ones a function "
                "will use",
            ),
            KnownDifference(
                "of a group of devices, one that is unbound while the others stay attached has its own groups answered "
                "INVALID",
                "Linux keeps them, and may report a device that is gone",
                "attach.c: groups_of_devices_move_together",
            ),
            KnownDifference(
                "`QueueLimits`: depth, time-out, answers by group index", "ours, off by default: Linux has none of them"
            ),
            KnownDifference(
                "`Context(virtual_pri_reset=True)`: virtual functions that share PRI may have faults; a Response "
                "Failure stops their own page requests until the reset, and code 2 may be written for them",
                "ours: what reviewers of the fault object said would be needed, and nobody built",
            ),
            KnownDifference(
                "`Context(generic_reports=True)`: FAULT_QUEUE_ALLOC takes a type",
                "ours: sketched in July 2024, and given up for the event queues of virtual IOMMUs",
                "test_generic_reports_lengthen_the_queues_struct",
            ),
            KnownDifference(
                "`VtdIommu(drains=False)`: a request on the way can meet the next attachment, and is counted as stale",
                "ours, to look at what reviewers warned of. Linux's VT-d driver drains, as ours does otherwise",
                "attach.c: a_request_on_the_way",
            ),
            KnownDifference(
                "an event's memory comes in pages, not one by one", "what is seen is the same, down to -ENOMEM"
            ),
            KnownDifference(
                "once cookie 0 has been answered while another is live, 0 is handed out as a cookie",
                "as Linux does, by an oversight; recorded",
                "test_an_answer_to_cookie_0_frees_it_while_another_is_live",
            ),
        ),
    ),
    Section(
        "Rings",
        before="""\
[What there is](rings.md). Everything not listed there is refused like an unknown bit, with the errno that Linux has for
one.""",
        rows=(
            KnownDifference(
                "opcodes that rings.md does not list (SENDMSG, ACCEPT, FSYNC, OPENAT and others): -EOPNOTSUPP, "
                "after the "
                "checks that all requests get, and PROBE says so",
                "as of a kernel that was built without them; none concerns the delivery of faults",
            ),
            KnownDifference(
                "RECVSEND_BUNDLE, SEND_VECTORIZED, MEM_REGION (so EXT_ARG_REG is -EFAULT), QUERY, SEND_MSG_RING, NAPI, "
                "zero-copy receive, BPF filters, IOWQ_MAX_WORKERS; a multishot URING_CMD is accepted, and no file has "
                "one: not there",
                "not there yet, or without sense for an emulator",
            ),
            KnownDifference(
                "NO_MMAP is -EFAULT, or -EINVAL where the address is not aligned; REGISTERED_FD_ONLY without it "
                "-EINVAL; "
                "SQ_AFF and ATTACH_WQ are checked only; IOPOLL: reads and writes are -EOPNOTSUPP",
                "the rings' memory is the emulator's, its worker is placed by `cpu`, and no file here can be polled so",
            ),
            KnownDifference(
                "signal masks are checked, and no signal is held back by them; personalities are numbers only; a ring "
                "that is closed loses the numbers that threads have registered it by; a number is -EBADF also to a "
                "thread that never had a ring, and not -EINVAL",
                "there are no signals and no credentials in the emulator, a ring ends when it is closed, and what a "
                "thread did before is not known",
            ),
            KnownDifference(
                "of host sockets the only commands are SIOCINQ and SIOCOUTQ; an eventfd of the host is O_NONBLOCK "
                "while "
                "it is written",
                "the engine never waits for a descriptor of the host",
            ),
            KnownDifference(
                "a registered buffer lies in one window; that there is none is found when data comes",
                "windows are how a client's addresses are known",
            ),
            KnownDifference(
                "some behaviour that was seen on 6.18 is taken for 6.12 as well: how drain counts, a classic buffer "
                "that "
                "stays with its READ; releases of HYBRID_IOPOLL, SQE_MIXED, SQ_REWIND and IMMEDIATE_ARG are "
                "unconfirmed",
                "no 6.12 was at hand to ask",
            ),
            KnownDifference(
                "no io-wq: a request that Linux hands to a worker thread runs in the engine's next turn",
                "a request never blocks here; what is seen is the order, which Linux leaves open too. What would block "
                "in a worker is armed, and a cancel finds it running, as Linux does. Counted as `punts`",
                "test_a_blocking_merged_file_costs_a_worker_each_time",
            ),
            KnownDifference(
                "a CQ overflow keeps 1,048,576 completions",
                "Linux charges memory to the client; this is our charge",
                "test_a_client_that_never_reads_loses_what_the_charge_does_not_cover",
            ),
            KnownDifference("65,536 requests under way at most, then -EAGAIN", "the same"),
            KnownDifference(
                "a READ_MULTISHOT on the merged file stays pending, and with O_NONBLOCK ends at once with 0",
                "recorded on Linux 6.12 and 7.2. Behind a linked poll it delivers: the design `uring-linked`",
                "test_a_multishot_read",
            ),
            KnownDifference(
                "the order in which ASYNC_CANCEL finds targets follows Linux's hash table",
                "not a difference: checked on 6.18",
                "test_many_are_cancelled_in_the_order_of_a_hash_table",
            ),
            KnownDifference(
                "enter on an inline core can say -EDEADLK",
                "ours: nobody else turns the hardware, and nothing more can come",
                "test_an_inline_wait_for_what_cannot_come_is_an_error",
            ),
            KnownDifference(
                "a ring's timers fire in calls of clients, or in a worker that polls (`sqpoll`): with `inline` and "
                "`enter` a client that sleeps on its eventfd, or peeks, is told of none",
                "there the kernel's part runs in calls alone, and no timer interrupts anybody",
                "test_a_polling_worker_tells_the_client_of_a_deferred_ring_of_a_timer",
            ),
            KnownDifference(
                "enter's time-out counts with the core's clock",
                "the call is a C function",
                "test_a_wait_that_times_out_says_so_only_with_an_empty_queue",
            ),
            KnownDifference(
                "addresses need a window",
                "the kernel side has mappings of its own; EFAULT is what the windows do not cover",
                "test_an_unmapped_address_is_found_out_by_data_which_stays",
            ),
            KnownDifference(
                "a client in another process has no `enter`, `register` or poll of its ring; CQ_OVERFLOW is never "
                "shown to it, NEED_WAKEUP only if it promised to kick an eventfd",
                "its descriptor is a memfd; both flags say to enter, which liburing would do, and fail "
                "([how to](../how-to/attach-a-process.md))",
                "test_every_fault_is_answered_by_a_client",
            ),
            KnownDifference(
                "its requests name registered files only; PROVIDE_BUFFERS and FILES_UPDATE are -EACCES; 4,096 requests "
                "under way and completions kept at most, together, then nothing is taken from its SQ",
                "descriptors are those of the emulator's process, and nobody could charge the client for memory",
                "test_an_attached_client_reaches_registered_files_alone",
            ),
            KnownDifference(
                "kernel-mapped buffer rings of an attachable ring have 4,096 entries at most, and are 64 at most",
                "all are in one descriptor, 64 KiB from one group to the next",
                "test_buffer_rings_that_would_overlap_are_refused",
            ),
        ),
    ),
    Section(
        "Rings beside the host's",
        before="""\
What the judge of the rings (`tests/rings`) found. A case or a generated program that runs into one of these is skipped
by its id, and counted; the counts are printed at the end of a run.""",
        rows=(
            KnownDifference(
                "register: an argument that cannot be read is not EFAULT",
                "the call is a C function, and its argument is memory of the caller's. Addresses in it are checked",
                id="register-arguments",
            ),
            KnownDifference(
                "a regular file cannot be a file of the rings",
                "it cannot be polled, and nothing here waits for a disk. Fault files, pipes, eventfds, sockets and "
                "rings can",
                id="regular-files",
            ),
            KnownDifference(
                "of a CQ that overflows while worker threads complete something, other completions may be in it than "
                "behind it",
                "workers complete beside the call, in no order. All other order is the same",
                id="rings-order",
            ),
            KnownDifference(
                "a TIMEOUT that counts completions and that a worker thread starts can fire one sooner or later",
                "the worker starts it beside what the call completes",
            ),
            KnownDifference(
                "task work of several rings of one thread runs ring by ring",
                "Linux keeps one list for the thread, and shows what a ring has completed whenever the list goes on "
                "with another ring. So a message comes behind other completions, a multishot poll of such a ring "
                "posts once more, and a chain goes on later",
            ),
            KnownDifference(
                "a poll of a ring with DEFER_TASKRUN and one of the eventfd registered with it may complete in the "
                "other order, if one completion calls both",
                "the host says that the eventfd was signalled when it is asked, behind all polls of the ring",
            ),
            KnownDifference(
                "of more than 24 SQEs at once, a ring with SQPOLL starts those behind the 24th, or behind the chain "
                "that goes beyond it, when task work has run: what is behind such a chain comes behind its second",
                "a turn takes 24, and no part of a chain, so that the hardware's turn and the client's next batch do "
                "not wait for the whole one. Linux's thread submits all that is there before it runs task work",
                id="rings-turns",
            ),
            KnownDifference(
                "a message to the own ring comes behind what the call has completed before, where that is more than "
                "32 completions, or one of 32 bytes in a ring for both sizes",
                "Linux posts it before all of them. The others make room for it, which is bounded",
                id="rings-message-order",
            ),
            KnownDifference(
                "a cancel that interrupts a worker thread's call is told EALREADY; Linux says ENOENT now and then",
                "Linux looks for the request twice, and the worker may have ended in between",
            ),
            KnownDifference(
                "a call that waits for as many slots as a CQ of both sizes has, when only the last is free and a CQE "
                "of 32 bytes waits for two: it returns, since the slot to be skipped counts",
                "Linux 6.18 tries to flush its backlog for ever: the call takes no signal, and its process can't be "
                "killed. So this is never played on the host",
            ),
            KnownDifference(
                "a CQE of 32 bytes for a CQ of both sizes in which only the last slot is free: the slot is marked "
                "to be skipped, and this CQE and all behind it wait in the backlog",
                "Linux 6.18 marks the slot, too, and then gives it to the next CQE of 16 bytes: the tail moves one "
                "slot further than the CQ has room for",
                id="rings-half",
            ),
            KnownDifference(
                "a message that passes CQE_F_32 to a ring with CQE32 is as any other there",
                "Linux 6.18 looks for two slots, and at the end of the ring fills the wrong one",
                id="rings-wide-message",
            ),
            KnownDifference(
                "a poll of a file of the host may be woken by what it did not ask for; its mask has all that is ready, "
                "and not what another request has taken meanwhile, nor POLLPRI",
                "the host says, by epoll, that something happened and not what: the file is asked again. Linux takes "
                "the mask from the wake-up, and sockets say POLLPRI with all that comes",
                id="rings-host-poll",
            ),
            KnownDifference(
                "a SEND that waits for room in a socket of the host goes on waiting when its own side is shut down",
                "epoll does not report it: the socket has no room before and after",
            ),
            KnownDifference(
                "the flag SOCK_NONEMPTY at the end of a TCP stream that was reset, if a call outside the rings was "
                "returned that error; or if the reset came behind the other side's end",
                "the host returns the error to one call, and does not say whether an end came before it",
            ),
            KnownDifference(
                "the flag SOCK_NONEMPTY of a RECV with MSG_OOB, and of any RECV while an urgent byte waits",
                "the host says how much can be read up to the urgent byte. Linux's TCP counts that byte, too, and its "
                "Unix sockets say nothing where they hand it out",
                id="rings-urgent",
            ),
            KnownDifference(
                "a multishot poll that is submitted for a terminal which has hung up waits on behind its first event",
                "Linux ends it, as such a file has no wait queue, and the host does not say which files have none",
            ),
            KnownDifference(
                "a ring that is closed is gone, though another ring polls it",
                "Linux keeps it until that poll has ended, and what it has under way goes on and calls the poll",
            ),
            KnownDifference(
                "which of several requests on one file of the host, or on its two ends, is served first",
                "the host's wait queue has one entry for all of them; ours are called as Linux's, but all at once",
                id="rings-host-waiters",
            ),
            KnownDifference(
                "a multishot RECV with POLL_FIRST reports the end that has come together with the first data",
                "Linux 6.18 counts one wake for both, and waits for another, which never comes",
                id="rings-poll-first-end",
            ),
            KnownDifference(
                "a request that a worker or a polling thread starts, or one of several, on the eventfd that its own "
                "ring signals, may find another count",
                "Linux's threads run beside the call that signals, ours behind it; and a signal that comes while "
                "another is being given is put off, for a time that nobody says",
                id="rings-own-eventfd",
            ),
            KnownDifference(
                "RECV and SEND with BUNDLE and BUFFER_SELECT are -EINVAL when they start",
                "bundles are not there",
                id="rings-bundles",
            ),
            KnownDifference(
                "RESIZE_RINGS fills in `sq_off.array`",
                "Linux 6.18 leaves the offset 0, which a client then takes for where the heads are",
                id="rings-resize",
            ),
            KnownDifference(
                "a CQ head beyond the tail makes the queue full only when the room that was seen is used up",
                "the head is in the client's cache line, and is looked at when it must be",
                id="rings-head",
            ),
        ),
    ),
    Section(
        "Hardware: PCI function and VT-d",
        rows=(
            KnownDifference(
                "a function behind VT-d since revision 3, or behind AMD's IOMMU, asks neither to execute nor with "
                "privilege; the rows of its load that execute or are privileged are ordinary ones",
                "Linux's VT-d driver refuses execute requests that also read, takes those that do not for stop "
                "markers, and refuses privileged ones; its AMD driver enables neither in the PASID capability",
                "test_a_load_executes_where_the_function_may_ask_for_it",
            ),
            KnownDifference(
                "an Outstanding Page Request Allocation of more than the capacity is the capacity, and it may be "
                "written while PRI is enabled",
                "PCIe leaves both open",
                "test_the_capability_as_a_driver_finds_it",
            ),
            KnownDifference(
                "after a function level reset the capability's registers are as after power-on",
                "Linux writes them again after a reset; here the caller does",
                "test_a_function_level_reset_ends_everything_of_the_function",
            ),
            KnownDifference(
                "the group index that has been free longest is used first",
                "Linux answers every request of a group that it refuses; with the index in use again at once, late "
                "answers would end the next groups",
            ),
            KnownDifference(
                "a response other than Success and Invalid counts as Response Failure, and PRI stops until it is "
                "enabled anew",
                "PCIe says so. Linux sends its own code 2",
                "test_a_failure_stops_page_requests_until_they_are_reset",
            ),
            KnownDifference(
                "page request queue: 2,048 entries, one slot free; overflow drops requests until software has cleared "
                "the bit, and unfinished groups are forgotten",
                "as VT-d and Linux 6.12 do. A comparison in which that happens says so",
            ),
            KnownDifference(
                "a last request that the full queue drops has no answer, so that its function keeps the group's "
                "credits, and its pass does not end, until a reset; `VtdIommu(dropped=...)` answers it",
                "the part of the specification that says what hardware answers was not at hand. QEMU's model answers "
                "nothing, and Linux's driver only discards what is unfinished, since last requests may be lost",
                "test_a_dropped_last_request_is_answered_as_was_chosen",
            ),
            KnownDifference(
                "the driver's interrupt and the answers of clients have an invalidation queue each, of 1,024 entries "
                "or more by the number of functions; an answer that finds no room waits for it; invalidations are "
                "carried out, their errors are not modelled; at most 16 functions",
                "one queue with a lock would make hardware and client wait for each other, which real hardware, that "
                "shares no cache line with a client, does not; the rest is not modelled",
            ),
            KnownDifference(
                "VT-d 3: a request with private data raises the interrupt, and a function takes an answer without its "
                "private data as an unexpected one",
                "Linux's driver, until 6.9, says only that such a request must be answered, with the same data; what a "
                "function does with them is its own matter",
                "test_a_driver_that_forgets_private_data_leaves_the_function_waiting_until_a_reset",
            ),
            KnownDifference(
                "VT-d 2: the driver reports page requests to the generic layer, drops stop markers, and goes on after "
                "an overflow; its queue has 64 KiB",
                "Linux 4.4 to 4.20 mapped the page and answered in the interrupt, answered stop markers, never cleared "
                "the overflow, and set up 4 KiB",
                "test_requests_of_a_stream_are_answered_one_by_one",
            ),
            KnownDifference(
                "the tables of a machine's address space: four levels with 4 KiB pages, first stage only; no device "
                "TLB, no invalidations (`PageTables` and `Translator` have all of these)",
                "a retry loads the last entry every time; where its table is, is kept until the tables begin anew",
            ),
            KnownDifference(
                "what an IOAS maps is stage 2 of a device only through `SecondStage` and a `Translator`, or with "
                "`Machine(stage2=)`; otherwise a function translates by one flat stage, whatever the IOAS of its table "
                "has",
                "a table of iommufd is attached without a walk of it here: most comparisons are about stage 1, whose "
                "faults go to the client",
                "test_a_mapping_of_an_ioas_is_no_stage_2_by_itself",
            ),
            KnownDifference(
                "VT-d: software cannot write the registers of page requests, PEDATA and PEADDR are not there, and the "
                "queue's memory always is",
                "the interrupt is a call, which `Iommu.interrupt_held` masks; Linux unmasks it once, and allocates the "
                "queue once",
            ),
        ),
    ),
    Section(
        "Hardware: SMMUv3",
        rows=(
            KnownDifference(
                "the driver reports page requests, and answers with `CMD_PRI_RESP`",
                "as the specification means them to be used, and as the series of 2021 did. Linux logs each and denies "
                "the last of a group; `SmmuV3Iommu(linux_denies_pri=True)` does that",
                "test_linuxs_driver_denies_page_requests_and_so_stops_the_function",
            ),
            KnownDifference(
                "last, neither read nor write, without a SubstreamID: an ordinary request, which is reported",
                "the specification says so. The series of 2021 dropped it as a stop marker, and its sender waited",
                "smmuv3.c: every_field_is_written_and_read",
            ),
            KnownDifference(
                "page requests of a group that have no place are dropped, and counted as answered with the last, which "
                "the SMMU answers; what the driver has kept of such a group is counted as passed over",
                "the function has its answer, so nothing is lost; the specification has no counts",
                "smmuv3.c: an_overflow_is_answered_with_success",
            ),
            KnownDifference(
                "the driver and its clients have a command queue each, and an illegal command stops both; CMDQ_PROD "
                "and CMDQ_CONS count the commands of both",
                "Linux has one queue, or the enhanced ones of SMMUv3.3, one for each processor; here a lock would be "
                "most of an answer's time",
                "smmuv3.c: commands_behind_an_illegal_one_wait",
            ),
            KnownDifference(
                "the events of what `CMD_STALL_TERM` has ended stay in the event queue, and are reported",
                "the specification lets software discard them; Linux does not give the command. Each is answered, to "
                "no effect",
                "smmuv3.c: stalls_are_terminated_once",
            ),
            KnownDifference(
                "a transaction that is retried, and has no page, stalls again as often as `Endpoint(retries=)` says",
                "real ones stall until a page is there; a test must end",
                "smmuv3.c: a_retry_may_stall_again",
            ),
            KnownDifference(
                "a transaction that reads and writes (an atomic one) asks to write",
                "an event has one bit for both",
                "smmuv3.c: a_stall_is_these_32_bytes",
            ),
            KnownDifference(
                "the transactions of a function that no device is bound to abort, and the account counts them as "
                "answered for",
                "in Linux such a stream's table entry aborts; here that is all there is of the table",
                "smmuv3.c: an_unbound_function_does_not_stall",
            ),
            KnownDifference(
                "the places in which transactions stall are the function's own",
                "an SMMU has IDR5.STALL_MAX places for all functions, so one may take those of another; here a "
                "function's places are its credits",
                "test_the_places_of_a_function_that_stalls_are_its_own",
            ),
            KnownDifference(
                "a walk that ends at a table without memory, or for a PASID without tables, aborts without an event",
                "events that do not stall are not modelled: Linux only logs them",
                "test_what_does_not_stall_aborts",
            ),
            KnownDifference(
                "PRI queue: 2,048 entries, event queue: 1,024; no stream table; a StreamID is a requester id of 16 "
                "bits; prefetches are accepted, and have no effect",
                "Linux sizes the queue by what the hardware has; what invalidations drop are the translations and "
                "descriptors of functions with a translator",
                "smmuv3.c: each_opcode_is_legal_or_stops_the_queue",
            ),
        ),
    ),
    Section(
        "Hardware: AMD",
        rows=(
            KnownDifference(
                "detach and replace wait for the log and the command buffer",
                "Linux's driver has no such step. `AmdIommu(drains=False)` has none either",
                "test_a_request_between_sent_and_reported_is_stale_where_nothing_drains",
            ),
            KnownDifference(
                "stop markers are kept out of the log",
                "Linux's driver would report one as a fault, whose answer no function waits for. Real IOMMUs can block "
                "them (BlkStopMrkEn); Linux does not set that",
                "amd.c: an_overflow_stops_the_log_and_linux_restarts_it",
            ),
            KnownDifference(
                "auto response: the last request of a group is answered where the log is full, has stopped, or is "
                "beyond the early threshold; page requests while the log is off are lost",
                "the specification was not at hand, and Linux uses none of it: our reading of register descriptions",
                "amd.c: a_full_log_answers_by_itself_where_it_is_told_to",
            ),
            KnownDifference(
                "without auto response, a last request that the full log drops has no answer, so that its function "
                "keeps the group's credits, and its pass does not end, until a reset; `AmdIommu(dropped=...)` answers "
                "it",
                "the specification was not at hand; Linux restarts the log, answers none of what was lost, and keeps "
                "what is unfinished",
                "test_a_dropped_last_request_is_answered_as_was_chosen",
            ),
            KnownDifference(
                "the driver neither waits for an entry to be written nor clears it afterwards",
                "Linux does, against errata; here an entry is complete before the tail shows it",
            ),
            KnownDifference(
                "a request that a device table would refuse cannot be; the log's memory is always there; nothing is "
                "written to an event log",
                "there is no device table: each function that is bound may send page requests",
            ),
        ),
    ),
    Section(
        "Hardware: devices",
        rows=(
            KnownDifference(
                "the driver of an RDMA adapter reports its faults to iommufd, and a client answers them",
                "Linux's mlx5 driver makes the pages present itself, and has no such path; the message has the length "
                "that was missing a sender",
                "test_a_message_has_the_length_that_the_device_would_like",
            ),
            KnownDifference(
                "the token's upper 16 bits are 0, and a key is a function and a PASID",
                "both are opaque to the other side; a `grpid` has 32 bits",
                "device.c: a_fault_is_these_64_bytes",
            ),
            KnownDifference(
                "the device keeps an entry for which the event queue has no room",
                "a real one has fewer operations that may wait than its queue has entries",
                "device.c: entries_wait_until_there_is_room",
            ),
            KnownDifference(
                "the driver of an accelerator reports the page that an operation needs to iommufd, and writes the "
                "completion record with the answer",
                "Linux's idxd driver makes the page of the record present and writes it at once; the submitter touches "
                "the page that is missing. A client that serves another's address space must be told of it",
                "test_an_operation_has_one_fault_after_the_other_and_its_records_say_how_far_it_came",
            ),
            KnownDifference(
                "the page of a completion record is never there for the accelerator, so each fault is an event; a "
                "record with status 0x04 says that nothing is to be sent again",
                "a record that the device writes itself passes no driver; Linux writes records as they are",
                "device_log.c: an_event_is_these_64_bytes",
            ),
            KnownDifference(
                "an operation whose event finds the log full waits until there is room",
                "the hardware writes nothing to a full log; Linux says no more, and has the log made large enough",
                "device_log.c: a_full_log_is_waited_for",
            ),
        ),
    ),
    Section(
        "Hardware: RISC-V",
        rows=(
            KnownDifference(
                "there is a driver for page requests: it does what the specification's software guidelines say",
                "Linux has none, up to 7.2: it switches the queue off",
                "test_an_access_goes_the_whole_way",
            ),
            KnownDifference(
                "the IOMMU answers the last request of a group that the queue does not take",
                "the specification allows it, and its reference model does it",
                "riscv.c: the_reasons_have_an_order",
            ),
            KnownDifference(
                "last, neither read nor write, without a PASID: an ordinary request",
                "PCIe says so. The reference model drops it like a stop marker where the queue does not take it, and "
                "its sender would wait",
                "riscv.c: what_a_driver_does_not_report",
            ),
            KnownDifference(
                "page requests of a group that have no place are dropped, and counted as answered with the last, which "
                "the IOMMU answers; what the driver has kept of such a group is counted as passed over",
                "the function has its answer, so nothing is lost; the specification has no counts",
                "riscv.c: an_overflow_is_answered_with_success",
            ),
            KnownDifference(
                "4,096 records; no device directory, so no cause 256 to 260 and no fault queue; one segment",
                "not modelled: each function that is bound may send page requests",
            ),
        ),
    ),
    Section(
        "Designs",
        rows=(
            KnownDifference(
                "`eventfd`: the posted read tested the wrong pointer and used the wrong record size",
                '"as it was meant", else it could not work',
            ),
            KnownDifference(
                "`eventfd`: no time-out (the posting says 100 ms and 1 s)",
                "reviewers asked for that, and all designs must answer for the same faults",
            ),
            KnownDifference("`eventfd`: an answer's search is a table, not a list", "its cost is not what is compared"),
            KnownDifference(
                "`handler`: runs in the consumer step, not in the report",
                "the fault queue stands between hardware and every design",
            ),
            KnownDifference(
                "`handler`: a page request counts as stage 1",
                "it does not say which stage faulted",
                "test_the_handler_hears_what_its_report_flags_ask_for",
            ),
            KnownDifference(
                "`region`: a record says in its padding which device it is of, and so does an answer of 40 bytes",
                "a region was one device's; a fault queue may be fed by several",
                "region.c: records_and_headers_lie_as_posted",
            ),
            KnownDifference(
                "`region`: a group that the ring has no room for is refused as a whole, with INVALID, and counted",
                "as posted, each fault was lost to user space by itself; half a group could not be answered",
                "region.c: a_full_ring_refuses_and_counts",
            ),
            KnownDifference(
                "`region`: the kernel never reads its own index back, and takes its lock in v9, too",
                "reviewers asked for that; v11 takes the lock",
            ),
            KnownDifference(
                "`region-v8`, `region-v9`: page requests are recorded, and answered by the ioctl proposed beside them",
                "v8 and v9 were posted for faults without an answer, and all designs must answer for the same faults",
            ),
            KnownDifference(
                "`region`: answers in its ring are popped in the call that writes the head, not by a work queue",
                "the kernel's part runs in the client's calls",
                "region.c: the_kernel_pops_answers",
            ),
            KnownDifference(
                "`region`: with private data the argument of the ioctl is packed, so that the answer stays at offset 4",
                "the proposal's words of 64 bits would move it to 8, and `argsz` could not tell an old caller",
                "region.c: argsz_tells_old_answers_from_new_ones",
            ),
            KnownDifference("`host-uffd`: not there", "later"),
            KnownDifference("predictions of virtual time are not checked against real kernels", "later"),
        ),
    ),
)

BY_HAND: Final = (
    ByHand("dev", "ENOENT", "no such address space", "test_a_refused_call_changes_nothing"),
    ByHand("dev", "EINVAL", "attached to what is no table or space", "test_a_refused_call_changes_nothing"),
    ByHand("fault", "EMFILE", "no descriptor is free", "test_without_a_descriptor_there_is_no_queue"),
    ByHand("hwpt", "EINVAL", "made on nothing, or on what is no space", "test_a_refused_call_changes_nothing"),
    ByHand(
        "pattach",
        "EOPNOTSUPP",
        "the IOMMU has no such tables for PASIDs",
        "test_smmuv3_attaches_paging_tables_to_pasids_and_no_nested_ones",
    ),
    ByHand("preplace", "EOPNOTSUPP", "the same", "test_smmuv3_attaches_paging_tables_to_pasids_and_no_nested_ones"),
)
