#!/usr/bin/env python3
"""Summarizes the slow log."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import resp  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, clean, finish, main, parameters, table, utc  # noqa: E402


def action():
    given = parameters()
    server = resp.connect(given, Deadline(50.0))
    try:
        found = server.ask("SLOWLOG", "GET", given["entries"])
    except resp.Refused as error:
        raise Stop(FAILED, "the server refuses SLOWLOG: %s" % error)
    rows, commands = [], {}
    for entry in found or []:
        row = parse(entry, given["arguments"])
        if row is None:
            continue
        rows.append(row)
        total = commands.setdefault(row["command"], {"command": row["command"], "count": 0, "total_ms": 0.0, "longest_ms": 0.0})
        total["count"] += 1
        total["total_ms"] = round(total["total_ms"] + row["ms"], 3)
        total["longest_ms"] = max(total["longest_ms"], row["ms"])
    threshold = resp.setting(server, "slowlog-log-slower-than")
    result = {
        "threshold_us": int(threshold) if threshold.isdigit() else -1,
        "entries": len(rows),
        "oldest": min((r["time"] for r in rows), default=""),
        "commands": sorted(commands.values(), key=lambda c: -c["total_ms"])[: given["top"]],
        "slowest": sorted(rows, key=lambda r: -r["ms"])[: given["top"]],
    }
    show(result)
    finish(result)


def parse(entry, arguments):
    """Parses [id, time, microseconds, words, client, name]; the last two since Redis 4."""
    if not isinstance(entry, list) or len(entry) < 4 or not isinstance(entry[3], list) or not entry[3]:
        return None
    words = [word if isinstance(word, bytes) else str(word).encode() for word in entry[3]]
    row = {
        "time": utc(entry[1]),
        "ms": round(entry[2] / 1000.0, 3),
        "command": clean(words[0].upper(), 40),
        "words": len(words),
        "client": clean(entry[4], 60) if len(entry) > 4 else "",
        "name": clean(entry[5], 60) if len(entry) > 5 else "",
    }
    if arguments:
        row["arguments"] = clean(b" ".join(words[1:]), 300)
    return row


def show(result):
    print("%d entries since %s; threshold %s" % (
        result["entries"], result["oldest"] or "-", "%d us" % result["threshold_us"] if result["threshold_us"] >= 0 else "unknown",
    ))  # fmt: skip
    if result["entries"]:
        table([(c["command"], c["count"], c["total_ms"], c["longest_ms"]) for c in result["commands"]], ("COMMAND", "COUNT", "TOTAL MS", "LONGEST MS"), right=(1, 2, 3))
        print("\nSlowest")
        table(
            [(r["time"], r["ms"], r["client"], r["words"], r["command"] + (" " + r["arguments"] if r.get("arguments") else "")) for r in result["slowest"]],
            ("TIME", "MS", "CLIENT", "WORDS", "COMMAND"), right=(1, 3),
        )  # fmt: skip


main(action)
