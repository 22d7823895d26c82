"""Hypothesis' profiles: `ci` unless HYPOTHESIS_PROFILE says `soak`, which looks for much longer.

And what a run of the rings' judge was: the seed of its programs, who judged, and what was known already.
"""

from __future__ import annotations

import gc
import os
import random
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pathlib import Path

settings.register_profile("ci", deadline=None, print_blob=True)
settings.register_profile(
    "soak",
    deadline=None,
    print_blob=True,
    max_examples=int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "20000")),
    stateful_step_count=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for the programs of a run: always the same, or any in the `soak` profile.

    RINGS_SEED or --hypothesis-seed chooses it.
    """
    chosen = os.environ.get("RINGS_SEED") or config.getoption("--hypothesis-seed")
    soak = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
    try:
        seed = int(chosen or "")
    except ValueError:
        seed = random.SystemRandom().randrange(1 << 32) if soak else 1
    os.environ["RINGS_SEED"] = str(seed)
    # A service's or a shell's background job begins with Ctrl-C ignored, and so would every program that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def little_to_look_through() -> None:
    """What tests ask to be collected does not look through the tests themselves, and the reports of those before.

    They are more than half a million objects, and the tests of interrupted calls ask 500 times for that.
    """
    gc.collect()
    gc.freeze()


def pytest_report_header() -> list[str]:
    from tests.rings.host import refusal, version
    from tests.ways import EVERY_WAY, START

    reason = refusal()
    host = "the host, Linux {}.{}".format(*version())
    judge = f"recordings, as the host refuses io_uring ({reason})" if reason else host
    ways = "all, in each test" if EVERY_WAY else f"a share in each test, WAYS_START={START}; all with EVERY_WAY=1"
    return [
        f"rings: judged by {judge}; programs again with RINGS_SEED={os.environ['RINGS_SEED']}",
        f"ways of a design (driver, wait, client): {ways}",
    ]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what is about a design that this host refuses: by a parameter, or by the class of a suite."""
    from tests.on_host import refusal
    from uring_iopf.designs import names

    case = getattr(item, "callspec", None)
    values = [*(case.params.values() if case else ()), getattr(getattr(item, "cls", None), "design", None)]
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    for design in names():
        if design in flat and (reason := refusal(design)):
            pytest.skip(f"the host refuses it: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from tests.rings.known import counted

    if counted:
        words = ", ".join(f"{count:,} {what}" for what, count in sorted(counted.items()))
        terminalreporter.write_line(f"rings: {words}")


@pytest.fixture(scope="session")
def build_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library is compiled for the whole run; see `compiled.py`."""
    return tmp_path_factory.mktemp("c")
