"""``uring-iopf conformance golden``: replay recordings, and print the differences and the coverage."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.conformance.coverage import Coverage, in_order, shown
from uring_iopf.conformance.golden import NOTHING, Difference, outcome_of
from uring_iopf.conformance.known_scripts import known_of
from uring_iopf.conformance.recording import RecordingError, Script, kernel_of, load
from uring_iopf.errors import UsageError
from uring_iopf.iommufd import VERSIONS
from uring_iopf.reports.document import environment, json_text
from uring_iopf.reports.output import write_out
from uring_iopf.reports.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from uring_iopf.reports.output import Output

SCHEMA: Final = 1
"""The number is raised when a key of the JSON document is removed or changes its meaning."""

INTERRUPTED: Final = 130


@dataclass
class Recording:
    """One recording, with the results of its replay so far."""

    file: str
    kernel: str
    """The kernel of all scripts that do not name theirs."""
    scripts: Sequence[Script]
    given: bool = False
    """Whether *kernel* replaces the scripts' own."""
    coverage: Coverage = field(default_factory=Coverage)
    """The coverage of the scripts that were replayed to their end."""
    differences: list[Difference] = field(default_factory=list)
    later_workers: int = 0
    """Scripts that go as recorded if worker threads run later than at the next turn."""
    listed: int = 0
    """Scripts that differ as the conformance page says."""

    @property
    def label(self) -> str:
        """The kernels, and the fault files of scripts with rings."""
        kernels = sorted({self._kernel_of(script) for script in self.scripts})
        files = sorted({f"{script.fault_file} fault file" for script in self.scripts if script.fault_file})
        return ", ".join([f"Linux {' and '.join(kernels)}", *files])

    def _kernel_of(self, script: Script) -> str:
        return self.kernel if self.given or script.kernel is None else script.kernel

    def replay(self, on_script: Callable[[], object]) -> None:
        """Replay the whole recording. Call *on_script* after each script."""
        for script in self.scripts:
            kernel = self._kernel_of(script)
            outcome = outcome_of(script, kernel=kernel)
            if not script.varies:
                self.differences += self._unlisted(script, kernel, list(outcome.differences))
                self.later_workers += outcome.later_workers
            self.coverage.add(script)
            on_script()

    def _unlisted(self, script: Script, kernel: str, found: list[Difference]) -> list[Difference]:
        """The differences that are not on the conformance page. A listed script that differs otherwise is one, too."""
        known = known_of(script) if kernel == script.kernel else None
        if known is None:
            return found
        if len(found) == known.values:
            self.listed += 1
            return []
        listed = f"{known.values} differences ({known.cause})"
        return [*found, Difference(script.name, 0, "", "listed", listed, f"{len(found)}")]


def open_recording(file: str, kernel: str | None = None) -> Recording:
    """Load a recording. *kernel*: the kernel to emulate; None: the scripts' own, or the version in the file's name.

    Raises: UsageError, *kernel* is not emulated; RecordingError, there is no known version, or the file is bad.
    """
    known = ", ".join(VERSIONS)
    if kernel is not None and kernel not in VERSIONS:
        raise UsageError(f"--kernel {kernel}: this kernel is not emulated; give one of {known}")
    scripts = load(file)
    if kernel is not None:
        return Recording(file, kernel, scripts, given=True)
    own = {script.kernel for script in scripts}
    named = kernel_of(file) if None in own else None
    if None in own and named is None:
        raise RecordingError(file, None, f"the file's name has no kernel version; give --kernel, one of {known}")
    versions = sorted({one or str(named) for one in own})
    for version in versions:
        if version not in VERSIONS:
            raise RecordingError(file, None, f"kernel {version} is not emulated; give --kernel, one of {known}")
    return Recording(file, named or versions[0], scripts)


def golden(files: Sequence[str], *, kernel: str | None, out: TextIO, json_file: Output | None) -> int:
    """Replay *files*, and print the differences, the coverage and the totals to *out*. Return the exit status.

    *json_file* gets the same as JSON. 0: no difference; 1: a difference, or *json_file* could not be written; 130:
    interrupted, after the results until then were printed. Raises: as `open_recording`, before anything is replayed.
    """
    started = time.time()
    recordings: list[Recording] = []
    partial = False
    try:
        for file in files:
            recordings.append(open_recording(file, kernel))
        with progress() as tell:
            _replay_all(recordings, tell)
    except KeyboardInterrupt:
        partial = True
    different = any(one.differences for one in recordings)
    complaints = ["interrupted; the counts are partial"] if partial else []
    if json_file is not None:  # before the text: the reader of the text (head, less) may close the pipe
        content = _document(
            recordings, partial=partial, arguments={"file": list(files), "kernel": kernel}, started=started
        )
        if (complaint := json_file.write(json_text(content))) is not None:
            complaints.append(complaint)  # for example a full disk: the text is still printed
    write_out(out, "".join(f"{line}\n" for line in _text(recordings, partial=partial)))
    for complaint in complaints:
        sys.stderr.write(f"uring-iopf: {complaint}\n")
    if partial:
        return INTERRUPTED
    return 1 if different or complaints else 0


def _replay_all(recordings: Sequence[Recording], tell: Callable[[str, float], None]) -> None:
    total = sum(len(one.scripts) for one in recordings)
    done = 0
    for recording in recordings:

        def on_script(label: str = _plain(Path(recording.file).name)) -> None:
            nonlocal done
            done += 1
            tell(label, done / total)

        recording.replay(on_script)


# ---- the text ----


def _text(recordings: Sequence[Recording], *, partial: bool) -> Iterator[str]:
    for recording in recordings:
        for difference in recording.differences:
            yield f"{_plain(recording.file)}: {difference}"
        if recording.differences:
            yield ""
    if partial:
        yield f"PARTIAL: interrupted when {_replayed(recordings)} of {_all(recordings)} scripts were replayed."
        yield ""
    for recording in recordings:
        coverage = recording.coverage
        counts = f"{coverage.scripts:,} scripts ({coverage.named:,} named), {coverage.steps:,} steps"
        yield f"{_plain(recording.file)}, {recording.label}: {counts}"
        if coverage.not_compared or recording.later_workers or recording.listed:
            yield (
                f"  {coverage.values:,} values compared; {coverage.not_compared} scripts vary, and are not compared; "
                f"{recording.later_workers} went as recorded when worker threads ran later; "
                f"{recording.listed} differ as the conformance page says"
            )
        yield from _table(coverage)
        yield ""
    steps = sum(one.coverage.steps for one in recordings)
    differences = sum(len(one.differences) for one in recordings)
    yield f"scripts {_replayed(recordings)} steps {steps} differences {differences}"


def _table(coverage: Coverage) -> Iterator[str]:
    """The table of operations, with the number of each outcome."""
    width = max(len(name) for name, _ in coverage.rows())
    yield f"  {'operation':<{width}} {'count':>7}  how it ended"
    for name, outcomes in coverage.rows():
        yield f"  {name:<{width}} {outcomes.total():>7,}  {shown(outcomes)}"


def _plain(file: str) -> str:
    """A file's name in printable ASCII."""
    return "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in file)


def _replayed(recordings: Sequence[Recording]) -> int:
    return sum(one.coverage.scripts for one in recordings)


def _all(recordings: Sequence[Recording]) -> int:
    return sum(len(one.scripts) for one in recordings)


# ---- the JSON document ----


def _document(
    recordings: Sequence[Recording], *, partial: bool, arguments: dict[str, Any], started: float
) -> dict[str, Any]:
    from datetime import UTC, datetime

    return {
        "schema": SCHEMA,
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "partial": partial,
        "arguments": arguments,
        "recordings": [
            {
                "file": one.file,
                "kernel": one.kernel,
                "scripts": one.coverage.scripts,
                "steps": one.coverage.steps,
                "values": one.coverage.values,
                "not_compared": one.coverage.not_compared,
                "later_workers": one.later_workers,
                "listed": one.listed,
                "differences": [_difference(difference) for difference in one.differences],
                "operations": {name: dict(in_order(ends)) for name, ends in one.coverage.operations.items()},
                "hardware": {name: dict(in_order(ends)) for name, ends in one.coverage.hardware.items()},
            }
            for one in recordings
        ],
        "environment": environment(),
    }


def _difference(difference: Difference) -> dict[str, Any]:
    """The fields of a difference, without `expected` or `got` if that side has no such value."""
    return {name: value for name, value in vars(difference).items() if value != NOTHING}
