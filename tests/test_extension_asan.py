"""The Python extension itself, linked with the address sanitizer's library and used once from Python.

The C programs cover the library; this covers what is between: cffi's generated code.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from typing import Final

from tests.compiled import CDEFS, FLAGS, SANITIZERS, gcc, library_objects
from uring_iopf._native import source_hash

ROOT: Final = Path(__file__).resolve().parent.parent

SCRIPT: Final = textwrap.dedent(
    """
    import sys
    import uring_iopf
    from uring_iopf import _native
    from uring_iopf._core import ffi, lib
    from uring_iopf.core import Core

    assert uring_iopf.__file__.startswith(sys.argv[1]), uring_iopf.__file__
    with Core() as core:
        vtd = lib.uiopf_model_make(core.c, 0, 1)
        endpoint = lib.uiopf_endpoint_new(core.c, lib.uiopf_model_port(vtd), 0x100, 64, 4)
        device = lib.uiopf_device_new(core.c, lib.uiopf_model_iommu(vtd), 1, 0x100, 64, 0)
        space = lib.uiopf_space_new(8, 128)
        assert lib.uiopf_model_bind(vtd, endpoint, device) == 0
        lib.uiopf_endpoint_set_tables(endpoint, space)
        assert lib.uiopf_endpoint_enable_pri(endpoint, 32) == 0  # no design has room for fewer faults
        rows = ffi.new("struct uiopf_access[]", [(0, 0x1000000 + 4096 * i, i // 8 % 8, 3) for i in range(2000)])
        assert lib.uiopf_endpoint_set_rows(endpoint, rows, len(rows)) == 0
        designs = [n for n in range(100) if (info := lib.uiopf_design_info(n)) and info.has_client]
        assert designs
        passes = 0
        for design in designs:
            queue = lib.uiopf_faultq_new(core.c, lib.uiopf_design_info(design).personality)
            assert lib.uiopf_attach(device, lib.UIOPF_NO_PASID, queue, lib.UIOPF_USER_MANAGED) == 0
            config = ffi.new("struct uiopf_channel_config *", {"in_flight": 64, "group_most": 4})
            out = ffi.new("struct uiopf_channel **")
            opened = lib.uiopf_channel_open(core.c, queue, design, config, ffi.NULL, out)
            assert opened == 0 or lib.uiopf_design_info(design).on_host
            if opened < 0:  # the host has no io_uring
                lib.uiopf_detach(device, lib.UIOPF_NO_PASID)
                assert lib.uiopf_faultq_free(queue) == 0
                continue
            passes += 1
            assert lib.uiopf_channel_watch(out[0]) == 0
            load = ffi.new("struct uiopf_load *", {"in_flight": 16, "group": 4})
            lib.uiopf_space_reset(space)
            assert lib.uiopf_endpoint_start(endpoint, load) == 0
            served = ffi.new("struct uiopf_served *")
            assert lib.uiopf_client_serve(out[0], space, len(rows), 10**10, served) == 0
            assert served.faults == len(rows)
            while lib.uiopf_endpoint_passes(endpoint) < passes:
                assert core.produce() + core.consume()
            waypoints = ffi.new("struct uiopf_waypoints *")
            lib.uiopf_channel_get_waypoints(out[0], waypoints)
            assert waypoints.accepted.groups == waypoints.queued.groups > 0
            lib.uiopf_channel_close(out[0])
            lib.uiopf_detach(device, lib.UIOPF_NO_PASID)
            assert lib.uiopf_faultq_free(queue) == 0
        counts = ffi.new("struct uiopf_endpoint_counts *")
        lib.uiopf_endpoint_get_counts(endpoint, counts)
        assert counts.succeeded == counts.sent == len(rows) * passes
        lib.uiopf_model_unbind(vtd, device)
        lib.uiopf_endpoint_free(endpoint)
        lib.uiopf_device_free(device)
        lib.uiopf_model_free(vtd)
        lib.uiopf_space_free(space)
    # The sanitizer is there, and awake: one byte behind what was allocated.
    print("served", flush=True)
    if len(sys.argv) > 2:
        one = ffi.new("struct uiopf_access[1]", [(0, 0, 0, 1)])
        with Core() as core:
            vtd = lib.uiopf_model_make(core.c, 0, 1)
            endpoint = lib.uiopf_endpoint_new(core.c, lib.uiopf_model_port(vtd), 0x100, 64, 4)
            lib.uiopf_endpoint_set_rows(endpoint, one, 2)
    """
)


def test_the_extension_under_the_address_sanitizer(tmp_path: Path, build_directory: Path) -> None:
    shutil.copytree(ROOT / "uring_iopf", tmp_path / "uring_iopf", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    generated = tmp_path / "_core.c"
    emit = "import runpy, sys; runpy.run_path(sys.argv[1])['ffibuilder'].emit_c_code(sys.argv[2])"
    subprocess.run([sys.executable, "-c", emit, str(CDEFS / "build.py"), str(generated)], check=True)
    extension = tmp_path / "uring_iopf" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    gcc(
        *(flag for flag in FLAGS if flag != "-Wextra"),  # of cffi's own code
        *SANITIZERS["address+undefined"],
        "-shared",
        "-fPIC",
        f"-I{sysconfig.get_path('include')}",
        f'-DUIOPF_SOURCE_HASH="{source_hash()}"',
        generated,
        *library_objects(build_directory, "address+undefined"),
        *("-o", extension, "-pthread", "-lm"),
    )

    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        # Python's own allocator would hide what is beyond the end of an object.
        "PYTHONMALLOC": "malloc",
    }
    for arguments, caught in ([], False), (["wrong"], True):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert run.stdout == "served\n", run.stderr[-8000:]
        assert ("heap-buffer-overflow" in run.stderr) == caught, run.stderr[-8000:]
        assert (run.returncode != 0) == caught, run.stderr[-8000:]
