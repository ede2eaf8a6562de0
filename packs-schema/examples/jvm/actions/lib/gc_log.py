"""Finds and parses the log of the garbage collector: unified logging (Java 9 and later), and that of Java 8."""

import os
import re
import stat

from lib import processes
from lib.attach import as_owner
from lib.bolt_action import UNAVAILABLE, Stop, clean

ROTATED = re.compile(r"^\.[0-9]+(\.current)?$")
UNITS = {b"K": 1 << 10, b"M": 1 << 20, b"G": 1 << 30}
# [2026-11-29T10:00:00.123+0000][0.123s][info][gc] GC(5) Pause Young (Normal) (G1 Evacuation Pause) 24M->3M(256M) 3.124ms
UNIFIED = re.compile(rb"GC\(\d+\) (?:\w: )?(Pause .*?)(?: (\d+)([KMG])->(\d+)([KMG])\((\d+)([KMG])\))? ([0-9.]+)ms\s*$")
UPTIME = re.compile(rb"\[([0-9]+\.[0-9]+)s\]")
UPTIME_MS = re.compile(rb"\[([0-9]+)ms\]")
# 2026-11-29T10:00:00.123+0000: 0.123: [GC (Allocation Failure) [PSYoungGen: ...] 65536K->10748K(251392K), 0.0085 secs]
JAVA_8 = re.compile(rb"([0-9]+\.[0-9]+): .*?\[(Full GC|GC) \(([^)]*)\)")
HEAP_8 = re.compile(rb"[\] ](\d+)K->(\d+)K\((\d+)K\)(?:, \[Metaspace: [^\]]*\])?, ([0-9.]+) secs\]")


def path(pid):
    """Returns the path of the log that the command line of a process names, as the process sees it."""
    found = ""
    for word in processes.command_line(pid):
        match = re.match(r"^-Xlog:([^:]*):(?:file=)?(\"[^\"]+\"|[^:]+)", word)
        if match and "gc" in match.group(1) and match.group(2) not in ("stdout", "stderr"):
            found = match.group(2).strip('"')
        elif word.startswith("-Xloggc:"):
            found = word[len("-Xloggc:") :]
    if not found:
        raise Stop(UNAVAILABLE, "process %d writes no log of its garbage collector to a file: start it with -Xlog:gc*:file=..." % pid)
    if "%" in found:
        raise Stop(UNAVAILABLE, "the name of the log has a variable, which is not supported: %s" % clean(found))
    return found


def tail(pid, limit):
    """Returns the end of the log, its size and its path; read as the account of the process, in its root directory."""
    name = path(pid)
    base = "/proc/%d/root" % pid if name.startswith("/") else "/proc/%d/cwd/" % pid
    with as_owner(pid):
        try:
            name = current(base, name)
            log = open(base + name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError as error:
            raise Stop(UNAVAILABLE, "%s cannot be read: %s" % (clean(name), error.strerror))
    with log:
        info = os.fstat(log.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise Stop(UNAVAILABLE, "%s is not a regular file" % clean(name))
        log.seek(max(info.st_size - limit, 0))
        return log.read(limit), info.st_size, name


def current(base, name):
    """Returns the name of the file that is written: with its rotation, Java 8 writes name.0.current, not name."""
    if os.path.lexists(base + name):
        return name
    directory, prefix = os.path.split(base + name)
    found = []
    for entry in os.scandir(directory):
        if ROTATED.match(entry.name[len(prefix) :]) and entry.name.startswith(prefix):
            try:
                found.append((entry.stat().st_mtime_ns, entry.name))
            except OSError:
                continue  # Renamed meanwhile.
    return os.path.join(os.path.dirname(name), max(found)[1]) if found else name


def pauses(text):
    """Yields uptime in seconds (or None), kind, milliseconds, heap before, after and size (or None) of each pause."""
    begun = None
    for line in text.split(b"\n"):
        unified = UNIFIED.search(line[:2048])
        if unified:
            kind, before, unit, after, unit_after, total, unit_total, ms = unified.groups()
            up, up_ms = UPTIME.search(line), UPTIME_MS.search(line)
            heap = (size(before, unit), size(after, unit_after), size(total, unit_total)) if before else None
            yield float(up.group(1)) if up else float(up_ms.group(1)) / 1000 if up_ms else None, clean(kind.strip(), 80), float(ms), heap
            continue
        head = JAVA_8.search(line[:2048])
        sizes = HEAP_8.findall(line[:2048])
        if head and not sizes:
            # With -XX:+PrintTenuringDistribution, as of Cassandra 3.11, lines about ages are between a pause and its sizes.
            begun = None if b" secs]" in line else head
            continue
        head, begun = (head or begun, None) if sizes else (None, begun)
        if head and sizes:
            before, after, total, seconds = sizes[-1]
            kind = "%s (%s)" % (clean(head.group(2), 10), clean(head.group(3), 60))
            yield float(head.group(1)), kind, 1000 * float(seconds), (int(before) << 10, int(after) << 10, int(total) << 10)


def size(number, unit):
    return int(number) * UNITS[unit]
