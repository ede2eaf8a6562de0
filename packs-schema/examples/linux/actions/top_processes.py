#!/usr/bin/env python3
"""Shows the processes with most processor time in a short sample, and those with most memory, with their cgroups."""

import os
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, human, main, parameters, read, table  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def action():
    given = parameters()
    top, arguments = given["top"], given["arguments"]
    before, began = sample(), time.monotonic()
    time.sleep(min(given["seconds"], Deadline(60.0).left()))
    after, elapsed = sample(), time.monotonic() - began
    busiest = sorted(after, key=lambda pid: (-ticks(before, after, pid), pid))
    busiest = [pid for pid in busiest[:top] if ticks(before, after, pid) > 0]
    largest = sorted(after, key=lambda pid: (-after[pid]["rss_pages"], pid))[:top]
    by_cpu = [row(pid, after[pid], ticks(before, after, pid) / TICKS / elapsed, arguments) for pid in busiest]
    by_memory = [row(pid, after[pid], ticks(before, after, pid) / TICKS / elapsed, arguments) for pid in largest]
    states = {}
    for process in after.values():
        states[process["state"]] = states.get(process["state"], 0) + 1
    load = (read("/proc/loadavg", 128) or b"").split()[:3]
    result = {
        "seconds": round(elapsed, 3),
        "processors": os.cpu_count() or 1,
        "load": [float(value) for value in load],
        "processes": len(after),
        "states": states,
        "by_cpu": by_cpu,
        "by_memory": by_memory,
    }
    show(result)
    finish(result)


def sample():
    found = {}
    for pid in proc.pids():
        process = proc.stat(pid)
        if process is not None:
            found[pid] = process
    return found


def ticks(before, after, pid):
    """Returns processor time between the samples. For a reused pid, all time of the new process counts."""
    old = before.get(pid)
    same = old is not None and old["started"] == after[pid]["started"]
    return max(after[pid]["ticks"] - (old["ticks"] if same else 0), 0)


def row(pid, process, share, arguments):
    shown = {
        "pid": pid,
        "ppid": process["ppid"],
        "started": process["started"],
        "name": process["name"],
        "state": process["state"],
        "cpu_percent": round(100.0 * share, 1),
        "rss_bytes": process["rss_pages"] * PAGE,
        "swap_bytes": proc.status_kib(pid, b"VmSwap"),
        "cgroup": proc.cgroup(pid),
    }
    if arguments:
        shown["arguments"] = clean((read("/proc/%d/cmdline" % pid, 4096) or b"").rstrip(b"\0").replace(b"\0", b" "), 300)
    return shown


def show(result):
    load = " ".join("%.2f" % value for value in result["load"])
    states = ", ".join("%d %s" % (count, state) for state, count in sorted(result["states"].items()))
    print("%d processes (%s), %d processors, load %s" % (result["processes"], states, result["processors"], load))
    for title, key in (("processor time over %.1f s (100%% is one processor)" % result["seconds"], "by_cpu"), ("resident memory", "by_memory")):
        print("\nBy %s" % title)
        rows = [
            (r["pid"], "%.1f%%" % r["cpu_percent"], human(r["rss_bytes"]), human(r["swap_bytes"]), r["state"], r["name"], r["cgroup"])
            + ((r["arguments"],) if "arguments" in r else ())
            for r in result[key]
        ]
        heads = ("PID", "CPU", "RESIDENT", "SWAP", "STATE", "NAME", "CGROUP", "ARGUMENTS")
        table(rows, heads[: len(rows[0])] if rows else heads[:7], right=(0, 1, 2, 3))


main(action)
