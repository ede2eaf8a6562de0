#!/usr/bin/env python3
"""Lists problems in the kernel log: OOM kills, I/O and file system errors, hung tasks, lockups, hardware, network."""

import errno
import os
import re
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import UNAVAILABLE, Deadline, Stop, clean, finish, main, parameters, read, utc  # noqa: E402
from lib.command import run  # noqa: E402

MAX_RECORDS = 200000
# The first kind that matches a line is its kind.
KINDS = (
    ("oom", rb"Out of memory|oom-kill:|invoked oom-killer|Memory cgroup out of memory|oom_reaper"
            rb"|[Kk]illed process [0-9]"),  # A line of its own, without a prefix, in Linux before 5.0.
    ("io", rb"I/O error|critical (medium|target|space allocation) error|blk_update_request|Buffer I/O|nvme.*(timeout|reset|abort)"
           rb"|ata[0-9.]+: (exception|failed|error|SError)|rejecting I/O|lost page write|device offline"),
    ("filesystem", rb"(EXT4-fs|XFS|BTRFS|F2FS).*(error|corrupt|shutdown|[Rr]emount|warning)|Remounting filesystem read-only|nfs: server .* not responding"),
    ("hung", rb"blocked for more than [0-9]+ seconds|hung_task"),
    ("lockup", rb"(soft|hard) lockup|rcu.*(stall|detected)|NMI watchdog: (BUG|Watchdog)|BUG: |Oops|general protection fault|Call Trace|kernel panic"),
    ("hardware", rb"Machine check|mce: |EDAC|Hardware Error|temperature above threshold|throttled"),
    ("network", rb"nf_conntrack.*full|[Nn]eighbou?r table overflow|NIC Link is Down|link is not ready|NETDEV WATCHDOG"
                rb"|[Pp]ossible SYN flooding|TCP: out of memory|ENA.*(reset|timeout)"),
    ("segfault", rb"segfault at|traps: |trap invalid opcode"),
)  # fmt: skip
PATTERNS = [(name, re.compile(pattern)) for name, pattern in KINDS]
KILLED = re.compile(rb"[Kk]illed process ([0-9]+),? \((.*?)\),? (?:UID |total-vm|,)")


def action():
    given = parameters()
    deadline = Deadline(45.0)
    source, records = first_source(deadline)
    wanted = set(given["kinds"])
    since = time.time() - 60 * given["since_minutes"] if given["since_minutes"] else 0.0
    excerpts, counts, killed = [], {}, []
    for moment, text in records:
        if moment is not None and moment < since:
            continue
        kind = next((name for name, pattern in PATTERNS if pattern.search(text)), None)
        if kind is None or kind not in wanted:
            continue
        counts[kind] = counts.get(kind, 0) + 1
        when = utc(moment) if moment is not None else ""
        excerpts.append({"time": when, "kind": kind, "text": clean(text, 300)})
        match = KILLED.search(text) if kind == "oom" else None
        if match:
            killed.append({"time": when, "pid": int(match.group(1)[:10]), "name": clean(match.group(2), 32)})
    result = {
        "source": source,
        "lines_read": len(records),
        "counts": counts,
        "oom_killed": killed[-50:],
        "excerpts": excerpts[-given["lines"] :],
    }
    show(result, given)
    finish(result)


def show(result, given):
    within = "in the last %d minutes" % given["since_minutes"] if given["since_minutes"] else "in the whole log"
    print("%d kernel messages read from %s; problems %s:" % (result["lines_read"], result["source"], within))
    print("  " + (", ".join("%d %s" % (n, k) for k, n in sorted(result["counts"].items())) or "none"))
    for killed in result["oom_killed"]:
        print("  OOM killed: %s pid %d  %s" % (killed["name"], killed["pid"], killed["time"]))
    if result["excerpts"]:
        print("\nThe last %d" % len(result["excerpts"]))
    for line in result["excerpts"]:
        print("  %-20s  %-10s  %s" % (line["time"], line["kind"], line["text"]))


def first_source(deadline):
    """Returns the first readable source of /dev/kmsg, journalctl and dmesg, and its records: pairs of Unix time (or None) and text."""
    for name, reader in (("/dev/kmsg", from_kmsg), ("journalctl -k", from_journal), ("dmesg", from_dmesg)):
        records = reader(deadline)
        if records is not None:
            return name, records
    raise Stop(
        UNAVAILABLE,
        "the kernel log cannot be read: /dev/kmsg is missing or not readable (as in most containers), and neither "
        "journalctl -k nor dmesg works; read the log on the container's host",
    )


def boot_time():
    uptime = (read("/proc/uptime", 128) or b"0").split()
    return time.time() - float(uptime[0])


def from_kmsg(deadline):
    # Documentation/ABI/testing/dev-kmsg: "priority,sequence,microseconds,flags;text\n KEY=value..." one record a read.
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    records, boot = [], boot_time()
    try:
        while len(records) < MAX_RECORDS and not deadline.passed():
            try:
                record = os.read(fd, 16384)
            except OSError as error:
                if error.errno == errno.EPIPE:  # The oldest records were overwritten meanwhile: continue with the next.
                    continue
                if error.errno == errno.EAGAIN:
                    return records
                return records or None
            head, _, text = record.partition(b";")
            fields = head.split(b",")
            # Facility 0 is the kernel; privileged programs write the others.
            if not record or len(fields) < 3 or not fields[0].isdigit() or int(fields[0]) >> 3 != 0:
                if not record:
                    return records or None
                continue
            moment = boot + int(fields[2]) / 1e6 if fields[2].isdigit() else None
            records.append((moment, unescape(text.split(b"\n", 1)[0])))
        return records
    finally:
        os.close(fd)


def unescape(text):
    """Decodes unprintable bytes, which the kernel writes as \\x0a."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m.group(1), 16)]), text)


def from_journal(deadline):
    answer = run(["journalctl", "-k", "-b", "--no-pager", "-q", "-o", "short-unix", "-n", "20000"], min(20.0, deadline.left()))
    if answer is None or answer[0] != 0 or not answer[1].strip():
        return None
    return [stamped(line, rb"^([0-9]+\.[0-9]+) \S+ kernel: ", 0.0) for line in answer[1].splitlines()]


def from_dmesg(deadline):
    answer = run(["dmesg"], min(10.0, deadline.left()))
    if answer is None or answer[0] != 0 or not answer[1].strip():
        return None
    boot = boot_time()
    return [stamped(line, rb"^\[ *([0-9]+\.[0-9]+)\] ", boot) for line in answer[1].splitlines()]


def stamped(line, pattern, base):
    match = re.match(pattern, line)
    return (base + float(match.group(1)), line[match.end() :]) if match else (None, line)


main(action)
