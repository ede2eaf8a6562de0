#!/usr/bin/env python3
"""Lists Cassandra's snapshots by tag: age, number of tables, and space that removing them would free."""

import os
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import snapshots  # noqa: E402
from lib.bolt_action import Deadline, clean, config, counted, finish, human, main, parameters, table, utc  # noqa: E402

MAX_GROUPS = 20000


def action():
    given = parameters()
    problems, groups = [], {}
    deadline = Deadline(3600.0)

    def problem(path, reason):
        if len(problems) < 1000:
            problems.append({"path": clean(path, 300), "reason": clean(reason)})

    total = 0
    complete = True
    for data in snapshots.data_directories(config()):
        for snapshot in snapshots.find(data, given.get("keyspace"), problem):
            if deadline.passed() or len(groups) >= MAX_GROUPS:
                complete = False
                break
            fd = snapshots.open_snapshot(snapshot)
            if fd is None:
                continue
            # Measured one by one: space shared by two snapshots is freed only when both are removed.
            count = snapshots.Removal(False, deadline, problem)
            try:
                count.empty(fd, snapshot.where, snapshot.device)
                ephemeral = snapshots.is_ephemeral(fd)
            finally:
                os.close(fd)
            total += 1
            complete = complete and count.complete
            add(groups, snapshot, count, ephemeral)
    rows = sorted(groups.values(), key=lambda g: (-g["bytes_reclaimable"], g["keyspace"], g["tag"]))
    result = {
        "complete": complete,
        "snapshots": total,
        "bytes_reclaimable": sum(g["bytes_reclaimable"] for g in rows),
        "tags": rows[: given["top"]],
        "problems": problems[:20],
    }
    show(result)
    finish(result)


def add(groups, snapshot, count, ephemeral):
    made = int(snapshot.made)
    group = groups.setdefault(
        (snapshot.keyspace, snapshot.tag),
        {
            "keyspace": clean(snapshot.keyspace, 100),
            "tag": clean(snapshot.tag),
            "made": "",
            "age_days": 0,
            "tables": 0,
            "files": 0,
            "bytes_reclaimable": 0,
            "bytes_shared": 0,
            "ephemeral": False,
        },
    )
    if not group["made"] or utc(made) < group["made"]:
        group["made"] = utc(made)
        group["age_days"] = int((time.time() - made) // 86400)
    group["tables"] += 1
    group["files"] += count.files
    group["bytes_reclaimable"] += count.reclaimed
    group["bytes_shared"] += count.shared
    group["ephemeral"] = group["ephemeral"] or ephemeral


def show(result):
    if result["snapshots"]:
        found = counted(result["snapshots"], "snapshot")
        print("%s; removal would free at least %s" % (found, human(result["bytes_reclaimable"])))
    else:
        print("no snapshots")
    rows = [
        (g["keyspace"], g["age_days"], g["tables"], human(g["bytes_reclaimable"]), human(g["bytes_shared"]), g["tag"])
        for g in result["tags"]
    ]
    if rows:
        table(rows, ("KEYSPACE", "DAYS", "TABLES", "FREEABLE", "SHARED", "TAG"), right=(1, 2, 3, 4))
    for problem in result["problems"]:
        print("  not read: %s: %s" % (problem["path"], problem["reason"]))
    if not result["complete"]:
        print("  INCOMPLETE: too many, or the deadline was reached")


main(action)
