#!/usr/bin/env python3
"""Lists the processes with the largest proportional set size, from /proc/<pid>/smaps_rollup."""

import os
import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import Deadline, finish, human, main, parameters, read, table  # noqa: E402

LINE = re.compile(rb"^(Pss|Private_Clean|Private_Dirty|Shared_Clean|Shared_Dirty|SwapPss|Swap): +([0-9]+) kB$", re.MULTILINE)


def action():
    given, deadline = parameters(), Deadline(50.0)
    found, total, unreadable, count, complete = [], 0, 0, 0, True
    for pid in proc.pids():
        if deadline.passed():
            complete = False
            break
        if not proc.status_kib(pid, b"VmSize"):
            continue  # A thread of the kernel or a zombie has no memory.
        count += 1
        process = proc.stat(pid)
        text = rollup(pid)
        if process is None or text is None:
            unreadable += 1
            continue
        sizes = {}
        for key, value in LINE.findall(text):
            sizes[key] = sizes.get(key, 0) + int(value) * 1024
        pss = sizes.get(b"Pss", 0)
        total += pss
        if pss or sizes.get(b"Swap", 0):
            found.append((pss + sizes.get(b"SwapPss", 0), pid, process, sizes))
    found.sort(key=lambda entry: (-entry[0], entry[1]))
    hogs = [row(pid, process, sizes) for _, pid, process, sizes in found[: given["top"]]]
    result = {"processes": count, "complete": complete, "not_readable": unreadable, "pss_bytes": total, "hogs": hogs}
    print("%d processes use %s together; %d could not be read" % (count, human(total), unreadable))
    rows = [(h["pid"], human(h["pss_bytes"]), human(h["private_bytes"]), human(h["swap_bytes"]), human(h["peak_bytes"]), h["oom_score"], h["name"], h["cgroup"]) for h in hogs]
    table(rows, ("PID", "PSS", "PRIVATE", "SWAP", "PEAK", "OOM", "NAME", "CGROUP"), right=(0, 1, 2, 3, 4, 5))
    if not complete:
        print("  INCOMPLETE: the deadline was reached")
    finish(result)


def rollup(pid):
    """Returns the sums of a process; kernels before 4.14 have smaps only, which is larger."""
    path = "/proc/%d/smaps_rollup" % pid
    return read(path if os.path.exists(path) else "/proc/%d/smaps" % pid, 8 << 20)


def row(pid, process, sizes):
    score = (read("/proc/%d/oom_score" % pid, 32) or b"0").strip()
    return {
        "pid": pid,
        "started": process["started"],
        "name": process["name"],
        "uid": proc.uid(pid),
        "pss_bytes": sizes.get(b"Pss", 0),
        "private_bytes": sizes.get(b"Private_Clean", 0) + sizes.get(b"Private_Dirty", 0),
        "shared_bytes": sizes.get(b"Shared_Clean", 0) + sizes.get(b"Shared_Dirty", 0),
        "swap_bytes": sizes.get(b"Swap", 0),
        "peak_bytes": proc.status_kib(pid, b"VmHWM"),
        "oom_score": int(score) if score.isdigit() else 0,
        "cgroup": proc.cgroup(pid),
    }


main(action)
