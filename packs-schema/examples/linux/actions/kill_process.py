#!/usr/bin/env python3
"""Ends one process with a given pid and start time. Uses a pidfd where Python and the kernel have it, which cannot hit another process."""

import fnmatch
import os
import signal
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, config, finish, main, noop, parameters, read  # noqa: E402

NAME_LENGTH = 15  # Of names in /proc; the kernel cuts longer ones.
REFUSED = ("systemd*", "(sd-pam)", "init", "dbus-daemon", "dbus-broker*", "sshd", "bolt-*")


def action():
    given, deadline = parameters(), Deadline(350.0)
    pid, started = given["pid"], given["started"]
    handle = open_handle(pid)  # Before the check: what is checked afterwards is what the handle names.
    process = proc.require(pid, started)
    refuse(pid, process)
    result = {"pid": pid, "started": started, "name": process["name"], "noop": noop(), "cgroup": proc.cgroup(pid)}
    print("%s (pid %d, started %d, state %s, cgroup %s)" % (process["name"], pid, started, process["state"], result["cgroup"]))
    if noop():
        print("noop: would send TERM%s" % (", and KILL after %d s" % given["wait"] if given["kill"] else ""))
        finish(dict(result, outcome="would_signal"))
        return None
    send(handle, pid, started, signal.SIGTERM)
    outcome = "terminated" if gone(pid, started, min(given["wait"], deadline.left())) else "still_running"
    if outcome == "still_running" and given["kill"]:
        send(handle, pid, started, signal.SIGKILL)
        outcome = "killed" if gone(pid, started, min(10.0, deadline.left())) else "still_running"
    finish(dict(result, outcome=outcome))
    if outcome == "still_running":
        state = (proc.stat(pid) or {"state": "?"})["state"]
        raise Stop(FAILED, "the process still exists in state %s%s" % (state, "" if given["kill"] else "; pass kill=true to send KILL"))
    print("it is gone (%s)" % outcome)


def open_handle(pid):
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def refuse(pid, process):
    patterns, names = list(REFUSED) + list(config().get("kill_refused", [])), full_names(pid, process["name"])
    if any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns + [cut(p) for p in patterns]):
        raise Stop(WRONG, "%s is not ended by this action: the host, Bolt or the site depends on it" % process["name"])
    if process["ppid"] == 2 or not read("/proc/%d/cmdline" % pid, 1) and process["state"] != "Z" and kernel_thread(pid):
        raise Stop(WRONG, "process %d is a thread of the kernel" % pid)
    if proc.ended(pid, process):
        raise Stop(WRONG, "process %d is a zombie: it has ended, and goes when its parent %d collects it or ends" % (pid, process["ppid"]))
    if pid in ancestors():
        raise Stop(WRONG, "process %d is the action itself or started it" % pid)


def full_names(pid, name):
    """Returns the name of a process, and if the kernel has cut it, the names of its program and arguments that it may be from."""
    if len(name) < NAME_LENGTH:
        return [name]
    try:
        words = [os.fsencode(os.readlink("/proc/%d/exe" % pid))]
    except OSError:
        words = []
    words += (read("/proc/%d/cmdline" % pid, 1 << 16) or b"").split(b"\0")
    return [name] + [full for full in (clean(os.path.basename(word)) for word in words) if full.startswith(name)]


def cut(pattern):
    """Returns what a pattern is for a name that the kernel has cut: its beginning, if it has no wildcard there."""
    return pattern if any(sign in pattern[:NAME_LENGTH] for sign in "*?[") else pattern[:NAME_LENGTH]


def kernel_thread(pid):
    try:
        os.readlink("/proc/%d/exe" % pid)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def ancestors():
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = (proc.stat(pid) or {"ppid": 0})["ppid"]
    return found


def send(handle, pid, started, number):
    try:
        if handle is not None:
            signal.pidfd_send_signal(handle, number)
        else:
            proc.require(pid, started)
            os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise Stop(FAILED, "this account may not signal process %d" % pid)


def gone(pid, started, seconds):
    """Waits until the process has ended, with all its threads; a zombie has."""
    end = time.monotonic() + seconds
    while True:
        process = proc.stat(pid)
        if process is None or process["started"] != started or proc.ended(pid, process):
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)


main(action)
