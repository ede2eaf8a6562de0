#!/usr/bin/env python3
"""Summarizes the end of nginx's access log."""

import calendar
import re
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import logs  # noqa: E402
from lib.bolt_action import clean, config, finish, human, main, parameters, table, utc  # noqa: E402

# 192.0.2.1 - - [29/Nov/2026:10:00:00 +0000] "GET /a?b HTTP/1.1" 200 612 ...
ENTRY = re.compile(rb'^(\S+) \S+ .*?\[(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-)')
MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}


def action():
    given = parameters()
    path = config().get("access_log", "/var/log/nginx/access.log")
    lines, size = logs.tail(path, given["mib"] << 20)
    since = time.time() - 60 * given["minutes"]
    wanted = None if given["statuses"] == "all" else given["statuses"][:1].encode()
    first, unknown, sent, requests = None, 0, 0, 0
    statuses, paths, clients, minutes = logs.Counter(100), logs.Counter(), logs.Counter(), {}
    for line in lines:
        match = ENTRY.match(line[:8192])
        if not match:
            unknown += 1
            continue
        moment = when(match)
        first = moment if first is None else first
        if moment < since:
            continue
        requests += 1
        status = match.group(12)
        sent += 0 if match.group(13) == b"-" else int(match.group(13))
        statuses.add(status.decode())
        minute = minutes.setdefault(moment // 60, [0, 0])
        minute[0] += 1
        minute[1] += status[:1] == b"5"
        if wanted is None or status[:1] == wanted:
            words = match.group(11).split(b" ")
            paths.add(clean((words[1] if len(words) > 1 else b"(no request)").partition(b"?")[0], 150))
            clients.add(clean(match.group(1), 60))
    named = lambda counter: [{"count": n, "name": name} for name, n in counter.top(given["top"])]  # noqa: E731
    result = {
        "log": clean(path, 300),
        "log_bytes": size,
        "complete": (first is not None and first < since) or (size <= given["mib"] << 20 and not logs.rotated_since(path, since)),
        "requests": requests,
        "not_understood": unknown,
        "bytes_sent": sent,
        "statuses": dict(sorted(statuses.top(100))),
        "minutes": [{"minute": utc(60 * m), "requests": n, "errors": bad} for m, (n, bad) in sorted(minutes.items())[-60:]],
        "paths": named(paths),
        "clients": named(clients),
    }
    show(result, given)
    finish(result)


def when(match):
    """Returns Unix time of an entry; 0 if it has no such date."""
    _, day, month, year, hour, minute, second, sign, hours, minutes = match.groups()[:10]
    offset = 3600 * int(hours) + 60 * int(minutes)
    try:
        moment = calendar.timegm((int(year), MONTHS.get(month, 0), int(day), int(hour), int(minute), int(second)))
    except ValueError:
        return 0
    return moment - offset if sign == b"+" else moment + offset


def show(result, given):
    statuses = ", ".join("%d with %s" % (n, s) for s, n in result["statuses"].items())
    print("%s: %d requests in the last %d minutes (%s), %s sent%s" % (
        result["log"], result["requests"], given["minutes"], statuses or "none", human(result["bytes_sent"]), "" if result["complete"] else "; INCOMPLETE: the log has more than was read, or was rotated",
    ))  # fmt: skip
    if result["not_understood"]:
        print("%d lines are in another format" % result["not_understood"])
    if result["minutes"]:
        table([(m["minute"], m["requests"], m["errors"]) for m in result["minutes"][-15:]], ("MINUTE", "REQUESTS", "5XX"), right=(1, 2))
    for head, rows in (("PATH", result["paths"]), ("CLIENT", result["clients"])):
        if rows:
            print("\nRequests with status %s" % given["statuses"])
            table([(r["count"], r["name"]) for r in rows], ("COUNT", head), right=(0,))


main(action)
