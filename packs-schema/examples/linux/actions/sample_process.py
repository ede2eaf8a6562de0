#!/usr/bin/env python3
"""Samples one process for a bounded time: from /proc, with strace -c, or with perf."""

import os
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc, tool  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, finish, main, parameters, read, table  # noqa: E402

MAX_THREADS, MAX_LINES, INTERVAL = 2000, 60, 0.05


def action():
    given, deadline = parameters(), Deadline(100.0)
    pid, seconds = given["pid"], min(given["seconds"], int(max(deadline.left() - 5, 1)))
    process = proc.require(pid, given.get("started"))
    result = {"pid": pid, "started": process["started"], "name": process["name"], "method": given["method"], "seconds": float(seconds)}
    print("%s (pid %d), %s for %d s" % (process["name"], pid, given["method"], seconds))
    if given["method"] == "kernel":
        result["threads"] = kernel(pid, process["started"], seconds)
    else:
        result["report"] = strace(pid, seconds) if given["method"] == "strace" else perf(pid, seconds)
        for line in result["report"]:
            print("  " + line)
    after = proc.stat(pid)
    if after is not None and given["method"] != "kernel":
        proc.require(pid, process["started"])  # strace and perf may have observed another process with this pid.
    result["ended"] = after is None or after["started"] != process["started"] or proc.ended(pid, after)
    if result["ended"]:
        print("  the process ended while it was sampled")
    finish(result)


def kernel(pid, started, seconds):
    threads, end = {}, time.monotonic() + seconds
    while time.monotonic() < end:
        process = proc.stat(pid)
        try:
            tids = sorted(os.listdir("/proc/%d/task" % pid), key=int)[:MAX_THREADS]
        except OSError:
            tids = []
        if process is None or process["started"] != started or not tids:
            if not threads:
                raise Stop(WRONG, "the process ended before it could be sampled")
            break
        for tid in tids:
            base = "/proc/%d/task/%s/" % (pid, tid)
            text = (read(base + "stat", 4096) or b"").rpartition(b")")[2].split()
            if not text:
                continue
            name = clean((read(base + "comm", 64) or b"?").strip(), 32)
            row = threads.setdefault(int(tid), {"tid": int(tid), "name": name, "samples": 0, "states": {}, "waits_in": {}, "system_calls": {}})
            row["samples"] += 1
            count(row["states"], clean(text[0], 4))
            where = clean((read(base + "wchan", 128) or b"").strip(), 60)
            if where not in ("", "0"):
                count(row["waits_in"], where)
            call = (read(base + "syscall", 256) or b"").split()
            if call:
                count(row["system_calls"], clean(call[0], 20))
        time.sleep(INTERVAL)
    rows = sorted(threads.values(), key=lambda r: (-sum(n for s, n in r["states"].items() if s != "S"), r["tid"]))[:50]
    most = lambda pairs: ", ".join("%s %d" % (k, n) for k, n in sorted(pairs.items(), key=lambda p: -p[1])[:3]) or "-"  # noqa: E731
    table(
        [(r["tid"], r["samples"], most(r["states"]), most(r["waits_in"]), most(r["system_calls"]), r["name"]) for r in rows],
        ("THREAD", "SAMPLES", "STATES", "WAITS IN", "SYSTEM CALLS", "NAME"), right=(0, 1),
    )  # fmt: skip
    return rows


def count(pairs, key):
    if key in pairs or len(pairs) < 20:
        pairs[key] = pairs.get(key, 0) + 1


def strace(pid, seconds):
    """Counts system calls; SIGINT makes strace detach and print the summary on standard error."""
    tool.find("strace", "install it, or use method=kernel")
    tool.find("timeout")
    arguments = ["timeout", "--signal=INT", "--kill-after=5", str(seconds), "strace", "-c", "-f", "-q", "-p", str(pid)]
    status, _, err = tool.run(arguments, seconds + 10, accept=None)
    if status not in (0, 124, 130):
        raise Stop(FAILED, "strace cannot observe the process: %s" % tool.last(err))
    return lines(err) or ["no system calls"]


def perf(pid, seconds):
    tool.find("perf", "install it, or use method=kernel")
    with temporary() as directory:
        data = os.path.join(directory, "perf.data")
        tool.run(["perf", "record", "-q", "-F", "49", "-e", "cpu-clock", "-o", data, "-p", str(pid), "--", "sleep", str(seconds)], seconds + 20)
        _, out, _ = tool.run(["perf", "report", "--stdio", "--no-children", "--percent-limit", "0.5", "-i", data], 40)
    return [line for line in lines(out, 400) if not line.startswith("#")][:MAX_LINES]


def temporary():
    try:
        return tempfile.TemporaryDirectory()
    except OSError as error:
        raise Stop(FAILED, "there is no place for the samples: %s; use method=kernel" % error.strerror)


def lines(text, limit=MAX_LINES):
    shown = [clean(line.rstrip(), 200) for line in text.splitlines() if line.strip()]
    return shown[:limit]


main(action)
