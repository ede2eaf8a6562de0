#!/usr/bin/env python3
"""Shows state, processes and last log lines of a service, from systemd, or from its init script and log file."""

import os
import stat
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Deadline, Stop, clean, finish, human, main, parameters  # noqa: E402
from lib.command import run  # noqa: E402

PROPERTIES = (
    "LoadState,ActiveState,SubState,Result,MainPID,ExecMainStatus,NRestarts,ActiveEnterTimestamp,MemoryCurrent,TasksCurrent,ControlGroup,UnitFileState"
)
NOT_SET = ("", "[not set]", "18446744073709551615", "infinity")
TAIL = 256 << 10


def action():
    given = parameters()
    service, lines = given["service"], given["lines"]
    deadline = Deadline(50.0)
    if systemd_runs(deadline):
        result = from_systemd(service if "." in service else service + ".service", lines, deadline)
    else:
        result = without_systemd(service, lines, deadline)
    show(result)
    finish(result)
    if given["require_active"] and result["state"] != "active":
        return FAILED
    return None


def systemd_runs(deadline):
    answer = run(["systemctl", "is-system-running"], min(10.0, deadline.left()))
    return answer is not None and answer[1].strip() not in (b"", b"offline", b"unknown")


def from_systemd(unit, lines, deadline):
    answer = run(["systemctl", "show", "--no-pager", "--property=" + PROPERTIES, "--", unit], min(15.0, deadline.left()))
    if answer is None or answer[0] != 0:
        raise Stop(UNAVAILABLE, "systemctl show %s does not respond; systemd may be overloaded or out of memory" % unit)
    found = {}
    for line in answer[1].splitlines():
        key, _, value = line.partition(b"=")
        found[key.decode("ascii", "replace")] = clean(value)
    if found.get("LoadState") == "not-found":
        raise Stop(WRONG, "systemd on this host has no unit %s; see systemctl list-units" % unit)
    log = run(["journalctl", "--unit=" + unit, "-n", str(lines), "--no-pager", "-q", "-o", "short-iso"], min(20.0, deadline.left()))
    readable = log is not None and log[0] == 0
    return {
        "service": unit,
        "manager": "systemd",
        "state": found.get("ActiveState", "unknown"),
        "detail": found.get("SubState", ""),
        "result": found.get("Result", ""),
        "enabled": found.get("UnitFileState", ""),
        "since": found.get("ActiveEnterTimestamp", ""),
        "main_pid": number(found.get("MainPID")) or 0,
        "exit_status": number(found.get("ExecMainStatus")) or 0,
        "restarts": number(found.get("NRestarts")) or 0,
        "memory_bytes": number(found.get("MemoryCurrent")),
        "tasks": number(found.get("TasksCurrent")),
        "cgroup": found.get("ControlGroup", ""),
        "log_source": "journal" if readable else "none: journalctl does not respond",
        "log": [clean(line, 400) for line in log[1].splitlines()[-lines:]] if readable else [],
    }


def number(text):
    return int(text) if text not in NOT_SET and text is not None and text.isdigit() else None


def without_systemd(service, lines, deadline):
    """Returns the status from the init script, if there is one, or from processes with that name."""
    name = service[: -len(".service")] if service.endswith(".service") else service
    script = "/etc/init.d/" + name
    pids = [pid for pid in proc.pids() if named(pid, name)]
    state, manager = ("active" if pids else "inactive"), "processes by name"
    if os.path.isfile(script) and os.access(script, os.X_OK):
        # LSB: 0 running, 1 to 3 not running, 4 and above unknown.
        answer = run([script, "status"], min(20.0, deadline.left()))
        if answer is not None and answer[0] <= 3:
            state, manager = ("active" if answer[0] == 0 else "inactive"), "init script"
    elif not pids:
        raise Stop(
            UNAVAILABLE,
            "systemd is not running, %s does not exist, and no process has the name %s: the state is unknown" % (script, name),
        )
    source, log = log_tail(name, lines)
    return {
        "service": service,
        "manager": manager,
        "state": state,
        "detail": "%d processes with the name %s" % (len(pids), name),
        "result": "",
        "enabled": "",
        "since": "",
        "main_pid": pids[0] if pids else 0,
        "exit_status": 0,
        "restarts": 0,
        "memory_bytes": sum(proc.status_kib(pid, b"VmRSS") for pid in pids[:1000]) if pids else None,
        "tasks": len(pids) if pids else None,
        "cgroup": proc.cgroup(pids[0]) if pids else "",
        "log_source": source,
        "log": log,
    }


def named(pid, name):
    # The kernel truncates names to 15 characters.
    if proc.name(pid) != name[:15]:
        return False
    process = proc.stat(pid)
    return process is not None and process["state"] != "Z"


def log_tail(name, lines):
    for path in ("/var/log/%s.log" % name, "/var/log/%s/%s.log" % (name, name), "/var/log/%s/error.log" % name, "/var/log/" + name):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                continue
            text = os.pread(fd, TAIL, max(0, info.st_size - TAIL))
        finally:
            os.close(fd)
        return clean(path), [clean(line, 400) for line in text.splitlines()[-lines:]]
    return "none: no journal, and no log file with that name in /var/log", []


def show(result):
    print("%s is %s (%s), according to %s" % (result["service"], result["state"], result["detail"], result["manager"]))
    if result["since"]:
        print("  since %s, restarted %d times, last result %s" % (result["since"], result["restarts"], result["result"] or "-"))
    if result["main_pid"]:
        memory = human(result["memory_bytes"]) if result["memory_bytes"] is not None else "unknown"
        print("  main pid %d, %s tasks, memory %s, cgroup %s" % (result["main_pid"], result["tasks"], memory, result["cgroup"]))
    print("\nLast %d log lines (%s)" % (len(result["log"]), result["log_source"]))
    for line in result["log"]:
        print("  " + line)


main(action)
