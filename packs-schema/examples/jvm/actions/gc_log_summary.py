#!/usr/bin/env python3
"""Summarizes the log of the garbage collector of a Java process."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import gc_log, processes  # noqa: E402
from lib.bolt_action import FAILED, Stop, clean, finish, human, main, parameters, table  # noqa: E402


def action():
    given = parameters()
    jvm, row = processes.select(given)
    text, size, name = gc_log.tail(jvm.pid, given["mib"] << 20)
    found = list(gc_log.pauses(text))
    if not found:
        raise Stop(FAILED, "%s has no pause of a collector in its last %d MiB" % (clean(name), given["mib"]))
    times = [up for up, _, _, _ in found if up is not None]
    span = round(times[-1] - times[0], 3) if times and times[-1] >= times[0] else -1
    paused = sum(ms for _, _, ms, _ in found)
    after = [heap[1] for _, _, _, heap in found if heap]
    tenth = max(len(after) // 10, 1)
    result = {
        "pid": row["pid"],
        "started": row["started"],
        "main": row["main"],
        "log": clean(name, 300),
        "log_bytes": size,
        "span_seconds": span,
        "pauses": len(found),
        "paused_ms": round(paused, 3),
        "paused_percent": round(min(paused / (10.0 * span), 100.0), 2) if span > 0 else -1,
        "full_collections": sum("Full" in kind for _, kind, _, _ in found),
        "kinds": kinds(found),
        "heap_after_first_bytes": sorted(after[:tenth])[tenth // 2] if after else -1,
        "heap_after_last_bytes": sorted(after[-tenth:])[tenth // 2] if after else -1,
        "heap_bytes": next((heap[2] for _, _, _, heap in reversed(found) if heap), -1),
    }
    show(result)
    finish(result)


def kinds(found):
    groups = {}
    for _, kind, ms, _ in found:
        groups.setdefault(kind, []).append(ms)
    rows = []
    for kind, times in groups.items():
        times.sort()
        rows.append({
            "kind": kind,
            "count": len(times),
            "total_ms": round(sum(times), 3),
            "p99_ms": times[min(len(times) * 99 // 100, len(times) - 1)],
            "longest_ms": times[-1],
        })  # fmt: skip
    return sorted(rows, key=lambda r: -r["total_ms"])[:50]


def show(result):
    print("%s (pid %d), %s" % (result["main"], result["pid"], result["log"]))
    print("%d pauses in %s s: %s ms, %s%% of the time; %d full collections" % (
        result["pauses"], result["span_seconds"] if result["span_seconds"] >= 0 else "?", result["paused_ms"],
        result["paused_percent"] if result["paused_percent"] >= 0 else "?", result["full_collections"],
    ))  # fmt: skip
    if result["heap_bytes"] >= 0:
        print("heap after collections: %s at first, %s at last, of %s" % (
            human(result["heap_after_first_bytes"]), human(result["heap_after_last_bytes"]), human(result["heap_bytes"]),
        ))  # fmt: skip
    table([(k["count"], k["total_ms"], k["p99_ms"], k["longest_ms"], k["kind"]) for k in result["kinds"]], ("COUNT", "TOTAL MS", "P99 MS", "LONGEST MS", "KIND"), right=(0, 1, 2, 3))


main(action)
