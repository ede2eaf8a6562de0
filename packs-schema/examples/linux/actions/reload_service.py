#!/usr/bin/env python3
"""Reloads a systemd unit that the site allows, and checks that it stays active with the same main process."""

import fnmatch
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import tool, units  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, config, finish, main, noop, parameters  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(550.0)
    unit = given["service"] if "." in given["service"] else given["service"] + ".service"
    allowed = config().get("restart_allow", [])
    if not any(fnmatch.fnmatchcase(unit, pattern) for pattern in allowed):
        raise Stop(WRONG, "%s may not be reloaded on this host: add it to restart_allow in /etc/bolt/packs/linux.yaml (allowed now: %s)" % (unit, ", ".join(allowed) or "nothing"))
    units.require()
    before = units.state(unit)
    if before["state"] != "active":
        raise Stop(FAILED, "%s is %s, so there is nothing to reload; see linux.restart_service" % (unit, before["state"]))
    _, out, _ = tool.run(["systemctl", "show", "--property=CanReload", "--", unit], 20)
    if out.strip() != b"CanReload=yes":
        raise Stop(WRONG, "%s has no way to reload (no ExecReload); see linux.restart_service" % unit)
    if noop():
        print("noop: would reload %s (main pid %d)" % (unit, before["main_pid"]))
        return end(unit, "would_reload", before)
    status, out, err = tool.run(["systemctl", "reload", "--", unit], min(300.0, deadline.left()), accept=None)
    time.sleep(min(given["settle"], deadline.left()))
    after = units.state(unit)
    if after["state"] != "active":
        return end(unit, "not_active", after, "%s is %s after the reload; read its log with linux.service_status" % (unit, after["state"]))
    if status != 0:
        return end(unit, "reload_failed", after, "systemctl reload failed: %s" % tool.last(err or out))
    if before["main_pid"] and after["main_pid"] != before["main_pid"]:
        return end(unit, "new_process", after, "%s has another main process now: it ended during the reload" % unit)
    print("%s is reloaded and active, main pid %d" % (unit, after["main_pid"]))
    return end(unit, "reloaded", after)


def end(unit, outcome, state, problem=None):
    finish({"service": unit, "noop": noop(), "outcome": outcome, "main_pid": state["main_pid"]})
    if problem:
        print(problem, file=sys.stderr)
    return FAILED if problem else None


main(action)
