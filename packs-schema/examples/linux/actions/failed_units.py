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
    rows = [describe(name, given["lines"], deadline) for name in names[:MAX_UNITS] if units.UNIT.match(name)]
    print("%s; the system is %s" % (counted(len(rows), "failed unit"), clean(system.strip(), 40)))
    for row in rows:
        print("\n%s: %s, exit status %s, since %s" % (row["unit"], row["result"], row["exit_status"], row["since"]))
        for line in row["log"]:
            print("  | " + line)
    finish({"system": clean(system.strip(), 40), "units": rows})
    return FAILED if rows and given["fail"] else None


def describe(name, lines, deadline):
    wanted = "Result,ExecMainStatus,StateChangeTimestamp"
    _, out, _ = tool.run(["systemctl", "show", "--no-pager", "--property=" + wanted, "--", name], min(10.0, deadline.left()))
    pairs = dict(line.split("=", 1) for line in out.decode("utf-8", "replace").splitlines() if "=" in line)
    log = b""
    if lines and tool.has("journalctl"):
        try:
            _, log, _ = tool.run(["journalctl", "-q", "--no-pager", "-o", "cat", "-n", str(lines), "-u", name], min(10.0, deadline.left()), accept=None)
        except Stop:
            log = b""
    return {
        "unit": clean(name),
        "result": clean(pairs.get("Result", ""), 40),
        "exit_status": clean(pairs.get("ExecMainStatus", ""), 10),
        "since": clean(pairs.get("StateChangeTimestamp", ""), 60),
        "log": [clean(line) for line in log.splitlines()[-lines:]] if lines else [],
    }


main(action)
