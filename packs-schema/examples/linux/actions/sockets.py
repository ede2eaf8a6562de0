#!/usr/bin/env python3
"""Shows sockets by protocol and state, by process and by peer, and listeners; reads only /proc."""

import ipaddress
import struct
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import UNAVAILABLE, Deadline, Stop, finish, main, parameters, table  # noqa: E402

MAX_SOCKETS = 300000
PROTOCOLS = ("tcp", "tcp6", "udp", "udp6")
# include/net/tcp_states.h
STATES = {
    1: "established", 2: "syn_sent", 3: "syn_received", 4: "fin_wait_1", 5: "fin_wait_2", 6: "time_wait",
    7: "close", 8: "close_wait", 9: "last_ack", 10: "listen", 11: "closing", 12: "new_syn_received",
}  # fmt: skip


def action():
    given = parameters()
    top = given["top"]
    deadline = Deadline(600.0)
    sockets, complete = read_sockets(deadline)
    owners, unseen, all_seen = owners_of({s["inode"] for s in sockets if s["inode"]}, deadline)
    complete = complete and all_seen
    states, processes, peers, listening = {}, {}, {}, []
    for socket in sockets:
        label = "%s %s" % (socket["protocol"].rstrip("6"), socket["state"])
        states[label] = states.get(label, 0) + 1
        owner = owners.get(socket["inode"])
        count(processes, owner, socket)
        if socket["state"] == "listen" or (socket["protocol"].startswith("udp") and socket["state"] != "established"):
            listening.append(listener(socket, owner))
        elif socket["state"] != "time_wait" or given["time_wait_peers"]:
            peers[socket["peer"]] = peers.get(socket["peer"], 0) + 1
    result = {
        "sockets": len(sockets),
        "complete": complete,
        "states": states,
        "processes": largest(processes.values(), top),
        "listening": sorted(listening, key=lambda l: (l["protocol"], l["port"], l["address"]))[: 4 * top],
        "peers": [{"address": a, "sockets": n} for a, n in sorted(peers.items(), key=lambda p: (-p[1], p[0]))[:top]],
        "processes_not_readable": unseen,
    }
    show(result)
    finish(result)


def read_sockets(deadline):
    """Returns the sockets of this network namespace; the flag is False if the list is incomplete."""
    found, tables = [], 0
    for protocol in PROTOCOLS:
        try:
            with open("/proc/net/" + protocol, "rb", buffering=1 << 16) as lines:
                tables += 1
                next(lines, None)
                for line in lines:
                    socket = parse(protocol, line)
                    if socket is not None:
                        found.append(socket)
                    if len(found) >= MAX_SOCKETS or (len(found) % 1024 == 0 and deadline.passed()):
                        return found, False
        except OSError:
            continue  # A kernel without IPv6 has no such table.
    if not tables:
        raise Stop(UNAVAILABLE, "cannot read /proc/net/tcp")
    return found, True


def parse(protocol, line):
    fields = line.split()
    if len(fields) < 10:
        return None
    try:
        address, port = endpoint(fields[1])
        peer, _ = endpoint(fields[2])
        send, receive = fields[4].split(b":")
        return {
            "protocol": protocol,
            "address": address,
            "port": port,
            "peer": peer,
            "state": STATES.get(int(fields[3], 16), "other"),
            "send": int(send, 16),
            "receive": int(receive, 16),
            "inode": int(fields[9]),
        }
    except (ValueError, struct.error):
        return None


def endpoint(text):
    """Parses `0100007F:1F90`: address in words of native byte order, and port."""
    words, port = text.split(b":")
    raw = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)


def owners_of(inodes, deadline):
    """Returns the process of each socket (the first one if shared), and the number of processes that could not be read."""
    owners, unseen = {}, 0
    for pid in proc.pids():
        if deadline.passed():
            return owners, unseen, False
        links = proc.descriptors(pid)
        if links is None:
            unseen += 1
            continue
        name = None
        for _, target in links:
            if target.startswith(b"socket:[") and target.endswith(b"]") and target[8:-1].isdigit():
                inode = int(target[8:-1])
                if inode in inodes and inode not in owners:
                    name = name or proc.name(pid)
                    owners[inode] = (pid, name)
    return owners, unseen, True


def count(processes, owner, socket):
    # Sockets in TIME-WAIT have no owner; others without one belong to processes that could not be read.
    pid, name = owner or (0, "(no process)" if not socket["inode"] else "(unknown)")
    entry = processes.setdefault(
        (pid, name), {"pid": pid, "name": name, "sockets": 0, "states": {}, "receive_queue_bytes": 0, "send_queue_bytes": 0}
    )
    entry["sockets"] += 1
    entry["states"][socket["state"]] = entry["states"].get(socket["state"], 0) + 1
    if socket["state"] != "listen":  # There the queues count connections, not bytes.
        entry["receive_queue_bytes"] += socket["receive"]
        entry["send_queue_bytes"] += socket["send"]


def listener(socket, owner):
    pid, name = owner or (0, "(unknown)")
    entry = {"protocol": socket["protocol"], "address": socket["address"], "port": socket["port"], "pid": pid, "name": name}
    entry["waiting"] = socket["receive"] if socket["state"] == "listen" else 0
    return entry


def largest(processes, top):
    return sorted(processes, key=lambda p: (-p["sockets"], p["pid"]))[:top]


def show(result):
    print("%d sockets of this network namespace%s" % (result["sockets"], "" if result["complete"] else " (INCOMPLETE: too many, or the deadline was reached)"))
    print("\nBy state")
    table([(n, s) for s, n in sorted(result["states"].items(), key=lambda s: -s[1])], ("SOCKETS", "STATE"), right=(0,))
    print("\nBy process")
    rows = []
    for p in result["processes"]:
        states = ", ".join("%d %s" % (n, s) for s, n in sorted(p["states"].items(), key=lambda s: -s[1]))
        rows.append((p["sockets"], p["pid"] or "-", p["receive_queue_bytes"], p["send_queue_bytes"], p["name"], states))
    table(rows, ("SOCKETS", "PID", "RECV-Q", "SEND-Q", "NAME", "STATES"), right=(0, 1, 2, 3))
    print("\nListening (WAITING: connections not yet accepted)")
    rows = [(l["protocol"], "%s %d" % (l["address"], l["port"]), l["waiting"], l["pid"] or "-", l["name"]) for l in result["listening"]]
    table(rows, ("PROTOCOL", "ADDRESS PORT", "WAITING", "PID", "NAME"), right=(2, 3))
    print("\nBy peer")
    table([(p["sockets"], p["address"]) for p in result["peers"]], ("SOCKETS", "PEER"), right=(0,))
    if result["processes_not_readable"]:
        print("\n%d processes of other users could not be read" % result["processes_not_readable"])


main(action)
