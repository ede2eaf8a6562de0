#!/usr/bin/env python3
"""Measures input and output of block devices (/proc/diskstats) and processes (/proc/<pid>/io) in a short sample."""

import re
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, human, main, parameters, read, table  # noqa: E402

SECTOR = 512  # Documentation/admin-guide/iostats.rst: always, whatever the device's sector size.
COUNTER = re.compile(rb"^(read_bytes|write_bytes|cancelled_write_bytes): ([0-9]+)$", re.MULTILINE)


def action():
    given = parameters()
    disks, (processes, _), began = devices(), sample(), time.monotonic()
    time.sleep(min(given["seconds"], Deadline(45.0).left()))
    elapsed = time.monotonic() - began
    after, (later, unreadable) = devices(), sample()
    rows = [device(name, disks.get(name), values, elapsed) for name, values in after.items()]
    rows = sorted((r for r in rows if r), key=lambda r: (-r["busy_percent"], -(r["read_bytes"] + r["written_bytes"]), r["device"]))
    busiest = []
    for (pid, started), values in later.items():
        before = processes.get((pid, started), (0, 0))  # All of a new process counts.
        got, put = max(values[0] - before[0], 0), max(values[1] - before[1], 0)
        if got or put:
            busiest.append((got + put, pid, started, got, put))
    busiest.sort(key=lambda entry: (-entry[0], entry[1]))
    shown = [
        {"pid": pid, "started": started, "name": proc.name(pid), "read_bytes": got, "written_bytes": put, "cgroup": proc.cgroup(pid)}
        for _, pid, started, got, put in busiest[: given["top"]]
    ]
    result = {"seconds": round(elapsed, 3), "not_readable": unreadable, "devices": rows[: given["top"]], "processes": shown}
    print("Devices over %.1f s" % elapsed)
    table(
        [(r["device"], r["reads"], r["writes"], human(r["read_bytes"]), human(r["written_bytes"]), "%.1f" % r["wait_ms"], "%.0f%%" % r["busy_percent"]) for r in result["devices"]],
        ("DEVICE", "READS", "WRITES", "READ", "WRITTEN", "WAIT MS", "BUSY"), right=(1, 2, 3, 4, 5, 6),
    )  # fmt: skip
    print("\nProcesses (%d could not be read)" % unreadable)
    table(
        [(r["pid"], human(r["read_bytes"]), human(r["written_bytes"]), r["name"], r["cgroup"]) for r in shown],
        ("PID", "READ", "WRITTEN", "NAME", "CGROUP"), right=(0, 1, 2),
    )  # fmt: skip
    finish(result)


def devices():
    """Returns the counters of block devices that were ever used, without loop and RAM devices."""
    found = {}
    for line in (read("/proc/diskstats") or b"").splitlines():
        fields = line.split()
        if len(fields) < 14 or fields[2].startswith((b"loop", b"ram")):
            continue
        values = [int(value) for value in fields[3:14] if value.isdigit()]
        if len(values) == 11 and any(values):
            found[clean(fields[2], 40)] = values
    return found


def device(name, before, after, elapsed):
    if before is None:
        return None
    d = [max(b - a, 0) for a, b in zip(before, after)]
    operations = d[0] + d[4]
    return {
        "device": name,
        "reads": d[0],
        "writes": d[4],
        "read_bytes": d[2] * SECTOR,
        "written_bytes": d[6] * SECTOR,
        "wait_ms": round((d[3] + d[7]) / operations, 2) if operations else 0.0,
        "busy_percent": round(min(d[9] / (10.0 * elapsed), 100.0), 1),
        "in_flight": after[8],
    }


def sample():
    """Returns bytes read and written by pid and start time, and the number of processes that cannot be read."""
    found, unreadable = {}, 0
    for pid in proc.pids():
        process, text = proc.stat(pid), read("/proc/%d/io" % pid, 1024)
        if process is None or not text:
            unreadable += 1
            continue
        counters = {key: int(value) for key, value in COUNTER.findall(text)}
        written = counters.get(b"write_bytes", 0) - counters.get(b"cancelled_write_bytes", 0)
        found[(pid, process["started"])] = (counters.get(b"read_bytes", 0), max(written, 0))
    return found, unreadable


main(action)
