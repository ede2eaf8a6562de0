#!/usr/bin/env python3
"""Shows the allowance counters of the ENA driver."""

import os
import re
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import tool  # noqa: E402
from lib.bolt_action import FAILED, UNAVAILABLE, Stop, finish, main, parameters, table  # noqa: E402

COUNTER = re.compile(rb"^\s+(\w+)_allowance_(exceeded|available): (\d+)\s*$", re.MULTILINE)
NET, MAX_INTERFACES = "/sys/class/net", 15
NAMES = {
    "bw_in": "inbound bandwidth", "bw_out": "outbound bandwidth", "pps": "packets per second",
    "conntrack": "tracked connections", "linklocal": "local services",
}  # fmt: skip


def action():
    given = parameters()
    tool.find("ethtool", "it reads the counters of the driver")
    names = given.get("interfaces") or interfaces()
    first = {name: counters(name) for name in names}
    if not any(first.values()):
        raise Stop(UNAVAILABLE, "no interface (%s) has allowance counters: is this an EC2 instance with the ENA driver 2.2.10 or later?" % (", ".join(names) or "there is none"))
    at = time.monotonic()
    time.sleep(given["seconds"])
    result = {"seconds": round(time.monotonic() - at, 3), "interfaces": [], "problems": []}
    for name in names:
        before, now = first[name], counters(name) if first[name] else {}
        if not now:
            continue
        rising = {key: now[key] - before.get(key, 0) for key in now if key != "available" and now[key] > before.get(key, 0)}
        exceeded = {key: count for key, count in now.items() if key != "available"}
        result["interfaces"].append({"name": name, "exceeded": exceeded, "rising": rising, "connections_available": now.get("available", -1)})
        result["problems"] += ["%s exceeds its allowance for %s: %d packets" % (name, NAMES.get(key, key), count) for key, count in rising.items()]
        if now.get("available", -1) == 0:
            result["problems"].append("%s can track no further connection" % name)
    table(
        [(i["name"], NAMES.get(key, key), count, i["rising"].get(key, 0)) for i in result["interfaces"] for key, count in i["exceeded"].items()],
        ("INTERFACE", "ALLOWANCE", "EXCEEDED", "NOW"), right=(2, 3),
    )  # fmt: skip
    for problem in result["problems"]:
        print("PROBLEM: " + problem)
    finish(result)
    return FAILED if result["problems"] else None


def interfaces():
    """Returns the interfaces of the instance; beside them, a node of Kubernetes has a virtual one for each pod."""
    names = sorted(name for name in os.listdir(NET) if name != "lo")
    return ([name for name in names if os.path.exists("%s/%s/device" % (NET, name))] or names)[:MAX_INTERFACES]


def counters(name):
    """Returns packets by allowance, and `available` tracked connections; empty if the interface has no such counters."""
    status, out, _ = tool.run(["ethtool", "-S", name], 10, accept=None)
    found = {}
    if status == 0:
        for key, kind, count in COUNTER.findall(out):
            found["available" if kind == b"available" else key.decode()] = int(count)
    return found


main(action)
