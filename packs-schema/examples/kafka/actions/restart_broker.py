#!/usr/bin/env python3
"""Restarts this broker, with checks of the cluster before and after."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import cluster, tool, units  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, config, finish, main, noop, parameters  # noqa: E402

# States of a unit whose broker runs; `activating` is also a unit that fails and is started again and again.
UP = ("active", "reloading")
SYNC = ("unavailable", "under_min_isr", "under_replicated")
PAUSE = 5.0


def action():
    given, deadline = parameters(), Deadline(8900.0)
    unit, broker = config().get("unit", "kafka.service"), cluster.broker_id()
    if broker != given["broker"]:
        raise Stop(WRONG, "this host has broker %d, not %d" % (broker, given["broker"]))
    units.require()
    state = units.state(unit)
    up = state["state"] in UP
    result = {"noop": noop(), "broker": broker, "before": {}, "after": {}, "seconds": 0}
    single = []
    try:
        result["before"] = troubles(deadline)
        # A broker that is down is itself the reason for what is not in sync.
        if not up or not any(result["before"].values()):
            single = [p for p in cluster.partitions("at_min_isr", min(120.0, deadline.left())) if broker in p["isr"]]
            result["before"]["at_min_isr"] = len(single)
    except Stop as stop:
        # Where this broker is the one that bootstrap_server names, nothing answers until it has been started.
        if up or stop.status != FAILED:
            raise
        print("the cluster does not answer: %s" % stop)
    print("broker %d, %s is %s: %s" % (broker, unit, state["state"], shown(result["before"])))
    if up and any(result["before"][kind] for kind in SYNC):
        return end(result, "not_in_sync", "the cluster is not in sync, and without this broker it has fewer replicas still; see kafka.partitions")
    if single and not given["allow_at_min_isr"] and up:
        example = "%s-%d" % (single[0]["topic"], single[0]["partition"])
        return end(result, "at_min_isr", "%d partitions, such as %s, have no replica in sync to spare; allow_at_min_isr=true restarts all the same" % (len(single), example))
    if noop():
        print("noop: would restart %s" % unit)
        return end(result, "would_restart")
    begin = time.monotonic()
    try:
        tool.run(["systemctl", "restart", "--", unit], min(600.0, deadline.left()))
    except Stop as stop:
        # A broker with many partitions takes its time to stop, and systemd goes on; or it did not start, which verify() sees.
        if stop.status != FAILED:
            raise
        print(str(stop))
    return verify(given, deadline, unit, state["main_pid"] if up else 0, result, begin)


def verify(given, deadline, unit, old_pid, result, begin):
    until = begin + min(given["wait"], max(deadline.left() - 60, 0))
    while True:
        found = units.state(unit)
        state = found["state"]
        if state not in UP + ("activating", "deactivating"):
            return end(result, "not_active", "%s is %s after the restart; read its log with linux.service_status" % (unit, state))
        try:
            if old_pid and found["main_pid"] == old_pid and state in UP:
                problem = "%s still has main pid %d: it was not restarted" % (unit, old_pid)
            else:
                problem = absent(result["broker"], unit, state, deadline)
            result["after"] = {} if problem else troubles(deadline)
            if not problem and not any(result["after"].values()):
                result["seconds"] = round(time.monotonic() - begin, 1)
                print("broker %d is restarted; all partitions are in sync after %s s" % (result["broker"], result["seconds"]))
                return end(result, "restarted")
        except Stop as stop:  # The broker does not answer yet.
            if stop.status != FAILED:
                raise
            problem = str(stop)
        if time.monotonic() >= until:
            if problem:
                return end(result, "no_answer", "the broker does not answer after %d s: %s" % (given["wait"], problem))
            return end(result, "still_not_in_sync", "the cluster is not in sync after %d s: %s" % (given["wait"], shown(result["after"])))
        time.sleep(min(PAUSE, max(until - time.monotonic(), 0)))


def absent(broker, unit, state, deadline):
    """Returns why the broker does not serve; empty if it does.

    The lists of partitions do not show it: other brokers give them as well, and replicas leave the ISR after seconds only."""
    if state not in UP:
        return "%s is %s" % (unit, state)
    if broker not in cluster.brokers(min(60.0, deadline.left())):
        return "the cluster does not list broker %d: it has not registered, or is fenced" % broker
    return ""


def troubles(deadline):
    return {kind: len(cluster.partitions(kind, min(120.0, deadline.left()))) for kind in SYNC}


def shown(counts):
    if not counts:
        return "nothing is known of its partitions"
    return ", ".join("%d %s" % (n, kind.replace("_", " ")) for kind, n in counts.items()) + " partitions"


def end(result, outcome, problem=None):
    finish(dict(result, outcome=outcome))
    if problem:
        print(problem, file=sys.stderr)
    return FAILED if problem else None


main(action)
