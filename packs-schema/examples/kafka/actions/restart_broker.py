#!/usr/bin/env python3
"""Restarts this broker, with checks of the cluster before and after."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import cluster, tool, units  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, config, finish, main, noop, parameters  # noqa: E402

SYNC = ("unavailable", "under_min_isr", "under_replicated")
PAUSE = 5.0


def action():
    given, deadline = parameters(), Deadline(8900.0)
    unit, broker = config().get("unit", "kafka.service"), cluster.broker_id()
    if broker != given["broker"]:
        raise Stop(WRONG, "this host has broker %d, not %d" % (broker, given["broker"]))
    units.require()
    state = units.state(unit)
    result = {"noop": noop(), "broker": broker, "before": troubles(deadline), "after": {}, "seconds": 0}
    print("broker %d, %s is %s: %s" % (broker, unit, state["state"], shown(result["before"])))
    # A broker that is down is itself the reason for what is not in sync.
    if state["state"] == "active" and any(result["before"].values()):
        return end(result, "not_in_sync", "the cluster is not in sync, and without this broker it has fewer replicas still; see kafka.partitions")
    single = [p for p in cluster.partitions("at_min_isr", 120.0) if broker in p["isr"]]
    result["before"]["at_min_isr"] = len(single)
    if single and not given["allow_at_min_isr"] and state["state"] == "active":
        example = "%s-%d" % (single[0]["topic"], single[0]["partition"])
        return end(result, "at_min_isr", "%d partitions, such as %s, have no replica in sync to spare; allow_at_min_isr=true restarts all the same" % (len(single), example))
    if noop():
        print("noop: would restart %s" % unit)
        return end(result, "would_restart")
    begin = time.monotonic()
    tool.run(["systemctl", "restart", "--", unit], min(600.0, deadline.left()))
    return verify(given, deadline, unit, result, begin)


def verify(given, deadline, unit, result, begin):
    until = begin + min(given["wait"], max(deadline.left() - 60, 0))
    problem = ""
    while True:
        if units.state(unit)["state"] not in ("active", "activating", "reloading"):
            return end(result, "not_active", "%s is %s after the restart; read its log with linux.service_status" % (unit, units.state(unit)["state"]))
        try:
            result["after"], problem = troubles(deadline), ""
            if not any(result["after"].values()):
                result["seconds"] = round(time.monotonic() - begin, 1)
                print("broker %d is restarted; all partitions are in sync after %s s" % (result["broker"], result["seconds"]))
                return end(result, "restarted")
        except Stop as stop:  # The broker does not answer yet.
            problem = str(stop)
        if time.monotonic() >= until:
            said = problem or shown(result["after"])
            return end(result, "still_not_in_sync", "the cluster is not in sync after %d s: %s" % (given["wait"], said))
        time.sleep(min(PAUSE, max(until - time.monotonic(), 0)))


def troubles(deadline):
    return {kind: len(cluster.partitions(kind, min(120.0, deadline.left()))) for kind in SYNC}


def shown(counts):
    return ", ".join("%d %s" % (n, kind.replace("_", " ")) for kind, n in counts.items()) + " partitions"


def end(result, outcome, problem=None):
    finish(dict(result, outcome=outcome))
    if problem:
        print(problem, file=sys.stderr)
    return FAILED if problem else None


main(action)
