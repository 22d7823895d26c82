"""How every command ends: by each signal at any moment, and what is in the files that it was told to write."""

from __future__ import annotations

import errno
import gzip
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from uring_iopf.commands.main import main
from uring_iopf.errors import UsageError
from uring_iopf.reports.output import Output

LIMIT_S: Final = 60
"""For anything that is waited for; far more than it takes."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Each tells on standard error that it has begun to measure, which takes long.
START: Final = """
import sys
from uring_iopf.commands.main import main
from uring_iopf.reports import progress
telling = progress.progress
class Told:
    def __init__(self):
        self.told = telling()
    def __enter__(self):
        on = self.told.__enter__()
        def tell(*how):
            sys.stderr.write("begun\\n")
            sys.stderr.flush()
            on(*how)
        return tell
    def __exit__(self, *how):
        return self.told.__exit__(*how)
progress.progress = Told
raise SystemExit(main())
"""
GOLDEN: Final = Path(__file__).parent / "data" / "golden"
#: The smallest first, of which the second has soon begun; and more than there is time for behind them.
RECORDINGS: Final = [str(path) for path in sorted(GOLDEN.glob("*.jsonl.gz"), key=lambda path: path.stat().st_size) * 3]
COMMANDS: Final = {
    "compare": ["compare", "--repeat", "50"],
    "compare, trio": ["compare", "--repeat", "50", "--client", "trio", "--wait", "sleep"],
    "compare, batch": ["compare", "--repeat", "50", "--client", "batch", "--driver", "sqpoll"],
    "bench": ["bench"],
    "calibrate": ["calibrate", "--output", "model.json"],
    "conformance golden": ["conformance", "golden", *RECORDINGS],
}


def begin(
    command: list[str], *, ignoring: tuple[signal.Signals, ...] = (), cwd: Path | None = None
) -> subprocess.Popen[str]:
    def ignore() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-c", START, *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ignore,
    )


@pytest.mark.parametrize(
    ("command", "number"),
    [(name, signal.SIGTERM) for name in COMMANDS] + [("compare", signal.SIGINT), ("compare", signal.SIGHUP)],
)
def test_a_signal_ends_a_command_with_what_it_has(command: str, number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    with begin([*COMMANDS[command], "--json", str(file)], cwd=tmp_path) as process:
        assert process.stderr is not None
        for _ in range(2):  # one result is there, and another under way
            assert process.stderr.readline() == "begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert out
    content = json.loads(file.read_text())
    assert content["partial"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("command", ["compare", "compare, trio"])
def test_where_ctrl_c_is_ignored_it_stays_so_and_sigterm_ends(command: str) -> None:
    """As in the background of a script."""
    with begin(COMMANDS[command], ignoring=(signal.SIGINT,)) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        for _ in range(2):
            assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 143
    assert "Traceback" not in err


LOADING: Final = """
import os, signal, sys

class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        os.getpid()  # Python calls its handler by now, unless the signal is blocked

class Finder:
    def find_spec(self, name, *_):
        if name == module:
            sys.meta_path.remove(self)
            Lost()

module = sys.argv.pop(1)
from uring_iopf.commands.main import main
assert module not in sys.modules
sys.meta_path.insert(0, Finder())
raise SystemExit(main())
"""


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("uring_iopf.commands.compare", ["compare", "--repeat", "50"]),
        ("uring_iopf.lab.compare", ["compare", "--repeat", "50"]),
        ("uring_iopf.reports.text", ["compare", "--repeat", "50"]),
        ("uring_iopf.reports.bench", ["bench"]),
        ("uring_iopf.reports.calibration", ["calibrate", "--output", "model.json"]),
        ("uring_iopf.testing.check", ["check", "fd"]),
        ("uring_iopf.conformance.command", COMMANDS["conformance golden"]),
        ("uring_iopf.conformance.page", ["conformance", "report", str(next(GOLDEN.glob("*.jsonl.gz")))]),
        ("uring_iopf.server", ["serve", "--socket", "unused"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_ctrl_c_while_modules_are_loaded_is_not_lost(module: str, command: list[str], tmp_path: Path) -> None:
    """Python prints and drops an exception in a destructor, or in a callback of the import system."""
    done = subprocess.run(
        [sys.executable, "-c", LOADING, module, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr == "uring-iopf: interrupted\n"
    assert not any(tmp_path.iterdir())


IGNORED: Final = """
import os, signal, trio
from uring_iopf.commands.signals import Interrupts

def kill(number):
    os.kill(os.getpid(), number)

async def main():
    await trio.to_thread.run_sync(kill, signal.SIGINT)
    await trio.sleep(0)
    await trio.to_thread.run_sync(kill, signal.SIGTERM)  # meanwhile this thread is in trio's own code
    await trio.sleep_forever()

signal.signal(signal.SIGINT, signal.SIG_IGN)
with Interrupts() as interrupts:
    try:
        trio.run(main)
    except KeyboardInterrupt:
        print("interrupted by", interrupts.by)
    kill(signal.SIGINT)
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
assert signal.SIGINT not in signal.sigpending()
kill(signal.SIGINT)
"""


def test_where_ctrl_c_is_ignored_sigterm_does_not_come_out_of_trio_s_insides() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IGNORED], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted by 15\n", "", 0)


def test_the_first_of_many_signals_counts_and_the_others_take_nothing_away(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    with begin(["compare", "--repeat", "50", "--json", str(file)]) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGHUP)
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(0.001)
            except subprocess.TimeoutExpired:
                continue
        process.communicate(timeout=LIMIT_S)
    # Written is written; where one comes when the command has given up its handlers, it still ends the process.
    assert process.returncode in (129, -signal.SIGTERM)
    assert json.loads(file.read_text())["partial"] is True


def test_a_command_can_be_run_in_any_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """Signal handlers are for the main thread only; elsewhere there are none."""
    statuses: list[int] = []
    thread = threading.Thread(
        target=lambda: statuses.append(main(["conformance", "golden", str(next(GOLDEN.glob("*.jsonl.gz")))]))
    )
    thread.start()
    thread.join()
    assert statuses == [0], capsys.readouterr().err


def test_the_handlers_are_as_before() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit):
        main(["--version"])
    main(["conformance", "golden", "there is no such file"])
    assert [signal.getsignal(number) for number in SIGNALS] == before


# ---- files ----


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_output_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("of last week")
    with Output("--json", str(file)):
        assert file.read_text() == "of last week"
    assert (file.read_text(), left_in(tmp_path)) == ("of last week", ["out.json"])
    with pytest.raises(KeyboardInterrupt), Output("--json", str(file)):
        raise KeyboardInterrupt
    assert (file.read_text(), left_in(tmp_path)) == ("of last week", ["out.json"])
    with Output("--json", str(file)) as output:
        assert output.write("new") is None
        assert (file.read_text(), left_in(tmp_path)) == ("new", ["out.json"])


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for it."""
    file = tmp_path / "out.json"
    file.write_text("of last week")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Output("--json", str(file)) as output:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            complaint = output.write("x" * 100_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
    assert complaint == f"--json {file}: the file was not written: {os.strerror(errno.EFBIG)}"
    assert (file.read_text(), left_in(tmp_path)) == ("of last week", ["out.json"])


def test_a_link_a_mode_and_what_is_no_file_are_respected(tmp_path: Path) -> None:
    file, link = tmp_path / "out.json", tmp_path / "link"
    file.write_text("")
    file.chmod(0o640)
    link.symlink_to(file)
    with Output("--json", str(link)) as output:
        assert output.write("new") is None
    assert link.is_symlink()
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o640)

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    with Output("--json", str(fifo)) as output:
        assert output.write("through") is None
    reader.join()
    assert read == ["through"]


@pytest.mark.parametrize("name", ["x" * 255, "x" * 300, "folder", "nowhere/file", "a\0b", "\udcff"], ids=repr)
def test_a_name_that_cannot_be_is_refused_or_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    complaint = None
    with ExitStack() as stack:
        try:
            output = stack.enter_context(Output("--json", f"{tmp_path}/{name}"))
        except UsageError as refused:
            complaint = str(refused)
        else:
            assert output.write("x") is None
            assert (tmp_path / name).read_text() == "x"
    assert complaint is None or complaint.startswith(f"--json {tmp_path}/{name}: ")
    assert len(left_in(tmp_path)) <= 2


def test_no_command_writes_over_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, link = tmp_path / "mine.csv", tmp_path / "link"
    trace.write_text("time_ns,pasid,thread,address,access\n0,1,1,0x1000,r\n")
    link.hardlink_to(trace)
    recording = tmp_path / "iommufd-6.12.jsonl"
    recording.write_bytes(gzip.decompress(next(GOLDEN.glob("iommufd-6.12*.jsonl.gz")).read_bytes()))
    for command in (
        ["compare", "--workload", str(trace), "--json", str(trace)],
        ["compare", "--workload", str(trace), "--json", str(link)],
        ["conformance", "golden", str(recording), "--json", str(recording)],
        ["conformance", "report", str(recording), "--output", str(recording)],
    ):
        before = trace.read_bytes(), recording.read_bytes()
        assert main(command) == 2
        assert "this file is the command's input; give another name" in capsys.readouterr().err
        assert (trace.read_bytes(), recording.read_bytes()) == before


@pytest.mark.parametrize("command", ["compare", "conformance golden"])
def test_a_dash_is_standard_output_and_people_read_standard_error(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "compare": ["compare", "--design", "fd", "--in-flight", "4"],
        "conformance golden": ["conformance", "golden", str(next(GOLDEN.glob("*.jsonl.gz")))],
    }[command]
    assert main([*words, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["partial"] is False
    assert ("faults/s" if command == "compare" else "scripts") in err
