#!/usr/bin/env python3
"""Shows the lag of consumer groups."""

import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import cluster, tool  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, finish, main, parameters, table  # noqa: E402

# GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID; a group may have spaces in its name.
ROW = re.compile(r"^(\S.*?)\s+(\S+)\s+(\d+)\s+(\d+|-)\s+(\d+|-)\s+(-?\d+|-)\s+(\S+)(?:\s|$)")


def action():
    given, deadline = parameters(), Deadline(280.0)
    which = ["--group", given["group"]] if given.get("group") else ["--all-groups"]
    rows, members = {}, {}
    found = cluster.run("kafka-consumer-groups.sh", ["--describe"] + which, deadline.left())
    for line in found.splitlines():
        match = ROW.match(line)
        if not match:
            continue
        group, topic, _, _, _, lag, member = match.groups()
        key = (clean(group, 255), clean(topic, 249))
        row = rows.setdefault(key, {"group": key[0], "topic": key[1], "partitions": 0, "lag": 0, "largest_lag": 0, "members": 0, "unknown": 0})
        row["partitions"] += 1
        if lag == "-":
            row["unknown"] += 1
        else:
            row["lag"] += max(int(lag), 0)
            row["largest_lag"] = max(row["largest_lag"], int(lag))
        if member != "-":
            members.setdefault(key, set()).add(member)
            row["members"] = len(members[key])
    if given.get("group") and not rows:
        # Several versions of the tool end with status 0 although there is no such group, which must not look like no lag.
        raise Stop(WRONG, "no partition of the group %s is known: %s" % (clean(given["group"], 255), tool.last(found.encode())))
    ordered = sorted(rows.values(), key=lambda r: (-r["lag"], r["group"], r["topic"]))
    exceeded = [r for r in ordered if given.get("max_lag") is not None and r["lag"] > given["max_lag"]]
    result = {"groups": len({r["group"] for r in ordered}), "exceeded": len(exceeded), "rows": ordered[: given["top"]]}
    print("%d groups%s" % (result["groups"], ", %d rows above %d" % (len(exceeded), given["max_lag"]) if given.get("max_lag") is not None else ""))
    table(
        [(r["lag"], r["largest_lag"], r["partitions"], r["members"] or "none", r["unknown"], r["group"], r["topic"]) for r in result["rows"]],
        ("LAG", "LARGEST", "PARTITIONS", "MEMBERS", "UNKNOWN", "GROUP", "TOPIC"), right=(0, 1, 2, 3, 4),
    )  # fmt: skip
    finish(result)
    return FAILED if exceeded else None


main(action)
