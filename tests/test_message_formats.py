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


@pytest.fixture(scope="module")
def fields(script: ModuleType, survey: Any) -> Any:
    return script.all_fields(survey)


def test_the_page_is_what_the_script_prints(script: ModuleType, survey: Any, fields: Any) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.page(survey, fields), (
        "docs/reference/message-formats.md is not what `python docs/message_formats.py` prints"
    )


FIELDS: Final = {
    "VT-d 4": "type; PASID present; requester id; PASID; execute requested; privileged mode requested; read; write; "
    "last in group; PRG index; address",
    "VT-d 4, Linux 6.12": "type; PASID present; requester id; PASID; execute requested; privileged mode requested; "
    "read; write; last in group; PRG index; address",
    "VT-d 3": "type; PASID present; private data present; requester id; PASID; execute requested; privileged mode "
    "requested; read; write; last in group; PRG index; address; private data",
    "VT-d 2": "stream response requested; bof; PASID present; last in group; PASID; bus; private data; PRG index; "
    "read; write; execute; privileged; device and function; address",
    "VT-d 2, stream": "stream response requested; bof; PASID present; last in group; PASID; bus; private data; PRG "
    "index; read; write; execute; privileged; device and function; address",
    "SMMUv3, PRI": "StreamID, 15:0; StreamID, 31:16; SubstreamID; Priv; X; R; W; Last; SSV; PRG index; address",
    "SMMUv3, stall": "event id; SSV; SubstreamID; StreamID, 15:0; StreamID, 31:16; STAG; Stall; PnU; InD; RnW; S2; "
    "CLASS; TTRnW; InputAddr, page; InputAddr, byte; IPA",
    "AMD": "device id; PASID[15:0]; tag, PRG index; tag, last; PASID[19:16]; EXEC; READ; WRITE; US; RVSD; GN; type; "
    "address",
    "RISC-V": "PID; PV; PRIV; EXEC; DID, requester id; DID, segment; R; W; L; PRGI; address",
    "RDMA": "type; subtype; flags, last; post_demand_fault_pages; pre_demand_fault_pages; token47_32; token31_0; "
    "demand_fault_pages; mkey; va, page; va, byte; signature; owner",
    "event log": "desc_valid; wq_idx_valid; batch; fault_rw; priv; err_info_valid; error; wq_idx; batch_id; operation; "
    "pasid; batch_idx; int_handle; rci; ims; rcr; first_err_in_batch; operand_id; fault_addr; record: status; "
    "record: status, write; record: result; record: fault_info; record: bytes_completed; record: fault_addr, page; "
    "record: fault_addr, byte; record: of the operation",
}
"""Of each record, as Linux's headers and the vendors' specifications have them. What is not here is reserved."""


def test_the_records_have_all_fields_of_the_specifications(script: ModuleType) -> None:
    assert [kind.name for kind in script.KINDS] == list(FIELDS)
    assert list(script.RECORDS) == list(FIELDS)
    for kind, record in script.RECORDS.items():
        assert "; ".join(one["field"] for one in record["fields"] if "means" in one) == FIELDS[kind]


def test_the_fields_have_each_bit_of_their_record_once(script: ModuleType, survey: Any) -> None:
    for kind, record in script.RECORDS.items():
        all_bits = [bit for one in record["fields"] for bit in script.bits_of(one["at"])]
        assert sorted(all_bits) == [(word, bit) for word in range(record["words"]) for bit in range(64)], kind
        sent = {len(one.record) for seen in survey[kind].values() for one in seen}
        assert sent == {record["words"]}, kind


def test_each_field_is_carried_or_lost_as_the_specifications_and_the_drivers_have_it(fields: Any) -> None:
    """By hand, from the tables of each specification: the library's own constants are not asked."""
    for kind, some in fields.items():
        for one in some:
            if one.means:
                assert one.verdict.changes, (kind, one.name)
                assert (one.verdict.text(), one.verdict.answer()) == one.expected, (kind, one.name)


def test_each_bit_of_each_field_was_changed(script: ModuleType, fields: Any) -> None:
    for kind, some in fields.items():
        for one in some:
            assert {change.bit for change in one.verdict.changes} == set(script.bits_of(one.at)), (kind, one.name)


def test_reserved_bits_are_0_and_change_no_message(script: ModuleType, survey: Any, fields: Any) -> None:
    for kind, some in fields.items():
        sent = [one.record for seen in survey[kind].values() for one in seen]
        for one in some:
            if not one.means:
                assert one.verdict.text() == "**lost**", (kind, one.at)
                assert not any(words[word] >> bit & 1 for words in sent for word, bit in script.bits_of(one.at)), kind


def test_what_is_the_same_in_all_faults_is(script: ModuleType, survey: Any, fields: Any) -> None:
    for kind, some in fields.items():
        for one in some:
            if one.constant is not None:
                for fault in (fault for seen in survey[kind].values() for fault in seen):
                    set_bits = [fault.record[word] >> bit & 1 for word, bit in script.bits_of(one.at)]
                    assert sum(bit << n for n, bit in enumerate(set_bits)) == one.constant, (kind, one.name)


SAID_BY: Final = {
    "requester id": {"requester id", "key", "work queue", "group index or tag"},
    "PASID": {"PASID", "key"},
    "execute": {"execute", "read, write", "operation"},
    "read, write": {"read, write", "operation"},
    "stage": {"stage", "intermediate address"},
}
"""The fields of a record that a property of a fault is in, where that is not the one of its name alone."""


def test_hardware_writes_what_differs_into_the_fields_that_say_it(script: ModuleType, survey: Any, fields: Any) -> None:
    silent = {("RDMA", "read, write"), ("RDMA", "execute"), ("event log", "execute")}
    for kind, properties in survey.items():
        for name, seen in properties.items():
            varying = script.varying_bits([one.record for one in seen])
            said = SAID_BY.get(name, {name})
            there = {bit for one in fields[kind] if one.means in said for bit in script.bits_of(one.at)}
            assert varying <= there, (kind, name)
            assert bool(varying) == ((kind, name) not in silent), (kind, name)


def test_every_fault_was_answered_and_its_function_knows_it_unless_it_waits_for_the_last(survey: Any) -> None:
    seen = [one for fields in survey.values() for faults in fields.values() for one in faults]
    assert len(seen) > 800
    assert all(one.record for one in seen)
    for one in seen:
        assert one.outstanding == (one.message is None and not one.refusal)
        assert bool(one.answer) == (one.message is not None)


def test_only_a_device_of_its_own_says_a_length(script: ModuleType, survey: Any, fields: Any) -> None:
    assert script.never_set({name: seen for name, seen in survey.items() if name != "RDMA"}) == ["length"]
    assert script.never_set({"RDMA": survey["RDMA"]}) == []
    says = {kind for kind, some in fields.items() for one in some if "`length`" in one.verdict.text()}
    assert says == {"RDMA"}


def test_a_bit_that_changes_a_record_and_no_message_is_lost(script: ModuleType) -> None:
    """The judge itself, on faults that never were."""
    low, high = script.Bit(0, 0), script.Bit(0, 7)
    message = script.FaultMessage(1, 1, 5, 3, 1, 0x1000, 0, 1)
    before = script.Read(message, (7,), False)
    same = before._replace(message=message._replace(cookie=9))
    other = script.Read(message._replace(grpid=4, pasid=6), (6,), False)
    refused, passed_over = script.Read(None, (), True), script.Read(None, (), False)

    def verdict(*after: tuple[Any, Any], constant: bool = False, short: bool = False) -> str:
        changes = tuple(script.Change(bit, before, read) for bit, read in after)
        return str(script.Verdict(changes, constant).text(short=short))

    assert verdict((low, same)) == "**lost**"
    assert verdict((low, same), constant=True) == "no place"
    assert verdict((low, other)) == "`pasid`, `grpid`"
    assert verdict((low, other), (high, same)) == "`pasid`, `grpid`, not 0: 7"
    assert verdict((low, other), (high, same), short=True) == "`pasid`, `grpid`, not all of it"
    assert verdict((low, other), (low, same)) == "`pasid`, `grpid`, not always"
    assert verdict((low, refused)) == "refused"
    assert verdict((low, refused), (high, passed_over)) == "some refused, some passed over"
    assert verdict((low, same), (high, refused)) == "**lost**, some refused"
    assert verdict((low, passed_over), constant=True) == "no place, others passed over"
    assert script.Verdict((script.Change(low, before, other),), False).answer() == "0: 0"
    assert script.Verdict((script.Change(low, before, other),), False, answer_type=15).answer() == "of another type"
    assert script.Verdict((script.Change(low, before, same),), False).answer() == "–"  # noqa: RUF001  the page's
