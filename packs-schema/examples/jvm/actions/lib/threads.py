"""Parses thread dumps of HotSpot (Thread.print)."""

import io
import re

from lib.bolt_action import clean

# "main" #1 prio=5 os_prio=0 cpu=63.58ms elapsed=10.79s tid=0x00007f nid=0x1f03 waiting on condition  [0x00007f]
# Java 21 and later: "main" #1 [7939] prio=5 ...
HEAD = re.compile(rb'^"(.*)" (?:#\d+ )?(?:\[(\d+)\] )?(?:daemon )?(?:prio=|os_prio=)(.*)$')
CPU = re.compile(rb"\bcpu=([0-9.]+)ms")
NID = re.compile(rb"\bnid=(0x[0-9a-f]+|\d+)")
STATE = re.compile(rb"^\s+java\.lang\.Thread\.State: (\w+)")
LOCK = re.compile(rb"^\s+- (waiting to lock|parking to wait for|locked|waiting to re-lock in wait\(\)|waiting on) +<(0x[0-9a-f]+)> \(a ([^)]*)\)")
MAX_THREADS = 50000


def parse(text):
    """Returns the threads of a dump: name, tid, cpu in ms (or None), state, frames, locks held and waited for."""
    found, known = [], {}  # Thousands of threads of a pool have the same frames, which are kept once.
    for line in io.BytesIO(text):
        line = line.rstrip(b"\n")
        head = HEAD.match(line)
        if head:
            if len(found) >= MAX_THREADS:
                break
            cpu, nid = CPU.search(line), NID.search(line)
            number = head.group(2) or (nid.group(1) if nid else b"0")
            found.append({
                "name": clean(head.group(1), 120),
                "tid": int(number, 0),
                "cpu": float(cpu.group(1)) if cpu else None,
                "state": "",
                "frames": [],
                "holds": [],
                "waits": None,
                "released": None,
            })  # fmt: skip
        elif found and line.strip():
            detail(found[-1], line, known)
        elif not line.strip() and found and found[-1]["state"]:
            found[-1]["closed"] = True
    return found


def detail(thread, line, known):
    if thread.get("closed"):
        return  # What follows the threads, such as a deadlock, has locks as well.
    state = STATE.match(line)
    lock = LOCK.match(line)
    if state and not thread["state"]:
        thread["state"] = state.group(1).decode()
    elif lock:
        kind, address, name = lock.groups()
        if kind == b"waiting on":
            thread["released"] = address
        elif kind == b"locked":
            # Java 8 calls a lock `locked` also while Object.wait() has released it.
            thread["holds"] += [address.decode()] if address != thread["released"] else []
        elif thread["waits"] is None and kind in (b"waiting to lock", b"parking to wait for", b"waiting to re-lock in wait()"):
            thread["waits"] = (address.decode(), clean(name, 120))
    elif line.lstrip().startswith(b"at ") and len(thread["frames"]) < 200:
        if line not in known:
            known[line] = clean(line.strip()[3:], 200)
        thread["frames"].append(known[line])


def deadlock(text):
    return re.search(rb"^Found (?:one|\d+) (?:Java-level )?deadlock", text, re.MULTILINE) is not None
