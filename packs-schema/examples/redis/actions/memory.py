#!/usr/bin/env python3
"""Shows where the server's memory goes."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import resp  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, human, main, parameters  # noqa: E402

SHOWN = (
    ("used_bytes", "used"), ("rss_bytes", "resident"), ("peak_bytes", "peak"), ("dataset_bytes", "data"), ("overhead_bytes", "overhead"),
    ("clients_bytes", "clients"), ("replication_backlog_bytes", "replication backlog"), ("aof_buffer_bytes", "AOF buffer"), ("lua_bytes", "scripts"),
    ("fragmentation_bytes", "fragmentation"),
)  # fmt: skip


def action():
    server = resp.connect(parameters(), Deadline(50.0))
    found = resp.info(server, "memory", "stats")
    number = lambda key: max(resp.number(found, key), 0)  # noqa: E731
    try:
        ratio = float(found.get("mem_fragmentation_ratio", "0"))
    except ValueError:
        ratio = 0.0
    result = {
        "used_bytes": number("used_memory"),
        "rss_bytes": number("used_memory_rss"),
        "peak_bytes": number("used_memory_peak"),
        "max_bytes": number("maxmemory"),
        "policy": clean(found.get("maxmemory_policy", ""), 40),
        "dataset_bytes": number("used_memory_dataset"),
        "overhead_bytes": number("used_memory_overhead"),
        "clients_bytes": number("mem_clients_normal") + number("mem_clients_slaves"),
        "replication_backlog_bytes": number("mem_replication_backlog") or number("mem_total_replication_buffers"),
        "aof_buffer_bytes": number("mem_aof_buffer"),
        "lua_bytes": number("used_memory_lua"),
        "fragmentation_ratio": ratio,
        "fragmentation_bytes": number("allocator_frag_bytes") + number("allocator_rss_bytes"),
        "evicted_keys": number("evicted_keys"),
        "doctor": clean(b" ".join((server.maybe("MEMORY", "DOCTOR") or b"").split()), 1500),
    }
    for key, name in SHOWN:
        print("%10s  %s" % (human(result[key]), name))
    print("limit: %s, policy %s, %d keys evicted; fragmentation ratio %s" % (
        human(result["max_bytes"]) if result["max_bytes"] else "none", result["policy"] or "?", result["evicted_keys"], ratio,
    ))  # fmt: skip
    if result["doctor"]:
        print(result["doctor"])
    finish(result)


main(action)
