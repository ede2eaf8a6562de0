#!/usr/bin/env python3
"""Lists processes with threads in state D in two samples, and the parents of zombies."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, main, parameters, read, table  # noqa: E402


def action():
    given = parameters()
    first = {(pid, process["started"], tid) for pid, process, threads in sample() for tid in threads}
    time.sleep(min(given["seconds"], Deadline(45.0).left()))
    waiting, parents, zombies = [], {}, 0
    for pid, process, threads in sample():
        threads = [tid for tid in threads if (pid, process["started"], tid) in first]
        if threads:
            where = clean((read("/proc/%d/task/%d/wchan" % (pid, threads[0]), 128) or b"").strip(), 60)
            waiting.append({
                "pid": pid, "started": process["started"], "name": process["name"], "ppid": process["ppid"],
                "threads": len(threads), "waits_in": "" if where == "0" else where, "cgroup": proc.cgroup(pid),
            })  # fmt: skip
        elif proc.ended(pid, process):
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
        table(
            [(w["pid"], w["threads"], w["waits_in"] or "?", w["name"], w["cgroup"]) for w in result["waiting"]],
            ("PID", "THREADS", "WAITS IN", "NAME", "CGROUP"), right=(0, 1),
        )  # fmt: skip
    if rows:
        table([(r["pid"], r["zombies"], r["name"], r["example"]) for r in rows], ("PARENT", "ZOMBIES", "NAME", "EXAMPLE"), right=(0, 1))
    finish(result)


def sample():
    """Yields pid, process and the ids of its threads in state D; in a pool of threads it is hardly ever the first one."""
    for pid in proc.pids():
        process = proc.stat(pid)
        if process is not None:
            yield pid, process, sorted(tid for tid, state in proc.thread_states(pid).items() if state == b"D")


main(action)
