#!/usr/bin/env python3
"""Takes thread dumps of a Java process and summarizes them."""

import io
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import processes, threads  # noqa: E402
from lib.bolt_action import clean, finish, main, parameters, table  # noqa: E402


def action():
    given = parameters()
    jvm, row = processes.select(given)
    first, at = None, time.monotonic()
    if given["seconds"]:
        first = {(t["name"], t["tid"]): t["cpu"] for t in threads.parse(jvm.ask("threaddump", "-l"))}
        time.sleep(given["seconds"])
    elapsed = time.monotonic() - at
    text = jvm.ask("threaddump", "-l")
    found = threads.parse(text)
    states = {}
    for thread in found:
        if thread["state"]:
            states[thread["state"]] = states.get(thread["state"], 0) + 1
    result = {
        "pid": row["pid"],
        "started": row["started"],
        "main": row["main"],
        "threads": len(found),
        "states": states,
        "deadlock": threads.deadlock(text),
        "locks": locks(found)[: given["top"]],
        "busiest": busiest(first, found, elapsed, given)[: given["top"]] if first else [],
        "stacks": stacks(found, given["frames"])[: given["top"]],
    }
    show(result)
    if given["full"]:
        print("\nThread dump")
        for line in io.BytesIO(text):
            print(clean(line.rstrip(b"\n").replace(b"\t", b"    "), 1000))
    finish(result)


def locks(found):
    owners, waiting = {}, {}
    for thread in found:
        for lock in thread["holds"]:
            owners.setdefault(lock, thread["name"])
        if thread["waits"]:
            waiting.setdefault(thread["waits"], []).append(thread["name"])
    rows = [{"lock": lock, "class": name, "waiting": len(names), "owner": owners.get(lock, "")} for (lock, name), names in waiting.items()]
    # Idle threads of a pool wait for a condition without an owner; those behind an owner matter first.
    return sorted(rows, key=lambda r: (not r["owner"], -r["waiting"], r["lock"]))


def busiest(before, second, elapsed, given):
    rows = []
    for thread in second:
        start = before.get((thread["name"], thread["tid"]))
        if thread["cpu"] is None or start is None or thread["cpu"] <= start:
            continue
        percent = round((thread["cpu"] - start) / (10.0 * elapsed), 1)
        if percent > 0:
            rows.append({"name": thread["name"], "tid": thread["tid"], "percent": percent, "stack": thread["frames"][: given["frames"]]})
    return sorted(rows, key=lambda r: (-r["percent"], r["name"]))


def stacks(found, frames):
    groups = {}
    for thread in found:
        if thread["frames"]:
            key = (thread["state"], tuple(thread["frames"][:frames]))
            group = groups.setdefault(key, {"threads": 0, "state": key[0], "example": thread["name"], "stack": list(key[1])})
            group["threads"] += 1
    return sorted(groups.values(), key=lambda g: (-g["threads"], g["example"]))


def show(result):
    states = ", ".join("%d %s" % (n, s) for s, n in sorted(result["states"].items(), key=lambda p: -p[1]))
    print("%s (pid %d): %d threads (%s)%s" % (result["main"], result["pid"], result["threads"], states, "; DEADLOCK" if result["deadlock"] else ""))
    if result["locks"]:
        print("\nLocks that threads wait for")
        table([(r["waiting"], r["owner"] or "-", r["lock"], r["class"]) for r in result["locks"]], ("WAITING", "OWNER", "LOCK", "CLASS"), right=(0,))
    if result["busiest"]:
        print("\nBusiest threads (percent of one processor)")
        table([(r["percent"], r["tid"], r["name"], r["stack"][0] if r["stack"] else "-") for r in result["busiest"]], ("%", "TID", "THREAD", "AT"), right=(0, 1))
    print("\nStacks")
    for group in result["stacks"]:
        print("  %d %s, such as %s" % (group["threads"], group["state"], group["example"]))
        for frame in group["stack"]:
            print("      " + frame)


main(action)
