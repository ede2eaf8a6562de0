#!/usr/bin/env python3
"""Asks each name server for a name, over UDP (RFC 1035), and the host's own resolver."""

import os
import re
import socket
import struct
import sys
import threading
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Deadline, Stop, clean, finish, main, parameters, read, table  # noqa: E402

CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
MAX_ADDRESSES = 20
ABSENT = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def action():
    given, deadline = parameters(), Deadline(200.0)
    name = given["name"].rstrip(".")
    if any(not 1 <= len(label) <= 63 for label in name.split(".")):
        raise Stop(WRONG, "name: every part must have 1 to 63 characters")
    servers = [ask(server, name, given, deadline) for server in given.get("servers") or configured()]
    resolver, absent = resolve(name, min(15.0, deadline.left()))
    # Without an address anywhere, the resolver is right that there is none.
    working = not resolver["problem"] or absent and not any(s["addresses"] for s in servers)
    result = {"name": name, "healthy": working and all(not s["problem"] for s in servers), "servers": servers, "resolver": resolver}
    table(
        [(s["server"], "%d/%d" % (s["answered"], s["sent"]), s["code"] or "-", "%.1f" % s["max_ms"], s["problem"] or "ok", " ".join(s["addresses"][:4])) for s in servers],
        ("SERVER", "ANSWERED", "CODE", "MAX MS", "STATE", "ADDRESSES"), right=(1, 3),
    )  # fmt: skip
    own = result["resolver"]
    print("the host's resolver: %s in %.1f ms" % (own["problem"] or " ".join(own["addresses"][:4]), own["ms"]))
    finish(result)
    return None if result["healthy"] else FAILED


def configured():
    servers = []
    for line in (read("/etc/resolv.conf", 1 << 16) or b"").decode("ascii", "replace").splitlines():
        match = re.match(r"^\s*nameserver\s+([0-9A-Fa-f.:]+)(%[A-Za-z0-9._-]+)?\s*$", line)
        if match:
            servers.append(match.group(1) + (match.group(2) or ""))  # A link-local address is none without its interface.
    if not servers:
        raise Stop(UNAVAILABLE, "/etc/resolv.conf of this host names no server; pass servers")
    return servers[:3]  # As the C library does.


def ask(server, name, given, deadline):
    address, _, port = server.partition("#")
    port = int(port or "53")
    row = {"server": clean(server, 60), "sent": 0, "answered": 0, "code": "", "addresses": [], "min_ms": 0.0, "max_ms": 0.0, "problem": ""}
    times = []
    for _ in range(given["tries"]):
        if deadline.passed():
            break
        row["sent"] += 1
        began = time.monotonic()
        try:
            answer = exchange(address, port, name, given["timeout_ms"] / 1000.0)
        except socket.timeout:
            row["problem"] = "no answer within %d ms" % given["timeout_ms"]
            continue
        except (OSError, OverflowError, ValueError) as error:
            row["problem"] = clean(str(getattr(error, "strerror", None) or error), 100)
            continue
        times.append(1000.0 * (time.monotonic() - began))
        row["answered"] += 1
        row["code"], row["addresses"] = answer
        if row["code"] not in ("NOERROR", "NXDOMAIN"):
            row["problem"] = "the server answers %s" % row["code"]
    if times:
        row["min_ms"], row["max_ms"] = round(min(times), 2), round(max(times), 2)
    return row


def exchange(address, port, name, seconds):
    """Sends one question for addresses (A); returns the response code and the addresses."""
    number = os.urandom(2)
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".")) + b"\0"
    question = number + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + struct.pack("!HH", 1, 1)
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))  # Datagrams of others are not received.
        sock.send(question)
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise socket.timeout()
            sock.settimeout(left)
            answer = sock.recv(4096)
            if len(answer) >= 12 and answer[:2] == number and answer[2] & 0x80:
                return CODES.get(answer[3] & 15, "code %d" % (answer[3] & 15)), addresses(answer)


def addresses(answer):
    """Returns the IPv4 addresses of an answer, as far as it can be parsed."""
    found = []
    try:
        questions, answers = struct.unpack("!HH", answer[4:8])
        at = 12
        for _ in range(min(questions, 4)):
            at = skip(answer, at) + 4
        for _ in range(min(answers, 100)):
            at = skip(answer, at)
            kind, _, _, size = struct.unpack("!HHIH", answer[at : at + 10])
            at += 10
            if kind == 1 and size == 4 and at + 4 <= len(answer) and len(found) < MAX_ADDRESSES:
                found.append(socket.inet_ntoa(answer[at : at + 4]))
            at += size
    except (struct.error, IndexError):
        pass
    return found


def skip(answer, at):
    """Returns the position after a name, which may end in a pointer."""
    while answer[at]:
        if answer[at] & 0xC0:
            return at + 2
        at += answer[at] + 1
    return at + 1


def resolve(name, seconds):
    """Asks the C library in a thread, because it has no time limit of its own. Returns its answer, and whether that is the
    absence of the name or of its addresses."""
    answer = {}

    def work():
        try:
            answer["found"] = sorted({entry[4][0] for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
        except (OSError, UnicodeError) as error:
            answer["problem"] = clean(str(getattr(error, "strerror", None) or error), 100)
            answer["absent"] = isinstance(error, socket.gaierror) and error.errno in ABSENT

    began = time.monotonic()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    spent = round(1000.0 * (time.monotonic() - began), 2)
    problem = answer.get("problem", "") or ("" if "found" in answer else "no answer within %.0f s" % seconds)
    found = [clean(a, 60) for a in answer.get("found", [])[:MAX_ADDRESSES]]
    return {"addresses": found, "ms": spent, "problem": problem}, answer.get("absent", False)


main(action)
