#!/usr/bin/env python3
"""Lists containers, and what is wrong with them."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import daemon  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, counted, finish, main, parameters, table, utc  # noqa: E402

MAX_INSPECTED = 500
# A container that ends again and again runs for a while between two restarts.
LOOP_SECONDS = 600


def action():
    given, deadline = parameters(), Deadline(160.0)
    found, states = daemon.containers(), {}
    for c in found:
        state = clean(c.get("State") or "?", 20)
        states[state] = states.get(state, 0) + 1
    rows, complete = [], len(found) <= MAX_INSPECTED
    for c in found[:MAX_INSPECTED]:
        if deadline.passed():
            complete = False
            break
        try:
            # The daemon may answer all questions but those about a container that hangs.
            rows.append(row(daemon.inspect(c.get("Id") or "?", min(10.0, deadline.left())), time.time() - 3600 * given["since_hours"]))
        except Stop as stop:
            if stop.status == WRONG:
                continue  # Removed meanwhile.
            if stop.status > 128:  # SIGTERM
                raise
            rows.append(unknown(c, stop))
    rows.sort(key=lambda r: (not r["problem"], r["name"]))
    bad = [r for r in rows if r["problem"]]
    result = {"complete": complete, "states": states, "problems": len(bad), "containers": (bad if given["only_problems"] else rows)[: given["top"]]}
    print("%s (%s), %d with a problem%s" % (
        counted(len(found), "container"), ", ".join("%d %s" % (n, s) for s, n in sorted(states.items())) or "none", len(bad), "" if complete else "; INCOMPLETE: not all were looked at",
    ))  # fmt: skip
    if result["containers"]:
        table(
            [(r["name"], r["id"], r["state"] + (" (%s)" % r["health"] if r["health"] else ""), r["exit_code"], r["restarts"], r["finished"] or r["started"] or "-", r["image"], r["problem"] or "-") for r in result["containers"]],
            ("NAME", "ID", "STATE", "EXIT", "RESTARTS", "SINCE", "IMAGE", "PROBLEM"), right=(3, 4),
        )  # fmt: skip
    finish(result)
    return FAILED if given["fail"] and bad else None


def row(found, since):
    state = found.get("State") or {}
    started, finished = daemon.moment(state.get("StartedAt")), daemon.moment(state.get("FinishedAt"))
    running = bool(state.get("Running"))
    entry = {
        "name": clean((found.get("Name") or "?").lstrip("/"), 100),
        "id": clean((found.get("Id") or "?")[:12]),
        "image": clean((found.get("Config") or {}).get("Image") or "?", 200),
        "state": clean(state.get("Status") or "?", 20),
        "exit_code": int(state.get("ExitCode") or 0),
        "oom_killed": bool(state.get("OOMKilled")),
        "restarts": int(found.get("RestartCount") or 0),
        "health": clean((state.get("Health") or {}).get("Status") or "", 20),
        "started": utc(started) if started else "",
        "finished": utc(finished) if finished and not running else "",
    }
    if entry["health"] == "none":
        entry["health"] = ""
    made = daemon.moment(found.get("Created"))
    entry["problem"] = problem(entry, state, (made if entry["state"] == "created" else finished) >= since, started)
    return entry


def unknown(found, stop):
    """Returns the row of a container that the daemon lists but tells nothing of, as of one that hangs."""
    return {
        "name": daemon.name(found), "id": clean((found.get("Id") or "?")[:12]), "image": clean(found.get("Image") or "?", 200),
        "state": clean(found.get("State") or "?", 20), "exit_code": 0, "oom_killed": False, "restarts": 0, "health": "", "started": "", "finished": "",
        "problem": "cannot be inspected: %s" % clean(str(stop), 200),
    }  # fmt: skip


def problem(entry, state, recent, started):
    if entry["state"] in ("dead", "removing"):
        return "is %s" % entry["state"]
    if entry["state"] == "restarting":
        return "restarts again and again (%d times), last exit code %d" % (entry["restarts"], entry["exit_code"])
    if entry["restarts"] and entry["state"] == "running" and 0 <= time.time() - started < LOOP_SECONDS:
        return "restarted %d times by the daemon, the last time %d s ago" % (entry["restarts"], time.time() - started)
    if entry["state"] == "created" and recent and state.get("Error"):
        return "could not be started: %s" % clean(state["Error"], 100)
    if entry["health"] == "unhealthy":
        return "unhealthy"
    if entry["state"] == "exited" and recent:
        if entry["oom_killed"]:
            return "ended for lack of memory"
        # 137 and 143: ended by docker stop.
        if entry["exit_code"] not in (0, 137, 143):
            return "failed%s" % (": " + clean(state.get("Error"), 100) if state.get("Error") else "")
    return ""


main(action)
