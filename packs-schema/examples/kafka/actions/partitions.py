#!/usr/bin/env python3
"""Shows partitions without a leader or without all replicas."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import cluster  # noqa: E402
from lib.bolt_action import FAILED, Deadline, finish, main, parameters, table  # noqa: E402

SHOWN = ("unavailable", "under_min_isr", "under_replicated")


def action():
    given, deadline = parameters(), Deadline(280.0)
    found = {kind: cluster.partitions(kind, deadline.left()) for kind in SHOWN}
    missing, topics = {}, {}
    for p in found["under_replicated"]:
        for broker in set(p["replicas"]) - set(p["isr"]):
            missing[str(broker)] = missing.get(str(broker), 0) + 1
    for topic, _ in {(p["topic"], p["partition"]) for rows in found.values() for p in rows}:
        topics[topic] = topics.get(topic, 0) + 1
    result = {
        "counts": {kind: len(rows) for kind, rows in found.items()},
        "missing_brokers": dict(sorted(missing.items(), key=lambda pair: (-pair[1], pair[0]))[:100]),
        "topics": dict(sorted(topics.items(), key=lambda pair: (-pair[1], pair[0]))[:50]),
        "partitions": [dict(p, kind=kind) for kind, rows in found.items() for p in rows[: given["top"]]],
    }
    show(result)
    finish(result)
    return FAILED if any(result["counts"].values()) else None


def show(result):
    print(", ".join("%d %s" % (n, kind.replace("_", " ")) for kind, n in result["counts"].items()))
    for broker, count in result["missing_brokers"].items():
        print("broker %s is missing from %d partitions" % (broker, count))
    if result["partitions"]:
        joined = lambda ids: ",".join(map(str, ids)) or "-"  # noqa: E731
        table(
            [(p["kind"].replace("_", " "), p["leader"] if p["leader"] >= 0 else "none", joined(p["replicas"]), joined(p["isr"]), "%s-%d" % (p["topic"], p["partition"])) for p in result["partitions"]],
            ("TROUBLE", "LEADER", "REPLICAS", "IN SYNC", "PARTITION"),
        )  # fmt: skip


main(action)
