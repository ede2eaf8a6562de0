#!/usr/bin/env python3
"""Shows the processes of nginx and the counters of stub_status."""

import os
import re
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import server, web  # noqa: E402
from lib.bolt_action import FAILED, Stop, clean, config, finish, human, main, parameters, read, table  # noqa: E402

STUB = re.compile(rb"^Active connections: (\d+)\s+server accepts handled requests\s+(\d+) (\d+) (\d+)\s+Reading: (\d+) Writing: (\d+) Waiting: (\d+)", re.DOTALL)


def action():
    given, url = parameters(), config().get("status_url", "")
    master = server.master()
    first, at = (counters(url) if url else None), time.monotonic()
    if url:
        time.sleep(given["seconds"])
    uptime = float((read("/proc/uptime", 64) or b"0").split()[0])
    ticks = os.sysconf("SC_CLK_TCK")
    age = lambda started: max(int(uptime - started / ticks), 0)  # noqa: E731
    result = {
        "master_pid": master["pid"],
        "master_uptime_seconds": age(master["started"]),
        "processes": [dict(worker, age_seconds=age(worker["started"])) for worker in server.workers(master["pid"])],
        "connections": rates(first, counters(url), time.monotonic() - at) if url else {},
    }
    result["problems"] = problems(result)
    show(result)
    finish(result)
    return FAILED if result["problems"] else None


def counters(url):
    answer = web.ask(url, limit=4096)
    match = STUB.match(answer.body)
    if answer.status != 200 or not match:
        raise Stop(FAILED, "%s is not stub_status: HTTP status %d" % (clean(url), answer.status))
    names = ("active", "accepted", "handled", "requests", "reading", "writing", "waiting")
    return dict(zip(names, (int(number) for number in match.groups())))


def rates(first, second, seconds):
    dropped = lambda sample: sample["accepted"] - sample["handled"]  # noqa: E731
    found = {key: second[key] for key in ("active", "reading", "writing", "waiting", "accepted", "requests")}
    found["dropped"] = dropped(second)
    # The second question is a request as well.
    found["requests_per_second"] = round(max(second["requests"] - first["requests"] - 1, 0) / max(seconds, 0.001), 1)
    found["dropped_per_second"] = round(max(dropped(second) - dropped(first), 0) / max(seconds, 0.001), 1)
    return found


def problems(result):
    found = []
    if not any(p["role"] == "worker" for p in result["processes"]):
        found.append("there is no worker")
    for p in result["processes"]:
        if p["descriptor_limit"] > 0 and p["descriptors"] >= 0.9 * p["descriptor_limit"]:
            found.append("worker %d has %d of %d descriptors open: raise worker_rlimit_nofile" % (p["pid"], p["descriptors"], p["descriptor_limit"]))
    if result["connections"].get("dropped_per_second"):
        found.append("nginx drops connections: raise worker_connections")
    return found


def show(result):
    print("master %d, up %d s" % (result["master_pid"], result["master_uptime_seconds"]))
    table(
        [(p["pid"], p["role"], p["age_seconds"], p["descriptors"], p["descriptor_limit"], human(p["rss_bytes"])) for p in result["processes"]],
        ("PID", "ROLE", "AGE", "DESCRIPTORS", "LIMIT", "RSS"), right=(0, 2, 3, 4, 5),
    )  # fmt: skip
    c = result["connections"]
    if c:
        print("%d connections (%d reading, %d writing, %d waiting), %s requests/s; since the start %d accepted, %d dropped" % (
            c["active"], c["reading"], c["writing"], c["waiting"], c["requests_per_second"], c["accepted"], c["dropped"],
        ))  # fmt: skip
    else:
        print("no stub_status: set status_url in /etc/bolt/packs/nginx.yaml")
    for problem in result["problems"]:
        print("PROBLEM: " + problem)


main(action)
