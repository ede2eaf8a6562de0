#!/usr/bin/env python3
"""Lists the systemd units that failed, with the reason and their last log lines."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import tool, units  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, clean, counted, finish, main, parameters  # noqa: E402

MAX_UNITS = 50


def action():
    given, deadline = parameters(), Deadline(50.0)
    units.require()
    _, system, _ = tool.run(["systemctl", "is-system-running"], 15, accept=None)
    _, out, _ = tool.run(["systemctl", "list-units", "--state=failed", "--no-legend", "--plain", "--no-pager", "--full"], 20)
    names = [line.split()[0].lstrip("*") for line in out.decode("utf-8", "replace").splitlines() if line.split()]
    names = [name for name in names if units.UNIT.match(name)]
    rows = [describe(name, given["lines"], deadline) for name in names[:MAX_UNITS]]
    print("%s; the system is %s" % (counted(len(names), "failed unit"), clean(system.strip(), 40)))
    complete = not deadline.passed() and len(rows) == len(names)
    if len(rows) < len(names):
        print("  INCOMPLETE: only the first %d are listed" % len(rows))
    if deadline.passed():
        print("  INCOMPLETE: the deadline was reached before the reasons and logs of all units were read")
    for row in rows:
        reason = "%s, exit status %s, since %s" % (row["result"], row["exit_status"], row["since"]) if row["result"] else "reason unknown"
        print("\n%s: %s" % (row["unit"], reason))
        for line in row["log"]:
            print("  | " + line)
    finish({"system": clean(system.strip(), 40), "failed": len(names), "complete": complete, "units": rows})
    return FAILED if rows and given["fail"] else None


def describe(name, lines, deadline):
    """Returns the row of a unit; after the deadline, one with its name only."""
    wanted = "Result,ExecMainStatus,StateChangeTimestamp"
    out = ask(["systemctl", "show", "--no-pager", "--property=" + wanted, "--", name], deadline)
    pairs = dict(line.split("=", 1) for line in out.decode("utf-8", "replace").splitlines() if "=" in line)
    log = b""
    if lines and tool.has("journalctl"):
        log = ask(["journalctl", "-q", "--no-pager", "-o", "cat", "-n", str(lines), "-u", name], deadline)
    return {
        "unit": clean(name),
        "result": clean(pairs.get("Result", ""), 40),
        "exit_status": clean(pairs.get("ExecMainStatus", ""), 10),
        "since": clean(pairs.get("StateChangeTimestamp", ""), 60),
        "log": [clean(line) for line in log.splitlines()[-lines:]] if lines else [],
    }


def ask(arguments, deadline):
    """Returns the output of a program; nothing after the deadline, or if it fails or is too slow."""
    if deadline.passed():
        return b""
    try:
        return tool.run(arguments, min(10.0, deadline.left()), accept=None)[1]
    except Stop:
        return b""


main(action)
