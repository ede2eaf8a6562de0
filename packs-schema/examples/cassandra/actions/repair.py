#!/usr/bin/env python3
"""Repairs a part of the primary ranges of this node, range by range."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import nodetool  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, counted, finish, main, noop, parameters  # noqa: E402

# Of a range, at most; Cassandra itself goes on with a range whose nodetool was ended.
RANGE_SECONDS = 4 * 3600.0
RESERVE = 60.0
BUSY = ("validation", "anticompaction", "anti-compaction")


class Refusal(Exception):
    """Reason for which no further range is repaired: outcome and text."""


def action():
    given, deadline = parameters(), Deadline(12 * 3600.0 - 30)
    if given["piece"] > given["pieces"]:
        raise Stop(WRONG, "there is no piece %d of %d" % (given["piece"], given["pieces"]))
    address = own_address()
    ranges = nodetool.primary_ranges(given["keyspace"], address, 60.0)
    if not ranges:
        raise Stop(WRONG, "this node (%s) is the first replica of no range of %s: it has no data of it, or only data of its own" % (address, given["keyspace"]))
    first, last = (len(ranges) * at // given["pieces"] for at in (given["piece"] - 1, given["piece"]))
    piece = ranges[first:last]
    result = {
        "noop": noop(), "keyspace": given["keyspace"], "address": address, "primary_ranges": len(ranges), "ranges": len(piece),
        "repaired": 0, "next_start_token": "", "reason": "",
    }  # fmt: skip
    print("piece %d of %d: %s of %d of %s" % (given["piece"], given["pieces"], counted(len(piece), "range"), len(ranges), given["keyspace"]))
    outcome = "would_repair" if noop() else "repaired"
    try:
        for at, (start, end, replicas) in enumerate(piece):
            result["next_start_token"] = str(start)
            check(given, piece[at:] if at == 0 else [(start, end, replicas)])
            if noop():
                break
            if deadline.left() < RESERVE:
                raise Refusal("deadline", "stopped before the end")
            repair(given, start, end, deadline)
            result["repaired"] += 1
            print("repaired (%d, %d]" % (start, end), flush=True)
        result["next_start_token"] = ""
    except Refusal as refusal:
        outcome, result["reason"] = refusal.args[0], clean(refusal.args[1], 400)
    finish(dict(result, outcome=outcome))
    if result["reason"]:
        print("%d of %d ranges repaired; %s" % (result["repaired"], len(piece), result["reason"]), file=sys.stderr)
        return FAILED
    print("noop: would repair %s" % counted(len(piece), "range") if noop() else "%s repaired" % counted(len(piece), "range"))
    return None


def own_address():
    """Returns the address under which the ring has this node: nodetool status and info both have its host id."""
    host = nodetool.info(60.0).get("ID", "")
    for node in nodetool.nodes(60.0):
        if node["host_id"] == host:
            return node["address"]
    raise Stop(FAILED, "the ring does not list this node (host id %s)" % (clean(host, 40) or "unknown"))


def check(given, ranges):
    """Raises Refusal unless the replicas are up and the node is not busy."""
    up = {node["address"] for node in nodetool.nodes(60.0) if node["up"]}
    # A replica that the ring does not list is not known to be up.
    missing = sorted({r for _, _, replicas in ranges for r in replicas} - up)
    if missing:
        raise Refusal("replicas_down", "replicas are down: %s" % ", ".join(missing[:20]))
    pending, running = nodetool.compactions(60.0)
    busy = [r for r in running if r["kind"].lower().startswith(BUSY)]
    if busy:
        raise Refusal("repair_running", "another repair runs on this node: %s of %s.%s" % (busy[0]["kind"], busy[0]["keyspace"], busy[0]["table"]))
    if pending > given["max_pending"]:
        raise Refusal("compactions_pending", "%d compactions are pending, more than %d" % (pending, given["max_pending"]))


def repair(given, start, end, deadline):
    words = ["repair", "-full", "-st", str(start), "-et", str(end), given["keyspace"]] + ([given["table"]] if given.get("table") else [])
    try:
        nodetool.run(words, min(RANGE_SECONDS, max(deadline.left() - 10, 1)))
    except Stop as stop:
        raise Refusal("range_failed", "range (%d, %d]: %s" % (start, end, stop))


main(action)
