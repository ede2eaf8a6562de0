#!/usr/bin/env python3
"""Shows pending and running compactions."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import nodetool  # noqa: E402
from lib.bolt_action import FAILED, Deadline, clean, finish, human, main, parameters, table  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(160.0)
    pending, running = nodetool.compactions(deadline.left())
    lines = nodetool.run(["getcompactionthroughput"], deadline.left()).strip().splitlines()
    # Of later versions, measured rates follow the limit: "Current compaction throughput (1 minute): ...".
    throughput = [line for line in lines if "throughput:" in line] or lines[-1:] or [""]
    result = {"pending": pending, "throughput": clean(throughput[0], 100), "running": running[:200]}
    print("%d pending, %d running; %s" % (pending, len(running), result["throughput"]))
    size = lambda r, key: human(r[key]) if r["unit"] == "bytes" else "%d %s" % (r[key], r["unit"])  # noqa: E731
    if running:
        table(
            [(r["percent"], size(r, "done"), size(r, "total"), r["kind"], "%s.%s" % (r["keyspace"], r["table"])) for r in result["running"]],
            ("%", "DONE", "TOTAL", "KIND", "TABLE"), right=(0, 1, 2),
        )  # fmt: skip
    finish(result)
    return FAILED if given.get("max_pending") is not None and pending > given["max_pending"] else None


main(action)
