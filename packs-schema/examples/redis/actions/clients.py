#!/usr/bin/env python3
"""Shows connected clients."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import client_list, resp  # noqa: E402
from lib.bolt_action import Deadline, finish, human, main, parameters, table  # noqa: E402

ORDER = {"buffers": "buffer_bytes", "idle": "idle_seconds", "age": "age_seconds"}


def action():
    given = parameters()
    server = resp.connect(given, Deadline(50.0))
    rows = client_list.clients(server)
    result = {
        "clients": len(rows),
        "max_clients": int(resp.setting(server, "maxclients") or 0),
        "by_host": grouped(rows, lambda r: r["address"].rpartition(":")[0] or "?", given["top"]),
        "by_name": grouped(rows, lambda r: r["name"] or "-", given["top"]),
        "by_command": grouped(rows, lambda r: r["command"] or "-", given["top"]),
        "by_kind": grouped(rows, lambda r: r["kind"], given["top"]),
        "rows": sorted(rows, key=lambda r: (-r[ORDER[given["by"]]], r["id"]))[: given["top"]],
    }
    print("%d clients of at most %s" % (result["clients"], result["max_clients"] or "?"))
    for head, key in (("KIND", "by_kind"), ("HOST", "by_host"), ("NAME", "by_name"), ("LAST COMMAND", "by_command")):
        if result[key]:
            table([(n, name) for name, n in result[key].items()], ("CLIENTS", head), right=(0,))
    table(
        [(r["id"], r["address"], r["kind"], r["age_seconds"], r["idle_seconds"], human(r["buffer_bytes"]), r["command"], r["name"] or "-") for r in result["rows"]],
        ("ID", "ADDRESS", "KIND", "AGE", "IDLE", "BUFFERS", "COMMAND", "NAME"), right=(0, 3, 4, 5),
    )  # fmt: skip
    finish(result)


def grouped(rows, key, top):
    found = {}
    for row in rows:
        found[key(row)] = found.get(key(row), 0) + 1
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:top])


main(action)
