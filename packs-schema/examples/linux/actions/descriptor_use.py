#!/usr/bin/env python3
"""Lists the processes closest to their limit of open files."""

import os
import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import Deadline, finish, main, parameters, read, table  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(50.0)
    found, unreadable, complete = [], 0, True
    for pid in proc.pids():
        if deadline.passed():
            complete = False
            break
        try:
            count = len(os.listdir("/proc/%d/fd" % pid))
        except OSError:
            unreadable += 1
            continue
        process = proc.stat(pid)
        if process is not None and count:
            limit = soft_limit(pid)
            found.append((100 * count // limit if limit > 0 else 0, count, pid, process, limit))
    found.sort(key=lambda entry: (-entry[0], -entry[1], entry[2]))
    rows = [
        {"pid": pid, "started": process["started"], "name": process["name"], "open": count, "limit": limit, "percent": percent, "kinds": kinds(pid)}
        for percent, count, pid, process, limit in found[: given["top"]]
    ]
    system = (read("/proc/sys/fs/file-nr", 128) or b"0 0 0").split()
    result = {
        "system_open": int(system[0]), "system_limit": min(int(system[2]), (1 << 63) - 1),
        "complete": complete, "not_readable": unreadable, "processes": rows,
    }  # fmt: skip
    print("%d of %d open files on the host; %d processes could not be read" % (result["system_open"], result["system_limit"], unreadable))
    table(
        [(r["pid"], r["open"], r["limit"], "%d%%" % r["percent"], r["name"], ", ".join("%d %s" % (n, k) for k, n in sorted(r["kinds"].items()))) for r in rows],
        ("PID", "OPEN", "LIMIT", "USED", "NAME", "KINDS"), right=(0, 1, 2, 3),
    )  # fmt: skip
    if not complete:
        print("  INCOMPLETE: the deadline was reached")
    finish(result)


def soft_limit(pid):
    match = re.search(rb"^Max open files +([0-9]+|unlimited)", read("/proc/%d/limits" % pid, 4096) or b"", re.MULTILINE)
    return int(match.group(1)) if match and match.group(1) != b"unlimited" else -1


def kinds(pid):
    counts = {}
    for _, target in proc.descriptors(pid) or ():
        kind = {b"socket": "sockets", b"pipe": "pipes", b"anon_inode": "anonymous"}.get(target.partition(b":")[0], "files")
        counts[kind] = counts.get(kind, 0) + 1
    return counts


main(action)
