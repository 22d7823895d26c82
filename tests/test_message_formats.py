"""The page of message formats is what its script finds, and its script finds what the specifications say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT: Final = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """``docs/message_formats.py``, as a module."""
    spec = importlib.util.spec_from_file_location("message_formats", ROOT / "docs" / "message_formats.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["message_formats"] = module  # which dataclasses look for
    spec.loader.exec_module(module)
    yield module
    del sys.modules["message_formats"]


@pytest.fixture(scope="module")
def survey(script: ModuleType) -> Any:
    return script.survey()


def test_the_page_is_what_the_script_prints(script: ModuleType, survey: Any) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.page(survey), (
        "docs/reference/message-formats.md is not what `python docs/message_formats.py` prints"
    )


@pytest.mark.parametrize(
    ("kind", "field", "record", "message", "answer"),
    [
        ("VT-d 4", "PASID", "0: 51:32", "`pasid`", "0: 51:32"),
        ("VT-d 4", "last of its group", "1: 2", "waits for the last", "–"),  # noqa: RUF001  the page's
        ("VT-d 3", "private data", "2: 63:0; 3: 63:0", "**lost**", "2: 63:0; 3: 63:0"),
        ("VT-d 2", "requester id", "0: 31:24; 1: 11:4", "`dev_id`", "0: 31:16"),
        ("VT-d 2", "private data", "0: 54:32", "**lost**", "1: 54:32"),
        ("VT-d 2, stream", "page address", "1: 46:12", "`addr`", "1: 46:12"),
        ("SMMUv3, PRI", "PASID is there", "0: 63", "`flags`", "0: 11"),
        ("SMMUv3, PRI", "group index or tag", "1: 8:0", "`grpid`", "1: 8:0"),
        ("SMMUv3, stall", "group index or tag", "1: 8:0", "`grpid`", "1: 8:0"),
        ("SMMUv3, stall", "byte address", "2: 11:0", "`addr`", "–"),  # noqa: RUF001
        ("SMMUv3, stall", "stage", "1: 39; 3: 46:12", "**lost**", "–"),  # noqa: RUF001
        ("AMD", "PASID", "0: 45:42, 31:16", "`pasid`, some refused", "0: 47:32"),
        ("AMD", "PASID is there", "0: 56", "refused", "–"),  # noqa: RUF001
        ("AMD", "group index or tag", "0: 40:32", "`grpid`", "1: 40:32"),
        ("RISC-V", "requester id", "0: 55:40", "`dev_id`", "0: 55:40"),
        ("RISC-V", "group index or tag", "1: 11:3", "`grpid`", "1: 40:32"),
        ("event log", "PASID", "0: 59:40", "`pasid`", "–"),  # noqa: RUF001
        ("event log", "read, write", "0: 33; 4: 7", "`perm`", "1: 7"),
        ("event log", "byte address", "5: 11:0", "`addr`", "2: 11:0"),
        ("event log", "bytes done before it", "4: 45:44", "**lost**", "1: 45:44"),
    ],
)
def test_fields_are_where_the_specifications_have_them(
    script: ModuleType, survey: Any, kind: str, field: str, record: str, message: str, answer: str
) -> None:
    """By hand, from the tables of each specification: the library's own constants are not asked."""
    assert script.place(survey[kind][field]) == (record, message, answer)


def test_every_fault_was_answered_and_its_function_knows_it_unless_it_waits_for_the_last(survey: Any) -> None:
    seen = [one for fields in survey.values() for faults in fields.values() for one in faults]
    assert len(seen) > 800
    assert all(one.record for one in seen)
    for one in seen:
        assert one.outstanding == (one.message is None and not one.refusal)
        assert bool(one.answer) == (one.message is not None)


def test_only_a_device_of_its_own_says_a_length(script: ModuleType, survey: Any) -> None:
    assert script.never_set({name: fields for name, fields in survey.items() if name != "RDMA"}) == ["length"]
    assert script.never_set({"RDMA": survey["RDMA"]}) == []
    assert script.place(survey["RDMA"]["pages wanted behind it"])[1:] == ("`length`", "–")  # noqa: RUF001


def test_a_field_that_two_records_have_and_two_messages_have_not_is_lost(script: ModuleType) -> None:
    """The judge itself, on faults that never were."""
    one, two = ((0b01,), (0b10,))
    message = script.FaultMessage(1, 1, 5, 3, 1, 0x1000, 0, 1)
    other = message._replace(grpid=4, cookie=2)

    def seen(record: tuple[int, ...], message: Any, refusal: tuple[int, ...] = ()) -> Any:
        return script.Seen(record, message, (7,) if message else (), refusal, 0)

    assert script.place([seen(one, message), seen(two, message._replace(cookie=9))])[1] == "**lost**"
    assert script.place([seen(one, message), seen(two, other)]) == ("0: 1:0", "`grpid`", "–")  # noqa: RUF001
    assert script.place([seen(one, message), seen(two, other), seen((3,), message)])[1] == "`grpid`, not all of it"
    assert script.place([seen(one, message), seen(two, None, (1,))])[1] == "refused"
    assert script.place([seen(one, message), seen(two, None)])[1] == "waits for the last"
    assert script.place([seen(one, message), seen(one, message)]) == script.NOWHERE
