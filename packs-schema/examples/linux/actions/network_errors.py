#!/usr/bin/env python3
"""Shows errors and drops of interfaces and protocols, since boot and in a short sample."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import Deadline, clean, finish, human, main, parameters, read, table  # noqa: E402

# Columns of /proc/net/dev.
INTERFACE = ("received", "", "receive_errors", "receive_drops", "receive_fifo", "receive_frame", "", "",
             "sent", "", "send_errors", "send_drops", "send_fifo", "collisions", "carrier_errors", "")  # fmt: skip
# Counters of /proc/net/snmp and netstat that mean a problem.
PROBLEMS = {
    "Tcp": ("RetransSegs", "InErrs", "AttemptFails"),
    "Udp": ("InErrors", "RcvbufErrors", "SndbufErrors", "InCsumErrors"),
    "Ip": ("InDiscards", "OutDiscards", "OutNoRoutes", "ReasmFails"),
    "TcpExt": ("ListenOverflows", "ListenDrops", "TCPTimeouts", "TCPAbortOnMemory", "TCPAbortOnTimeout", "TCPBacklogDrop",
               "TCPRcvQDrop", "TCPReqQFullDrop", "TCPReqQFullDoCookies", "PruneCalled", "TCPSynRetrans", "TCPMemoryPressures"),
}  # fmt: skip


def action():
    given = parameters()
    links, counts, began = interfaces(), counters(), time.monotonic()
    time.sleep(min(given["seconds"], Deadline(45.0).left()))
    elapsed, links_after, counts_after = time.monotonic() - began, interfaces(), counters()
    rows = []
    for name, after in sorted(links_after.items()):
        before = links.get(name, after)
        grown = {key: max(after[key] - before.get(key, 0), 0) for key in after}
        errors = [key for key in after if key not in ("received", "sent")]
        rows.append({
            "name": name,
            "state": clean((read("/sys/class/net/%s/operstate" % name, 32) or b"unknown").strip(), 20) if "/" not in name else "unknown",
            "received_bytes": grown["received"],
            "sent_bytes": grown["sent"],
            "total": {key: after[key] for key in errors if after[key]},
            "growth": {key: grown[key] for key in errors if grown[key]},
        })  # fmt: skip
    growth = {key: value - counts.get(key, 0) for key, value in counts_after.items() if value > counts.get(key, 0)}
    result = {
        "seconds": round(elapsed, 3),
        "interfaces": rows,
        "total": {key: value for key, value in counts_after.items() if value},
        "growth": growth,
        "conntrack_percent": conntrack(),
        "growing": bool(growth) or any(row["growth"] for row in rows),
    }
    listed = lambda pairs: ", ".join("%s %d" % pair for pair in sorted(pairs.items())) or "-"  # noqa: E731
    table(
        [(r["name"], r["state"], human(r["received_bytes"]), human(r["sent_bytes"]), listed(r["growth"]), listed(r["total"])) for r in rows],
        ("INTERFACE", "STATE", "RECEIVED", "SENT", "NEW ERRORS", "SINCE BOOT"), right=(2, 3),
    )  # fmt: skip
    print("\nnew in %.1f s: %s\nsince boot: %s" % (elapsed, listed(growth), listed(result["total"])))
    if result["conntrack_percent"] >= 0:
        print("connection tracking table: %d%% full" % result["conntrack_percent"])
    finish(result)


def interfaces():
    found = {}
    for line in (read("/proc/net/dev") or b"").splitlines()[2:]:
        name, _, rest = line.rpartition(b":")
        values = rest.split()
        if name and len(values) >= 16 and all(value.isdigit() for value in values):
            found[clean(name.strip(), 40)] = {key: int(value) for key, value in zip(INTERFACE, values) if key}
    return found


def counters():
    found = {}
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        lines = (read(path) or b"").decode("ascii", "replace").splitlines()
        for heads, values in zip(lines[::2], lines[1::2]):
            group, _, keys = heads.partition(":")
            for key, value in zip(keys.split(), values.partition(":")[2].split()):
                if key in PROBLEMS.get(group, ()) and value.isdigit():
                    found["%s.%s" % (group, key)] = int(value)
    dropped = squeezed = 0
    for line in (read("/proc/net/softnet_stat") or b"").splitlines():
        fields = line.split()
        if len(fields) >= 3:
            dropped, squeezed = dropped + int(fields[1], 16), squeezed + int(fields[2], 16)
    found.update({"softnet.dropped": dropped, "softnet.out_of_budget": squeezed})
    return found


def conntrack():
    values = [(read("/proc/sys/net/netfilter/nf_conntrack_" + name, 32) or b"").strip() for name in ("count", "max")]
    if not all(value.isdigit() for value in values) or not int(values[1]):
        return -1
    return 100 * int(values[0]) // int(values[1])


main(action)
