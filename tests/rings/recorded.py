"""What a host's io_uring did, recorded: the judge where the host refuses io_uring."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.rings.language import Seen

PLACE: Final = Path(__file__).resolve().parent.parent / "data" / "rings"


@dataclass(frozen=True)
class Recording:
    """Outcomes on one version of Linux."""

    kernel: tuple[int, int]
    machine: str
    cases: dict[str, tuple[str, list[Seen]]]
    """By the case's name: the digest of its program, and the outcome."""
    programs: list[tuple[bytes, list[bytes], str, list[Seen]]]
    """Generated programs, as the bytes that they are read from, the digests of what these were read as, outcomes."""


def write(recording: Recording) -> Path:
    """Into ``tests/data/rings/host-<version>.json.gz``; the same bytes for the same outcomes."""
    document = {
        "kernel": list(recording.kernel),
        "machine": recording.machine,
        "cases": {name: list(one) for name, one in recording.cases.items()},
        "programs": [[h.hex(), b"".join(actions).hex(), *rest] for h, actions, *rest in recording.programs],
    }
    path = PLACE / f"host-{recording.kernel[0]}.{recording.kernel[1]}.json.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, separators=(",", ":")) + "\n"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def read(action: int) -> Recording:
    """The recording of the newest kernel that there is. *action*: how many bytes one is."""
    paths = sorted(PLACE.glob("host-*.json.gz"), key=lambda path: [int(n) for n in path.name[5:-8].split(".")])
    document: dict[str, Any] = json.loads(gzip.decompress(paths[-1].read_bytes()))
    major, minor = document["kernel"]
    return Recording(
        (major, minor),
        document["machine"],
        {name: (digest, seen) for name, (digest, seen) in document["cases"].items()},
        [(bytes.fromhex(h), _cut(bytes.fromhex(a), action), of, seen) for h, a, of, seen in document["programs"]],
    )


def _cut(joined: bytes, length: int) -> list[bytes]:
    return [joined[at : at + length] for at in range(0, len(joined), length)]
