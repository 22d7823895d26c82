"""Make a trace of recorded page faults: from what perf or bpftrace printed (standard input) to CSV (standard output).

Each process becomes an address space, each of its threads a thread, both numbered as they first occur. Other lines are
left out, and counted on standard error; so are faults on addresses that are not user space's.
"""

import re
import sys

PERF = re.compile(
    r"\s*(?P<pid>\d+)/(?P<tid>\d+)\s+(?P<time>\d+\.\d{9}): exceptions:page_fault_user: "
    r"address=(?P<address>0x[0-9a-f]+) ip=.* error_code=(?P<error>0x[0-9a-f]+)\s*"
)
BPFTRACE = re.compile(r"(?P<time>\d+) (?P<pid>\d+) (?P<tid>\d+) (?P<address>0x[0-9a-f]+) (?P<error>0x[0-9a-f]+)\s*")

faults = []
left_out = 0
for line in sys.stdin:
    if found := PERF.fullmatch(line) or BPFTRACE.fullmatch(line):
        time, address, error = found["time"].replace(".", ""), found["address"], found["error"]
        faults.append((int(time), found["pid"], found["tid"], int(address, 16), int(error, 16)))
    else:
        left_out += 1
if not faults:
    sys.exit(f"none of {left_out} lines is a page fault; record and print it with the options of how-to/own-trace.md")
faults.sort(key=lambda fault: fault[0])  # bpftrace has a buffer for each processor, and empties one after the other

print("time_ns,pasid,thread,address,access")
spaces: dict[str, dict[str, int]] = {}
for when, pid, tid, page, code in faults:
    if page >= 1 << 47:
        left_out += 1
    else:
        threads = spaces.setdefault(pid, {})
        thread = threads.setdefault(tid, len(threads))
        pasid = 1 + list(spaces).index(pid)
        access = "x" if code & 0x10 else "w" if code & 0x2 else "r"  # bits of an x86 page fault's error code
        print(f"{when - faults[0][0]},{pasid},{thread},{page & ~0xFFF:#x},{access}")
if left_out:
    print(f"{left_out} other lines were left out", file=sys.stderr)
