#!/usr/bin/env python3
"""Shows the ring and the state of this node."""

import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import nodetool  # noqa: E402
from lib.bolt_action import FAILED, Deadline, clean, finish, main, table  # noqa: E402


def action():
    deadline = Deadline(160.0)
    nodes, info = nodetool.nodes(deadline.left()), nodetool.info(deadline.left())
    heap = re.match(r"^([0-9.,]+) / ([0-9.,]+)", info.get("Heap Memory (MB)", ""))
    number = lambda text: int(text) if text.isdigit() else 0  # noqa: E731
    bad = [n for n in nodes if not n["up"] or n["state"] != "normal"]
    result = {
        "nodes": sorted(nodes, key=lambda n: (n["up"] and n["state"] == "normal", n["datacenter"], n["address"])),
        "down": len(bad),
        "this_node": {
            "host_id": clean(info.get("ID", ""), 40),
            "gossip": info.get("Gossip active") == "true",
            "native_transport": info.get("Native Transport active") == "true",
            "uptime_seconds": number(info.get("Uptime (seconds)", "")),
            "heap_used_mib": decimal(heap.group(1)) if heap else -1,
            "heap_max_mib": decimal(heap.group(2)) if heap else -1,
            "exceptions": number(info.get("Exceptions", "")),
        },
    }
    problems = ["%s in %s is %s, %s" % (n["address"], n["datacenter"], "up" if n["up"] else "down", n["state"]) for n in bad]
    if not result["this_node"]["gossip"]:
        problems.append("gossip of this node is off")
    if not result["this_node"]["native_transport"]:
        problems.append("this node takes no clients (native transport is off)")
    result["problems"] = problems[:100]
    show(result)
    finish(result)
    return FAILED if problems else None


def decimal(text):
    return float(text.replace(",", "."))


def show(result):
    this = result["this_node"]
    print("%d nodes, %d not up and normal; this node: up %d s, heap %s of %s MiB, %d exceptions" % (
        len(result["nodes"]), result["down"], this["uptime_seconds"], this["heap_used_mib"], this["heap_max_mib"], this["exceptions"],
    ))  # fmt: skip
    table(
        [("up" if n["up"] else "DOWN", n["state"], n["address"], n["load"], n["owns"], n["datacenter"], n["rack"], n["host_id"]) for n in result["nodes"]],
        ("", "STATE", "ADDRESS", "LOAD", "OWNS", "DATACENTER", "RACK", "HOST ID"), right=(3, 4),
    )  # fmt: skip
    for problem in result["problems"]:
        print("PROBLEM: " + problem)


main(action)
