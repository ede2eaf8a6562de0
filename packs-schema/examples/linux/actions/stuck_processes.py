#!/usr/bin/env python3
"""Lists processes in state D in two samples, and the parents of zombies."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, main, parameters, read, table  # noqa: E402


def action():
    given = parameters()
    first = {(pid, p["started"]) for pid, p in sample() if p["state"] == "D"}
    time.sleep(min(given["seconds"], Deadline(45.0).left()))
    waiting, parents, zombies = [], {}, 0
    for pid, process in sample():
        if process["state"] == "D" and (pid, process["started"]) in first:
            where = clean((read("/proc/%d/wchan" % pid, 128) or b"").strip(), 60)
            waiting.append({
                "pid": pid, "started": process["started"], "name": process["name"], "ppid": process["ppid"],
                "waits_in": "" if where == "0" else where, "cgroup": proc.cgroup(pid),
            })  # fmt: skip
        elif process["state"] == "Z":
            zombies += 1
            entry = parents.setdefault(process["ppid"], [0, process["name"]])
            entry[0] += 1
    rows = []
    for pid, (count, example) in sorted(parents.items(), key=lambda entry: (-entry[1][0], entry[0]))[: given["top"]]:
        parent = proc.stat(pid) or {"started": 0, "name": "?"}
        rows.append({"pid": pid, "started": parent["started"], "name": parent["name"], "zombies": count, "example": example})
    result = {"waiting_count": len(waiting), "zombie_count": zombies, "waiting": waiting[: given["top"]], "parents": rows}
    print("in state D: %d; zombies: %d" % (len(waiting), zombies))
    if waiting:
        table([(w["pid"], w["waits_in"] or "?", w["name"], w["cgroup"]) for w in result["waiting"]], ("PID", "WAITS IN", "NAME", "CGROUP"), right=(0,))
    if rows:
        table([(r["pid"], r["zombies"], r["name"], r["example"]) for r in rows], ("PARENT", "ZOMBIES", "NAME", "EXAMPLE"), right=(0, 1))
    finish(result)


def sample():
    for pid in proc.pids():
        process = proc.stat(pid)
        if process is not None:
            yield pid, process


main(action)
