#!/usr/bin/env python3
"""Summarizes the end of nginx's error log."""

import re
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import logs  # noqa: E402
from lib.bolt_action import clean, config, finish, main, parameters, table  # noqa: E402

# 2026/11/29 10:00:00 [error] 42#42: *7 connect() failed (111: ...) while connecting to upstream, client: 192.0.2.1, ...
ENTRY = re.compile(rb"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(\w+)\] \d+#\d+: (?:\*\d+ )?(.*)$")
DETAILS = re.compile(rb", (?:client|server|request|upstream|host|referrer|subrequest|login): ")
CLIENT = re.compile(rb", client: ([0-9A-Fa-f:.]+|unix:)")
UPSTREAM = re.compile(rb', upstream: "(?:\w+://)?(unix:[^":]+|[^/"]+)')
MAX_MESSAGES = 5000
LEVELS = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")


def action():
    given = parameters()
    path = config().get("error_log", "/var/log/nginx/error.log")
    lines, size = logs.tail(path, given["mib"] << 20)
    # Entries have the host's local time, so the bound is written in it as well and compared as text.
    bound = time.time() - 60 * given["minutes"]
    since = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(bound)).encode()
    first, entries, levels, messages = None, 0, logs.Counter(20), {}
    clients, upstreams = logs.Counter(), logs.Counter()
    for line in lines:
        match = ENTRY.match(line[:8192])
        if not match:
            continue  # A continuation, such as of a message with a line break.
        moment, level, text = match.groups()
        first = first or moment
        if moment < since:
            continue
        entries += 1
        levels.add(clean(level, 20))
        if clean(level, 20) in LEVELS[: LEVELS.index(given["level"])]:
            continue
        add(messages, clean(level, 20), moment, text)
        for counter, pattern in ((clients, CLIENT), (upstreams, UPSTREAM)):
            found = pattern.search(text)
            if found:
                counter.add(clean(found.group(1), 100))
    rows = sorted(messages.values(), key=lambda m: (-m["count"], m["message"]))[: given["top"]]
    named = lambda counter: [{"count": n, "name": name} for name, n in counter.top(given["top"])]  # noqa: E731
    result = {
        "log": clean(path, 300),
        "log_bytes": size,
        "complete": (first is not None and first < since) or (size <= given["mib"] << 20 and not logs.rotated_since(path, bound)),
        "entries": entries,
        "levels": dict(levels.top(20)),
        "messages": rows,
        "clients": named(clients),
        "upstreams": named(upstreams),
    }
    show(result, given["minutes"])
    finish(result)


def add(messages, level, moment, text):
    text = DETAILS.split(text, 1)[0]
    kind = re.sub(rb'"[^"]*"', b'"..."', text)
    kind = re.sub(rb"(?<![A-Za-z])\d[\d.:]*", b"N", kind)
    key = (level, clean(kind, 200))
    if key not in messages and len(messages) >= MAX_MESSAGES:
        key = (level, "(others)")
    entry = messages.setdefault(key, {"count": 0, "level": level, "message": key[1], "example": "", "last": ""})
    entry["count"] += 1
    entry["example"], entry["last"] = clean(text, 300), clean(moment)


def show(result, minutes):
    levels = ", ".join("%d %s" % (n, level) for level, n in result["levels"].items())
    print("%s: %d entries in the last %d minutes%s%s" % (
        result["log"], result["entries"], minutes, " (%s)" % levels if levels else "", "" if result["complete"] else "; INCOMPLETE: the log has more than was read, or was rotated",
    ))  # fmt: skip
    if result["messages"]:
        table([(m["count"], m["level"], m["last"], m["example"]) for m in result["messages"]], ("COUNT", "LEVEL", "LAST", "EXAMPLE"), right=(0,))
    for head, rows in (("CLIENT", result["clients"]), ("UPSTREAM", result["upstreams"])):
        if rows:
            print()
            table([(r["count"], r["name"]) for r in rows], ("COUNT", head), right=(0,))


main(action)
