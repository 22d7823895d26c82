"""The structs, constants and Python names of both ABIs, held to what two kernels' headers have.

``data/layouts.json`` was measured with a C program that was compiled against the headers of Linux
6.12.117 and 7.2.13. Declarations follow 7.2. Where 6.12 disagrees, instead of only having less, a
second declaration carries the suffix ``_6_12``, and the tables below name it.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from pathlib import Path
from struct import calcsize
from typing import Final, NotRequired, TypedDict

import pytest

from uring_iopf import abi
from uring_iopf._core import ffi, lib
from uring_iopf.abi import records


class Field(TypedDict):
    offset: int
    size: int
    flex_elem: NotRequired[int]  # size of an element, where the size is 0 because it is open


class Layout(TypedDict):
    size: int
    align: int
    fields: dict[str, Field]  # members of unnamed structs and unions among them


class Kernel(TypedDict):
    structs: dict[str, Layout]
    constants: dict[str, int]


OLD, NEW = VERSIONS = ("6.12", "7.2")
TESTS: Final = Path(__file__).parent
LAYOUTS: Final = json.loads((TESTS / "data" / "layouts.json").read_text())
KERNELS: Final[Mapping[str, Kernel]] = {version: LAYOUTS[version] for version in VERSIONS}
HEADERS: Final = "".join((TESTS.parent / "cdefs" / "abi" / name).read_text() for name in ("io_uring.h", "iommufd.h"))
API: Final = (TESTS.parent / "cdefs" / "abi" / "api.h").read_text()

#: What has a declaration for each version: structs whose old fields moved, and changed values.
MOVED_STRUCTS: Final = {"io_uring_clone_buffers", "io_uring_napi"}
CHANGED_CONSTANTS: Final = {"IORING_OP_LAST", "IORING_REGISTER_LAST", "IORING_URING_CMD_MASK"}
#: Declared without being in the two headers: it stands in another one, which they include.
BORROWED_STRUCTS: Final = {"__kernel_timespec"}


def old_name(name: str) -> str:
    return f"{name}_6_12"


def declared_name(version: str, name: str) -> str:
    """Return what our headers call the struct or constant *name* of *version*."""
    twice = name in MOVED_STRUCTS or name in CHANGED_CONSTANTS
    return old_name(name) if twice and version == OLD else name


def compiled_layout(name: str) -> Layout:
    """Return the layout that the C compiler gave our struct *name*."""
    ctype = ffi.typeof(f"struct {name}")
    fields: dict[str, Field] = {}
    for member, info in ctype.fields:  # cffi lists members of unnamed structs and unions as well
        if info.type.kind == "array" and not info.type.length:
            fields[member] = Field(offset=info.offset, size=0, flex_elem=ffi.sizeof(info.type.item))
        else:
            fields[member] = Field(offset=info.offset, size=ffi.sizeof(info.type))
    return Layout(size=ffi.sizeof(ctype), align=ffi.alignof(ctype), fields=fields)


# ---- structs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "name"),
    [
        pytest.param(version, name, id=f"{version}-{name}")
        for version in VERSIONS
        for name in KERNELS[version]["structs"]
    ],
)
def test_a_struct_is_laid_out_as_the_kernel_has_it(version: str, name: str) -> None:
    kernel = KERNELS[version]["structs"][name]
    declared = declared_name(version, name)
    compiled = compiled_layout(declared)
    if version == OLD and declared == name:  # the declaration is 7.2's, which may have more
        later = KERNELS[NEW]["structs"][name]["fields"].keys() - kernel["fields"].keys()
        compiled["fields"] = {k: v for k, v in compiled["fields"].items() if k not in later}
    assert compiled["fields"] == kernel["fields"]  # first: pytest then names the field
    assert compiled == kernel


def test_only_the_listed_structs_have_moved_fields() -> None:
    old, new = (KERNELS[version]["structs"] for version in VERSIONS)
    moved = {
        name
        for name, layout in old.items()
        if (layout["size"], layout["align"]) != (new[name]["size"], new[name]["align"])
        or not layout["fields"].items() <= new[name]["fields"].items()
    }
    assert moved == MOVED_STRUCTS


def test_the_headers_declare_every_struct_and_no_other() -> None:
    declared = set(re.findall(r"^struct (\w+) \{", HEADERS, re.MULTILINE))
    kernels = {name for kernel in KERNELS.values() for name in kernel["structs"]}
    assert declared == kernels | {old_name(name) for name in MOVED_STRUCTS} | BORROWED_STRUCTS


OPAQUE = {f"struct {name}" for name in re.findall(r"^struct (\w+);", API, re.MULTILINE)}
"""Declared by name alone: cffi must not be asked for their fields."""


def test_every_struct_of_the_compiled_module_agrees_with_the_compiler() -> None:
    """cffi compares what it parsed with what the compiler made of it, but not before first use.

    It does so for every struct, ours and the library's own, except that it leaves the offsets of a
    struct with unnamed members to the compiler. For those the tests above are the only check.
    """
    _, structs, unions = ffi.list_types()
    touched = set()
    for name in (*(f"struct {s}" for s in structs), *(f"union {u}" for u in unions)):
        if name in OPAQUE:
            continue
        assert ffi.sizeof(name) > 0
        fields = ffi.typeof(name).fields  # raises ffi.error when they disagree
        assert [ffi.offsetof(name, member) for member, _ in fields] == [info.offset for _, info in fields]
        touched.add(name)
    assert {f"struct {name}" for name in KERNELS[NEW]["structs"]} <= touched


def test_timespec_is_two_signed_words_of_64_bits() -> None:
    assert compiled_layout("__kernel_timespec") == {
        "size": 16,
        "align": 8,
        "fields": {"tv_sec": {"offset": 0, "size": 8}, "tv_nsec": {"offset": 8, "size": 8}},
    }
    timespec = ffi.new("struct __kernel_timespec *", {"tv_sec": -1, "tv_nsec": -1})
    assert (timespec.tv_sec, timespec.tv_nsec) == (-1, -1)


@pytest.mark.parametrize(
    ("struct", "member"),
    [
        ("io_uring_sqe", "fd"),
        ("io_uring_sqe", "splice_fd_in"),
        ("io_uring_cqe", "res"),
        ("io_uring_sync_cancel_reg", "fd"),
        ("io_uring_query_hdr", "result"),
        ("iommu_ioas_map_file", "fd"),
    ],
)
def test_descriptors_and_results_are_signed(struct: str, member: str) -> None:
    assert getattr(ffi.new(f"struct {struct} *", {member: -1}), member) == -1


# ---- constants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_constant_has_the_kernels_value(version: str) -> None:
    wrong = [
        f"{declared} is {getattr(lib, declared, 'not declared')}, in Linux {version} {value}"
        for name, value in KERNELS[version]["constants"].items()
        if getattr(lib, declared := declared_name(version, name), None) != value
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_listed_constants_have_changed() -> None:
    old, new = (KERNELS[version]["constants"] for version in VERSIONS)
    assert {name for name, value in old.items() if new.get(name) != value} == CHANGED_CONSTANTS


def test_the_headers_declare_every_constant_and_no_other() -> None:
    declared = set(re.findall(r"^#define (\w+)", HEADERS, re.MULTILINE))
    kernels = {name for kernel in KERNELS.values() for name in kernel["constants"]}
    assert declared == kernels | {old_name(name) for name in CHANGED_CONSTANTS}


def test_what_came_after_6_12_is_marked_in_the_headers() -> None:
    structs = set(re.findall(r"^struct (\w+) \{ /\* 7\.2 \*/$", HEADERS, re.MULTILINE))
    constants = set(re.findall(r"^#define (\w+)\s+\S+\s+/\* 7\.2\b", HEADERS, re.MULTILINE))
    old, new = (KERNELS[version] for version in VERSIONS)
    assert structs == new["structs"].keys() - old["structs"].keys()
    assert constants == new["constants"].keys() - old["constants"].keys()


# ---- Python's names ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Names:
    """Where an enum's members come from: the first group of *pattern* is the member's name."""

    enum: type[IntEnum | IntFlag]
    pattern: str
    besides: Mapping[str, str] = field(default_factory=dict)  # member to uapi name

    def uapi_names(self) -> dict[str, str]:
        matches = (re.fullmatch(self.pattern, name) for name in KERNELS[NEW]["constants"])
        return {match[1]: match[0] for match in matches if match} | dict(self.besides)


NAMES: Final = [
    Names(abi.SetupFlags, r"IORING_SETUP_(\w+)"),
    Names(abi.Features, r"IORING_FEAT_(\w+)"),
    Names(abi.MmapOffset, r"IORING_OFF_((?:SQ|CQ|PBUF)_RING|SQES)"),
    Names(abi.SqFlags, r"IORING_SQ_(\w+)"),
    Names(abi.CqFlags, r"IORING_CQ_(\w+)"),
    Names(abi.EnterFlags, r"IORING_ENTER_(\w+)"),
    Names(abi.Op, r"IORING_OP_(?!LAST)(\w+)"),
    Names(abi.SqeFlags, r"IOSQE_(\w+)(?<!_BIT)"),
    Names(abi.CqeFlags, r"IORING_CQE_(F_(?!TSTAMP_HW)\w+)"),  # it is a bit of the buffer id
    Names(abi.NopFlags, r"IORING_NOP_(\w+)"),
    Names(abi.PollFlags, r"IORING_POLL_(\w+)"),
    Names(
        abi.TimeoutFlags,
        r"IORING_TIMEOUT_(\w+)(?<!_MASK)",
        {"LINK_TIMEOUT_UPDATE": "IORING_LINK_TIMEOUT_UPDATE"},
    ),
    Names(abi.AsyncCancelFlags, r"IORING_ASYNC_CANCEL_(\w+)"),
    Names(abi.MsgRingCommand, r"IORING_MSG_(?!RING_)(\w+)"),
    Names(abi.MsgRingFlags, r"IORING_MSG_RING_(\w+)"),
    Names(abi.UringCmdFlags, r"IORING_URING_CMD_(?!MASK)(\w+)"),
    Names(
        abi.RegisterOp,
        r"IORING_((?:UN)?REGISTER_(?!LAST|USE_REGISTERED_RING|FILES_SKIP|SRC_|DST_)\w+)",
    ),
    Names(abi.PbufRingFlags, r"IOU_PBUF_RING_(\w+)"),
    Names(abi.RestrictionType, r"IORING_RESTRICTION_(?!LAST)(\w+)"),
    Names(abi.IoctlNr, r"IOMMUFD_CMD_(?!BASE)(\w+)"),
    Names(abi.FaultFlags, r"IOMMU_PGFAULT_FLAGS_(\w+)"),
    Names(abi.FaultPerm, r"IOMMU_PGFAULT_PERM_(\w+)"),
    Names(abi.PageResponse, r"IOMMUFD_PAGE_RESP_(\w+)"),
    Names(
        abi.HwptAllocFlags,
        r"IOMMU_HWPT_ALLOC_(\w+)",
        {"FAULT_ID_VALID": "IOMMU_HWPT_FAULT_ID_VALID"},
    ),
    Names(abi.HwptDataType, r"IOMMU_HWPT_DATA_(\w+)"),
    Names(abi.VtdS1Flags, r"IOMMU_VTD_S1_(\w+)"),
    Names(abi.InvalidateDataType, r"IOMMU_(?:HWPT|VIOMMU)_INVALIDATE_DATA_(\w+)"),
    Names(abi.VtdInvalidateFlags, r"IOMMU_VTD_INV_FLAGS_(\w+)"),
    Names(abi.DirtyTrackingFlags, r"IOMMU_HWPT_DIRTY_TRACKING_(\w+)"),
    Names(abi.DirtyBitmapFlags, r"IOMMU_HWPT_GET_DIRTY_BITMAP_(\w+)"),
    Names(abi.ViommuType, r"IOMMU_VIOMMU_TYPE_(\w+)"),
    Names(abi.VeventqType, r"IOMMU_VEVENTQ_TYPE_(\w+)"),
    Names(abi.VeventFlags, r"IOMMU_VEVENTQ_FLAG_(\w+)"),
    Names(abi.HwQueueType, r"IOMMU_HW_QUEUE_TYPE_(\w+)"),
    Names(abi.HwInfoFlags, r"IOMMU_HW_INFO_FLAG_(\w+)"),
    Names(abi.HwInfoType, r"IOMMU_HW_INFO_TYPE_(\w+)"),
    Names(abi.HwCapabilities, r"IOMMU_HW_CAP_(\w+)"),
    Names(abi.VtdInfoFlags, r"IOMMU_HW_INFO_VTD_(\w+)"),
    Names(abi.IoasMapFlags, r"IOMMU_IOAS_MAP_(?!FILE)(\w+)"),
    Names(abi.OptionId, r"IOMMU_OPTION_(?!OP_)(\w+)"),
    Names(abi.OptionOp, r"IOMMU_OPTION_OP_(\w+)"),
    Names(abi.VfioIoasOp, r"IOMMU_VFIO_IOAS_(\w+)"),
]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names.enum.__name__)
def test_an_enum_has_the_kernels_members_and_values(names: Names) -> None:
    uapi = names.uapi_names()
    members = {name: member.value for name, member in names.enum.__members__.items()}
    new, old = KERNELS[NEW]["constants"], KERNELS[OLD]["constants"]
    assert members == {member: new[name] for member, name in uapi.items()}
    for member, name in uapi.items():
        assert old.get(name, members[member]) == members[member]


def test_every_enum_is_held_to_the_kernels_values() -> None:
    exported = (getattr(abi, name) for name in abi.__all__)
    enums = {thing for thing in exported if isinstance(thing, type)}
    assert enums == {names.enum for names in NAMES}


@pytest.mark.parametrize(
    "name",
    [
        "IOMMUFD_TYPE",
        "IORING_CQE_BUFFER_SHIFT",
        "IORING_FILE_INDEX_ALLOC",
        "IORING_OFF_MMAP_MASK",
        "IORING_OFF_PBUF_SHIFT",
        "IORING_REGISTER_FILES_SKIP",
        "IORING_REGISTER_USE_REGISTERED_RING",
    ],
)
def test_a_single_name_has_the_kernels_value(name: str) -> None:
    assert getattr(abi, name.removeprefix("IORING_")) == KERNELS[NEW]["constants"][name]


@pytest.mark.parametrize("name", ["OP_LAST", "REGISTER_LAST", "URING_CMD_MASK"])
def test_a_changed_name_has_a_value_for_each_version(name: str) -> None:
    assert getattr(abi, name) == {version: kernel["constants"][f"IORING_{name}"] for version, kernel in KERNELS.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_limits_cover_exactly_what_each_version_has(version: str) -> None:
    constants = KERNELS[version]["constants"]
    assert [op for op in abi.Op if op < abi.OP_LAST[version]] == [
        op for op in abi.Op if f"IORING_OP_{op.name}" in constants
    ]
    assert [op for op in abi.RegisterOp if op < abi.REGISTER_LAST[version]] == [
        op for op in abi.RegisterOp if f"IORING_{op.name}" in constants
    ]


@pytest.mark.parametrize("nr", abi.IoctlNr, ids=lambda nr: nr.name)
def test_an_ioctl_number_gives_the_kernels_request(nr: abi.IoctlNr) -> None:
    assert nr.request == KERNELS[NEW]["constants"][f"IOMMU_{nr.name}"]


def test_the_names_load_no_compiled_code() -> None:
    """The directory is imported by itself: what ``uring_iopf`` imports is not its doing."""
    package = Path(abi.__file__).parent.parent
    source = "import sys; sys.path.append(sys.argv[1]); import abi; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-B", "-I", "-c", source, str(package)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "abi.iommufd" in loaded
    assert not [name for name in loaded if "cffi" in name or "_core" in name]


# ---- the records, packed in Python ----


@pytest.mark.parametrize(
    ("struct", "fields", "size"),
    [
        ("iommu_hwpt_pgfault", records.MESSAGE_FIELDS, records.MESSAGE_BYTES),
        ("iommu_hwpt_page_response", records.RESPONSE_FIELDS, records.RESPONSE_BYTES),
    ],
)
def test_a_record_is_packed_as_c_has_it(struct: str, fields: tuple[tuple[str, str], ...], size: int) -> None:
    in_c = ffi.typeof(f"struct {struct}").fields
    assert [name for name, _ in fields] == [name for name, _ in in_c]
    assert [calcsize("<" + code) for _, code in fields] == [ffi.sizeof(field.type) for _, field in in_c]
    assert size == ffi.sizeof(f"struct {struct}")


def test_records_are_unpacked_as_c_fills_them_in() -> None:
    one = ffi.new("struct iommu_hwpt_pgfault *")
    message = records.FaultMessage(1, 2, 3, 4, 5, 2**64 - 6, 7, 8)
    for name, value in message._asdict().items():
        setattr(one, name, value)
    data = bytes(ffi.buffer(one))
    assert records.pack_message(message) == data
    assert records.unpack_messages(data * 2) == [message] * 2
    answer = ffi.new("struct iommu_hwpt_page_response *", {"cookie": 9, "code": 2**32 - 1})
    assert records.pack_response(9, 2**32 - 1) == bytes(ffi.buffer(answer))
    assert records.unpack_responses(records.pack_responses([(1, 0), (2, 1)])) == [(1, 0), (2, 1)]
