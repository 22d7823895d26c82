"""``uring-iopf serve``: hand page faults to programs in other processes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from uring_iopf.commands.shared import OK, SIGNALLED, UNACCOUNTED, Parser, Parts, listed, whole_number
from uring_iopf.commands.signals import Ends
from uring_iopf.machine_parts import DEFAULT_WORKLOAD, MOST_IN_FLIGHT, MOST_IN_GROUP, MachineParts

if TYPE_CHECKING:
    import argparse

    from uring_iopf.machine import Account

_SERVE: Final = """\
Hand I/O page faults to programs in other processes.

Each program that connects to the socket gets an emulated machine of its own: a
ring that it maps with liburing's io_uring_queue_mmap(), page tables, and the
page faults of a workload, once. It makes pages present by storing page-table
entries, answers with WRITEs, and is told when all is answered.
docs/how-to/attach-a-process.md says how such a client is written; a whole one
is in tests/clients/.
"""

_SERVE_STATUSES: Final = (
    ("0", "the first client has gone (--once), and every fault was answered, by it or for it"),
    ("1", "some fault was answered by nobody"),
    ("2", "the command was not understood, or the socket cannot be made"),
    ("130", "ended by Ctrl-C; clients that were there have been answered for"),
    ("143, 129", "the same, ended by SIGTERM or SIGHUP"),
)


def add_options(parser: Parser, _parts: Parts) -> None:
    """Add what the command takes."""
    parser.description = _SERVE
    parser.epilog = listed("exit status", _SERVE_STATUSES)
    add = parser.add_argument
    add("--socket", metavar="PATH", required=True, help="where to listen: a Unix socket, made for this user alone")
    add(
        "--workload",
        metavar="NAME|FILE",
        default=DEFAULT_WORKLOAD,
        help=f"whose faults each client is handed, once: a bundled trace, or your own (default: {DEFAULT_WORKLOAD})",
    )
    add(
        "--in-flight",
        metavar="N",
        type=whole_number(1, MOST_IN_FLIGHT),
        default=16,
        help=f"groups of faults outstanding at once, up to {MOST_IN_FLIGHT} (default: 16)",
    )
    add(
        "--group",
        metavar="N",
        type=whole_number(1, MOST_IN_GROUP),
        default=1,
        help=f"pages in one group at most, up to {MOST_IN_GROUP} (default: 1)",
    )
    add(
        "--wait",
        choices=("spin", "sleep"),
        default="sleep",
        help="what the thread that polls a client's ring does after a millisecond without work: look again, or sleep "
        "until the client kicks it (default: sleep)",
    )
    add("--clients", metavar="N", type=whole_number(1, 64), default=4, help="served at once at most (default: 4)")
    add("--once", action="store_true", help="end when the first client has gone")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, _parts: Parts) -> int:
    """Serve clients until the end, and return the exit status."""
    from functools import partial

    from uring_iopf.machine import Account, Machine
    from uring_iopf.reports.progress import progress
    from uring_iopf.server import ClientResult, RingServer

    made_of = MachineParts.of(
        arguments.workload,
        driver="sqpoll",
        wait=arguments.wait,
        in_flight=arguments.in_flight,
        group=arguments.group,
    )
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
    """Says lines to whoever reads our output, and goes on in silence when nobody does any more."""

    def __init__(self) -> None:
        self._heard = True

    def __call__(self, text: str) -> None:
        if not self._heard:
            return
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()  # whoever waits for the first line may be a program
        except OSError:  # the reader has gone, or the disk is full: clients are served all the same
            self._heard = False
            with suppress(OSError, ValueError):  # what is still in the buffer goes nowhere, also at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _account(of: Account) -> str:
    return (
        f"sent {of.sent:,} = answered {of.answered:,} + answered for it {of.auto_answered:,} + "
        f"pending {of.pending:,} + lost {of.lost:,}"
    )
