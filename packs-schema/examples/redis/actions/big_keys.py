#!/usr/bin/env python3
"""Looks for the keys that use most memory, in bounded steps."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
import heapq  # noqa: E402

from lib import resp  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, clean, finish, human, main, parameters, table  # noqa: E402

STEP = 100


def action():
    given = parameters()
    deadline = Deadline(float(given["seconds"]))
    server = resp.connect(given, Deadline(280.0))
    try:
        if given["database"]:
            server.ask("SELECT", given["database"])
        found = scan(server, given, deadline)
    except resp.Refused as error:
        raise Stop(FAILED, "the server refuses to be scanned: %s" % error)
    show(found)
    finish(found)


def scan(server, given, deadline):
    cursor, largest, types, examined, total = b"0", [], {}, 0, 0
    complete = False
    while True:
        cursor, keys = server.ask("SCAN", cursor, "MATCH", given["pattern"], "COUNT", STEP)
        room = given["keys"] - examined
        cut, keys = len(keys) > room, keys[:room]
        for key, kind, size in measured(server, keys):
            entry = types.setdefault(kind, {"keys": 0, "bytes": 0})
            entry["keys"] += 1
            entry["bytes"] += size
            examined, total = examined + 1, total + size
            item = (size, key, kind)
            if len(largest) < given["top"]:
                heapq.heappush(largest, item)
            elif item > largest[0]:
                heapq.heapreplace(largest, item)
        if cursor == b"0":
            complete = not cut
            break
        if examined >= given["keys"] or deadline.passed():
            break
        resp.steadily(deadline, given["pause_ms"] / 1000.0)
    largest.sort(reverse=True)
    lives = server.all([("TTL", key) for _, key, _ in largest]) if largest else []
    return {
        "keys_in_database": server.ask("DBSIZE"),
        "keys_examined": examined,
        "complete": complete,
        "bytes_examined": total,
        "types": types,
        "keys": [
            {"key": clean(key), "type": kind, "bytes": size, "ttl_seconds": life if isinstance(life, int) else -1}
            for (size, key, kind), life in zip(largest, lives)
        ],
    }


def measured(server, keys):
    """Yields key, type and size of keys; those that have expired meanwhile are left out."""
    if not keys:
        return
    answers = server.all([("TYPE", key) for key in keys] + [("MEMORY", "USAGE", key, "SAMPLES", 5) for key in keys])
    for key, kind, size in zip(keys, answers, answers[len(keys) :]):
        if isinstance(size, resp.Refused):
            raise size
        if isinstance(size, int) and isinstance(kind, bytes):
            yield key, clean(kind, 40), size


def show(result):
    print("%d of %d keys examined, %s%s" % (
        result["keys_examined"], result["keys_in_database"], human(result["bytes_examined"]), "" if result["complete"] else "; INCOMPLETE: stopped at the limit of keys or time",
    ))  # fmt: skip
    if result["types"]:
        table([(kind, e["keys"], human(e["bytes"])) for kind, e in sorted(result["types"].items(), key=lambda p: -p[1]["bytes"])], ("TYPE", "KEYS", "SIZE"), right=(1, 2))
        print()
        table([(human(k["bytes"]), k["type"], k["ttl_seconds"] if k["ttl_seconds"] >= 0 else "never", k["key"]) for k in result["keys"]], ("SIZE", "TYPE", "EXPIRES IN", "KEY"), right=(0, 2))


main(action)
