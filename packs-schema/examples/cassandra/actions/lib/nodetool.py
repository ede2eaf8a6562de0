"""Asks Cassandra through nodetool, and parses what versions 3.11 to 5.0 print."""

import re

from lib import tool
from lib.bolt_action import FAILED, Stop, clean, config

HEAD, HOST_ID = r"^([UD?])([NLJMS])\s+(\S+)\s+(\?|[0-9.,]+ \w+)\s+", r"\s+([0-9a-f]{8}-[0-9a-f-]{27}|null)\s+"
# The host id of a node that left gossip without a trace is `null`.
# UN  127.0.0.1  174.31 KiB  256  100.0%  8d5ed9f4-7764-4dbd-bad8-43fddce94b7c  rack1
NODE = re.compile(HEAD + r"(\d+)\s+(\?|[0-9.,]+%)" + HOST_ID + r"(\S+)\s*$")
# Where every node has one token, the token is printed instead of the number of tokens:
# UN  127.0.0.1  174.31 KiB  33.3%  8d5ed9f4-7764-4dbd-bad8-43fddce94b7c  -9223372036854775808  rack1
NODE_OF_TOKEN = re.compile(HEAD + r"(\?|[0-9.,]+%)" + HOST_ID + r"(\S+)\s+(\S+)\s*$")
STATES = {"N": "normal", "L": "leaving", "J": "joining", "M": "moving", "S": "stopped"}
ACTIVE = re.compile(r"^([0-9a-f]{8}-[0-9a-f-]{27})\s+(.+?)\s+(\S+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(?:([0-9.,]+)%|n/a)\s*$")
TASK = re.compile(r"^[0-9a-f]{8}-[0-9a-f-]{27}\s+(.+)$")
RANGE = re.compile(r"TokenRange\(start_token:(-?\d+), end_token:(-?\d+), endpoints:\[([^\]]*)\]")


def run(arguments, seconds):
    """Returns the output of nodetool as text."""
    site = config()
    words = [site.get("nodetool", "nodetool"), "-p", str(site.get("jmx_port", 7199))]
    if site.get("jmx_user"):
        words += ["-u", site["jmx_user"]]
    if site.get("jmx_password_file"):
        words += ["-pwf", site["jmx_password_file"]]
    _, out, _ = tool.run(words + arguments, seconds)
    return out.decode("utf-8", "replace")


def nodes(seconds):
    """Returns the nodes of the ring."""
    found, center = [], ""
    for line in run(["status"], seconds).splitlines():
        if line.startswith("Datacenter: "):
            center = clean(line[len("Datacenter: ") :].strip(), 100)
        match, token = NODE.match(line), NODE_OF_TOKEN.match(line)
        if match:
            up, state, address, load, tokens, owns, host, rack = match.groups()
        elif token:
            up, state, address, load, owns, host, _, rack = token.groups()
            tokens = 1
        elif re.match(r"^[UD?][A-Z]\s+\S", line):
            # A repair depends on the list: no node may be overlooked.
            raise Stop(FAILED, "nodetool status describes a node in an unknown form: %s" % clean(line.strip(), 300))
        if match or token:
            found.append({
                "address": clean(address, 60),
                "datacenter": center,
                "rack": clean(rack, 100),
                "up": up == "U",
                "state": STATES[state],
                "load": clean(load, 30),
                "owns": clean(owns, 10),
                "tokens": int(tokens),
                "host_id": host,
            })  # fmt: skip
    if not found:
        raise Stop(FAILED, "nodetool status lists no node")
    return found


def info(seconds):
    """Returns the pairs of nodetool info."""
    found = {}
    for line in run(["info"], seconds).splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found[key.strip()] = value.strip()
    return found


def compactions(seconds):
    """Returns the number of pending compactions, and those that run."""
    pending, rows = None, []
    for line in run(["compactionstats"], seconds).splitlines():
        match = re.match(r"^pending tasks:?\s+(\d+)", line)
        if match:
            pending = int(match.group(1))
        active = ACTIVE.match(line)
        if active:
            _, kind, keyspace, table, done, total, unit, percent = active.groups()
            rows.append({
                "kind": clean(kind, 60),
                "keyspace": clean(keyspace, 48),
                "table": clean(table, 200),
                "done": int(done),
                "total": int(total),
                "unit": clean(unit, 20),
                "percent": float((percent or "0").replace(",", ".")),  # n/a: its size is not known yet.
            })  # fmt: skip
        elif TASK.match(line):
            # Of an unknown form: begins with its kind all the same, by which a running repair is noticed.
            kind = clean(TASK.match(line).group(1), 60)
            rows.append({"kind": kind, "keyspace": "?", "table": "?", "done": 0, "total": 0, "unit": "?", "percent": 0.0})
    if pending is None:
        raise Stop(FAILED, "nodetool compactionstats does not say how many tasks are pending")
    return pending, rows


def primary_ranges(keyspace, address, seconds):
    """Returns the token ranges of which the node is the first replica, in order, with all their replicas."""
    found = []
    for start, end, endpoints in RANGE.findall(run(["describering", keyspace], seconds)):
        replicas = [word.strip() for word in endpoints.split(",") if word.strip()]
        if replicas and replicas[0] == address:
            found.append((int(start), int(end), replicas))
    return sorted(found)
