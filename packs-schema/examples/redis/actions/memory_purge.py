#!/usr/bin/env python3
"""Lets the server give free memory back to the host."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import resp  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, finish, human, main, noop, parameters  # noqa: E402


def action():
    # The server answers no one while it purges.
    server = resp.connect(parameters(), Deadline(100.0), seconds=60.0)
    before = resp.info(server, "memory")
    result = {
        "noop": noop(),
        "rss_bytes_before": resp.number(before, "used_memory_rss"),
        "rss_bytes_after": resp.number(before, "used_memory_rss"),
        "used_bytes": resp.number(before, "used_memory"),
        "fragmentation_bytes": max(resp.number(before, "allocator_frag_bytes"), 0) + max(resp.number(before, "allocator_rss_bytes"), 0),
    }
    if noop():
        print("noop: would purge; %s resident, %s used, about %s free in the allocator" % (
            human(result["rss_bytes_before"]), human(result["used_bytes"]), human(result["fragmentation_bytes"]),
        ))  # fmt: skip
        return finish(result)
    try:
        server.ask("MEMORY", "PURGE")
    except resp.Refused as error:
        raise Stop(FAILED, "the server refuses MEMORY PURGE: %s" % error)
    result["rss_bytes_after"] = resp.number(resp.info(server, "memory"), "used_memory_rss")
    print("purged: %s resident before, %s after" % (human(result["rss_bytes_before"]), human(result["rss_bytes_after"])))
    return finish(result)


main(action)
