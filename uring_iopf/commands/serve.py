"""``uring-iopf serve``: hand page faults to programs in other processes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from uring_iopf.commands.shared import (
    OK,
    SIGNALLED,
    UNACCOUNTED,
    Parser,
    Parts,
    add_fault_file,
    listed,
    reached_in_flight,
    whole_number,
)
from uring_iopf.commands.signals import Ends
from uring_iopf.machine_parts import DEFAULT_IN_FLIGHT, DEFAULT_WORKLOAD, MOST_IN_FLIGHT, MOST_IN_GROUP, MachineParts
from uring_iopf.reports.undisturbed import undisturbed

if TYPE_CHECKING:
    import argparse

    from uring_iopf.machine import Account

_SERVE: Final = """\
Deliver I/O page faults to programs in other processes.

Each program that connects to the socket gets an emulated machine of its own: a
ring, page tables, and the page faults of a workload, once. The program maps the
ring with liburing's io_uring_queue_mmap(). It maps pages by storing page-table
entries, and answers with WRITE requests. The server notifies it when every
fault is answered. docs/how-to/attach-a-process.md explains how to write such a
client. tests/clients/ has a complete one.
"""

_EXAMPLES: Final = """\
examples:
  uring-iopf serve --socket /tmp/faults
      serve every client that connects, until Ctrl-C
  uring-iopf serve --socket /tmp/faults --workload my.csv --once
      serve one client, with the faults of your own trace"""

_SERVE_STATUSES: Final = (
    ("0", "the first client left (--once), and every fault was answered by the client or for it"),
    ("1", "faults were lost: nobody answered them"),
    ("2", "an argument is wrong, or the socket cannot be made"),
    ("130", "ended by Ctrl-C; the kernel answered the open faults of connected clients"),
    ("143, 129", "ended by SIGTERM or SIGHUP, in the same way"),
)


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add the description and the options of the command."""
    parser.description = _SERVE
    parser.epilog = "\n\n".join([_EXAMPLES, listed("exit status", _SERVE_STATUSES)])
    add = parser.add_argument
    add(
        "--socket",
        metavar="PATH",
        required=True,
        help="the Unix socket to listen on; it is created, and only this user may connect",
    )
    add(
        "--workload",
        metavar="NAME|FILE",
        default=DEFAULT_WORKLOAD,
        help=f"the trace that each client gets once: a bundled one, or a file (default: {DEFAULT_WORKLOAD})",
    )
    add(
        "--in-flight",
        metavar="N",
        type=whole_number(1, MOST_IN_FLIGHT),
        help=f"groups that may be outstanding at once, 1 to {MOST_IN_FLIGHT}; a number that the workload and --group "
        f"cannot reach is refused (default: {DEFAULT_IN_FLIGHT}, or fewer if they do not reach it)",
    )
    add(
        "--group",
        metavar="N",
        type=whole_number(1, MOST_IN_GROUP),
        default=1,
        help=f"the most pages in one group, 1 to {MOST_IN_GROUP} (default: 1)",
    )
    add(
        "--wait",
        choices=("spin", "sleep"),
        default="sleep",
        help="the worker that polls a client's ring goes on polling after a millisecond without work (spin), or sleeps "
        "until the client wakes it with a kick (sleep) (default: sleep)",
    )
    add_fault_file(parser)
    add(
        "--clients",
        metavar="N",
        type=whole_number(1, 64),
        default=4,
        help="the most clients served at once, 1 to 64; more are refused with EBUSY (default: 4)",
    )
    add("--once", action="store_true", help="end when the first client has left")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, _parts: Parts) -> int:
    """Serve clients until the end, and return the exit status."""
    with undisturbed():
        from functools import partial

        from uring_iopf.machine import Account, Machine
        from uring_iopf.reports.progress import progress
        from uring_iopf.server import ClientResult, RingServer

    made_of = MachineParts.of(
        arguments.workload,
        driver="sqpoll",
        wait=arguments.wait,
        fault_file=arguments.fault_file,
        group=arguments.group,
    )
    most = reached_in_flight(made_of, () if arguments.in_flight is None else (arguments.in_flight,))
    made_of = made_of.with_options(in_flight=arguments.in_flight or min(DEFAULT_IN_FLIGHT, most))
    workload = made_of.workload
    assert workload is not None, "the option has a default"
    new_machine = partial(Machine, made_of)

    say = _Speaker()

    def on_end(result: ClientResult) -> None:
        how = result.ending.name.lower() + (f" ({result.reason})" if result.reason else "")
        say(f"client {result.number} (pid {result.pid}): {how}; {_account(result.account)}")

    def on_refuse(reason: OSError) -> None:
        say(f"a client was refused: {reason.strerror}")

    with Ends() as ends:
        server = RingServer(
            arguments.socket, new_machine, most_clients=arguments.clients, on_end=on_end, on_refuse=on_refuse
        )
        with server:
            ends.call(server.stop)
            say(
                f"serving {workload.name} ({len(workload):,} faults to each client) at {arguments.socket}; "
                "Ctrl-C ends it"
            )
            with progress() as on_progress:
                while server.serve(
                    1 if arguments.once else None, interval_s=0.25 if sys.stderr.isatty() else None
                ) and not (arguments.once and server.results):
                    for session in server.sessions:
                        answered, total = session.progress()
                        on_progress(f"client {session.number}: {answered:,} of {total:,} answered", answered / total)
        accounts = [result.account for result in server.results]
        total_of_all = Account(
            *(sum(column) for column in zip(Account(*[0] * len(Account._fields)), *accounts, strict=True))
        )
        say(f"{len(accounts)} client{'' if len(accounts) == 1 else 's'}: {_account(total_of_all)}")
        for result in server.results:
            if not result.complete:
                sys.stderr.write(f"uring-iopf: not accounted for: client {result.number}: {result.account}\n")
        if not all(result.complete for result in server.results):
            return UNACCOUNTED
    return OK if ends.by is None else SIGNALLED + ends.by


class _Speaker:
    """Prints lines to standard output. When that fails once, it prints no more, and raises nothing."""

    def __init__(self) -> None:
        self._heard = True

    def __call__(self, text: str) -> None:
        if not self._heard:
            return
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()  # a program may wait for the first line before it connects
        except OSError:  # the reader closed the pipe, or the disk is full: clients are served all the same
            from uring_iopf.reports.output import discard_output

            self._heard = False
            discard_output()


def _account(of: Account) -> str:
    return (
        f"sent {of.sent:,} = answered {of.answered:,} + answered for it {of.auto_answered:,} + "
        f"pending {of.pending:,} + lost {of.lost:,}"
    )
