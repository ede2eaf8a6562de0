"""Reads /proc: processes, their names, cgroups and descriptors.

A process chooses its own name and arguments, and may exit between two reads; the functions then return None.
"""

import os
import re

from lib.bolt_action import WRONG, Stop, clean, read

MAX_PROCESSES = 200000


def pids():
    """Returns the pids of visible processes, sorted."""
    found = []
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                found.append(int(entry.name))
                if len(found) >= MAX_PROCESSES:
                    break
    return sorted(found)


def stat(pid):
    """Returns name, state, CPU ticks, start time in ticks, and resident pages of a process."""
    text = read("/proc/%d/stat" % pid, 4096)
    if not text:
        return None
    # The name is in parentheses and may contain parentheses, spaces and newlines: the last parenthesis closes it.
    head, close, tail = text.rpartition(b")")
    fields = tail.split()
    if not close or len(fields) < 22:
        return None
    try:
        return {
            "name": clean(head.partition(b"(")[2], 32),
            "state": clean(fields[0], 4),
            "ppid": int(fields[1]),
            "ticks": int(fields[11]) + int(fields[12]),
            "started": int(fields[19]),
            "rss_pages": int(fields[21]),
        }
    except ValueError:
        return None


def thread_states(pid):
    """Returns the states of the threads of a process by their ids, as bytes; empty if it has exited."""
    try:
        tids = [int(name) for name in os.listdir("/proc/%d/task" % pid)]
    except OSError:
        return {}
    found = {}
    for tid in tids:
        state = (read("/proc/%d/task/%d/stat" % (pid, tid), 4096) or b"").rpartition(b")")[2].split()[:1]
        if state:
            found[tid] = state[0]
    return found


def ended(pid, process):
    """True if the process of stat() has ended and only waits for its parent.

    Its first thread alone also looks like a zombie once it has ended, while others go on: in state D, or by design."""
    return process["state"] in ("Z", "X") and all(state in (b"Z", b"X") for state in thread_states(pid).values())


def name(pid):
    """Returns the printable name of a process; `?` if it has exited."""
    text = read("/proc/%d/comm" % pid, 64)
    return clean(text[:-1] if text.endswith(b"\n") else text, 32) if text else "?"


def status_kib(pid, key):
    """Returns a value in kB of /proc/<pid>/status, in bytes; 0 if it is absent."""
    # The name comes first in that file, with newlines escaped by the kernel, so a line of its own cannot be forged.
    match = re.search(rb"^" + key + rb":\s+([0-9]+) kB$", read("/proc/%d/status" % pid, 8192) or b"", re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def cgroup(pid):
    """Returns the cgroup of a process: of the unified hierarchy if in use, otherwise the deepest of version 1."""
    best = b""
    for line in (read("/proc/%d/cgroup" % pid, 1 << 16) or b"").split(b"\n"):
        parts = line.split(b":", 2)
        if len(parts) == 3 and parts[2] != b"/":
            if parts[0] == b"0":
                return clean(parts[2], 160)
            if len(parts[2]) > len(best):
                best = parts[2]
    return clean(best or b"/", 160)


def descriptors(pid):
    """Returns pairs of descriptor number and link target, as bytes; None if they cannot be read."""
    try:
        names = os.listdir("/proc/%d/fd" % pid)
        if names:
            os.readlink("/proc/%d/fd/%s" % (pid, names[0]))
    except PermissionError:
        return None
    except OSError:
        names = []
    return _links(pid, names)


def _links(pid, names):
    for number in names:
        try:
            yield int(number), os.readlink(b"/proc/%d/fd/%s" % (pid, number.encode()))
        except (OSError, ValueError):
            continue


def uid(pid):
    """Returns the real user id of a process; -1 if it has exited."""
    match = re.search(rb"^Uid:\s+([0-9]+)", read("/proc/%d/status" % pid, 8192) or b"", re.MULTILINE)
    return int(match.group(1)) if match else -1


def require(pid, started):
    """Returns stat() of a process; stops the action unless it exists and (if `started` is given) has that start time."""
    process = stat(pid)
    if process is None:
        raise Stop(WRONG, "there is no process %d" % pid)
    if started is not None and process["started"] != started:
        raise Stop(WRONG, "process %d is another one now: it started at %d ticks, not %d" % (pid, process["started"], started))
    return process
