#!/usr/bin/env python3
"""Checks this broker."""

import os
import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import cluster, units  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, clean, config, finish, human, main, parameters, table  # noqa: E402

MAX_LAG_MS = 10000


def action():
    given, deadline, problems = parameters(), Deadline(280.0), []
    broker = cluster.broker_id()
    result = {"broker": broker, "unit": unit(problems), "answers": False, "brokers": [], "quorum": {}, "directories": directories(given, problems)}
    try:
        result["brokers"] = cluster.brokers(min(60.0, deadline.left()))
        # Other brokers may have given the list.
        result["answers"] = broker in result["brokers"]
        if not result["answers"]:
            problems.append("the cluster does not list broker %d: it is fenced, or has not registered" % broker)
        result["quorum"] = quorum(deadline, problems)
    except Stop as stop:
        problems.append("the broker does not answer: %s" % stop)
    result["problems"] = [clean(p, 400) for p in problems]
    show(result)
    finish(result)
    return FAILED if problems else None


def unit(problems):
    name = config().get("unit", "kafka.service")
    try:
        units.require()
    except Stop:
        return ""
    try:
        state = units.state(name)
    except Stop as stop:
        problems.append(str(stop))
        return ""
    if state["state"] != "active":
        problems.append("%s is %s" % (name, state["state"]))
    return state["state"]


def quorum(deadline, problems):
    try:
        text = cluster.run("kafka-metadata-quorum.sh", ["describe", "--status"], min(60.0, deadline.left()))
    except Stop:
        return {}
    pairs = dict(re.findall(r"^(\w+):\s+(-?\d+)\s*$", text, re.MULTILINE))
    names = {"leader": "LeaderId", "epoch": "LeaderEpoch", "follower_lag": "MaxFollowerLag", "follower_lag_ms": "MaxFollowerLagTimeMs"}
    found = {key: int(pairs[name]) for key, name in names.items() if name in pairs}
    if found.get("leader", 0) < 0:
        problems.append("the quorum has no leader")
    if found.get("follower_lag_ms", 0) > MAX_LAG_MS:
        problems.append("a controller is %d ms behind the leader of the quorum" % found["follower_lag_ms"])
    return found


def directories(given, problems):
    rows = []
    for path in config().get("data_directories", ["/var/lib/kafka"]):
        try:
            info = os.statvfs(path)
        except OSError as error:
            problems.append("%s cannot be read: %s" % (path, error.strerror))
            rows.append({"path": clean(path, 300), "free_bytes": -1, "free_percent": 0})
            continue
        percent = info.f_bavail * 100 // info.f_blocks if info.f_blocks else 100
        rows.append({"path": clean(path, 300), "free_bytes": info.f_bavail * info.f_frsize, "free_percent": percent})
        if percent < given["free_percent"]:
            problems.append("%s has %d%% free" % (path, percent))
    return rows


def show(result):
    print("broker %d: %s%s; it knows %s" % (
        result["broker"], "answers" if result["answers"] else "DOES NOT ANSWER", ", unit " + result["unit"] if result["unit"] else "",
        ", ".join(map(str, result["brokers"])) or "no broker",
    ))  # fmt: skip
    q = result["quorum"]
    if q:
        print("quorum: leader %s, epoch %s, followers at most %s records and %s ms behind" % tuple(q.get(k, "?") for k in ("leader", "epoch", "follower_lag", "follower_lag_ms")))
    table([(human(d["free_bytes"]) if d["free_bytes"] >= 0 else "?", d["free_percent"], d["path"]) for d in result["directories"]], ("FREE", "%", "DIRECTORY"), right=(0, 1))
    for problem in result["problems"]:
        print("PROBLEM: " + problem)


main(action)
