#!/usr/bin/env python3
"""Shows thread pools and dropped messages."""

import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import nodetool  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, clean, finish, main, parameters, table  # noqa: E402

POOL = re.compile(r"^(\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*$")
DROPPED = re.compile(r"^([A-Z_][A-Z0-9_]*)\s+(\d+)(?:\s|$)")


def action():
    given = parameters()
    pools, dropped = [], {}
    for line in nodetool.run(["tpstats"], Deadline(160.0).left()).splitlines():
        pool, message = POOL.match(line), DROPPED.match(line)
        if pool:
            names = ("active", "pending", "completed", "blocked", "blocked_in_all")
            pools.append(dict(zip(names, map(int, pool.groups()[1:])), name=clean(pool.group(1), 80)))
        elif message and len(dropped) < 200:
            dropped[clean(message.group(1), 60)] = int(message.group(2))
    if not pools:
        raise Stop(FAILED, "nodetool tpstats lists no thread pool")
    blocked = sum(p["blocked"] for p in pools)
    if not given["all"]:
        pools = [p for p in pools if p["pending"] or p["blocked"] or p["blocked_in_all"]]
        dropped = {name: count for name, count in dropped.items() if count}
    result = {"blocked": blocked, "pools": sorted(pools, key=lambda p: (-p["blocked"], -p["pending"], p["name"]))[:200], "dropped": dropped}
    print("%d tasks are blocked; %d messages were dropped since the start" % (blocked, sum(dropped.values())))
    if result["pools"]:
        table(
            [(p["name"], p["active"], p["pending"], p["blocked"], p["blocked_in_all"], p["completed"]) for p in result["pools"]],
            ("POOL", "ACTIVE", "PENDING", "BLOCKED", "IN ALL", "COMPLETED"), right=(1, 2, 3, 4, 5),
        )  # fmt: skip
    if dropped:
        table([(count, name) for name, count in sorted(dropped.items(), key=lambda d: -d[1])], ("DROPPED", "MESSAGE"), right=(0,))
    finish(result)
    return FAILED if blocked else None


main(action)
