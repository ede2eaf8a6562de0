#!/usr/bin/env python3
"""Measures PING, and shows what the server knows of its own latency."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
import time  # noqa: E402

from lib import resp  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, main, parameters, table, utc  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(100.0)
    server = resp.connect(given, deadline)
    threshold = resp.setting(server, "latency-monitor-threshold")
    result = {
        "ping_ms": ping(server, given["pings"], deadline),
        "monitor_threshold_ms": int(threshold) if threshold.isdigit() else 0,
        "events": [
            {"event": clean(e[0], 40), "last": utc(e[1]), "last_ms": e[2], "longest_ms": e[3]}
            for e in server.maybe("LATENCY", "LATEST") or []
            if isinstance(e, list) and len(e) >= 4
        ][:50],
        "last_fork_ms": resp.number(resp.info(server, "stats"), "latest_fork_usec") / 1000.0,
        "commands": commands(resp.info(server, "commandstats"))[: given["top"]],
    }
    show(result)
    finish(result)


def ping(server, count, deadline):
    times = []
    for _ in range(count):
        start = time.monotonic()
        server.ask("PING")
        times.append(1000.0 * (time.monotonic() - start))
        if deadline.left() < 20:
            break
        time.sleep(0.01)
    times.sort()
    return {"median": round(times[len(times) // 2], 3), "p99": round(times[min(len(times) * 99 // 100, len(times) - 1)], 3), "longest": round(times[-1], 3)}


def commands(stats):
    rows = []
    for key, text in stats.items():
        if key.startswith("cmdstat_"):
            pairs = resp.pairs(text)
            calls, microseconds = resp.number(pairs, "calls"), resp.number(pairs, "usec")
            rows.append({
                "command": clean(key[8:], 40),
                "calls": calls,
                "mean_us": round(microseconds / calls, 2) if calls else 0,
                "total_seconds": round(microseconds / 1e6, 3),
                "failed": resp.number(pairs, "failed_calls"),
            })  # fmt: skip
    return sorted(rows, key=lambda r: (-r["total_seconds"], r["command"]))


def show(result):
    p = result["ping_ms"]
    print("PING from this host: median %s ms, 99%% within %s ms, longest %s ms; last fork %s ms" % (p["median"], p["p99"], p["longest"], result["last_fork_ms"]))
    if result["events"]:
        table([(e["event"], e["last"], e["last_ms"], e["longest_ms"]) for e in result["events"]], ("EVENT", "LAST", "MS", "LONGEST MS"), right=(2, 3))
    elif not result["monitor_threshold_ms"]:
        print("the latency monitor is off (latency-monitor-threshold)")
    table([(c["command"], c["calls"], c["mean_us"], c["total_seconds"], c["failed"]) for c in result["commands"]], ("COMMAND", "CALLS", "MEAN US", "SECONDS", "FAILED"), right=(1, 2, 3, 4))


main(action)
