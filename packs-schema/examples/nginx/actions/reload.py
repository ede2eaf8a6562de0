#!/usr/bin/env python3
"""Reloads nginx after a test of its configuration, and checks that new workers have replaced the previous ones."""

import os
import signal
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc, server, tool, units  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, config, finish, main, noop, parameters  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(280.0)
    before = server.master()
    old = {w["pid"] for w in server.workers(before["pid"]) if w["role"] == "worker"}
    result = {"noop": noop(), "method": method(before["pid"]), "master_pid": before["pid"], "workers": 0, "workers_shutting_down": 0}
    valid, problems = server.test(min(100.0, deadline.left()))
    result["problems"] = ["%s: %s%s" % (p["level"], p["message"], " in %s:%d" % (p["file"], p["line"]) if p["file"] else "") for p in problems]
    for problem in result["problems"]:
        print("  " + problem)
    if not valid:
        finish(dict(result, outcome="invalid_configuration"))
        raise Stop(FAILED, "the configuration is not valid, so nothing was reloaded")
    if noop():
        print("noop: the configuration is valid; would reload nginx (master %d, %d workers) by %s" % (before["pid"], len(old), result["method"]))
        finish(dict(result, outcome="would_reload"))
        return None
    if result["method"] == "systemd":
        tool.run(["systemctl", "reload", "--", config().get("unit", "nginx.service")], min(60.0, deadline.left()))
    else:
        proc.require(before["pid"], before["started"])
        os.kill(before["pid"], signal.SIGHUP)
    return verify(given["wait"], deadline, before, old, result)


def method(pid):
    """Returns how to reload: through systemd where its unit runs this master, otherwise with a signal."""
    if not tool.has("systemctl"):
        return "signal"
    try:
        units.require()
        return "systemd" if units.state(config().get("unit", "nginx.service"))["main_pid"] == pid else "signal"
    except Stop as stop:
        if stop.status > 128:  # SIGTERM: nothing is reloaded.
            raise
        return "signal"


def verify(wait, deadline, before, old, result):
    end = time.monotonic() + min(wait, max(deadline.left() - 5, 0))
    while True:
        now = proc.stat(before["pid"])
        if now is None or now["started"] != before["started"]:
            finish(dict(result, outcome="new_master"))
            raise Stop(FAILED, "the master process %d has ended; see nginx.error_log_summary" % before["pid"])
        found = server.workers(before["pid"])
        new = [w for w in found if w["role"] == "worker" and w["pid"] not in old]
        same = [w for w in found if w["role"] == "worker" and w["pid"] in old]
        result["workers"], result["workers_shutting_down"] = len(new), sum(w["role"] == "worker_shutting_down" for w in found)
        if new and not same:
            finish(dict(result, outcome="reloaded"))
            print("reloaded: %d new workers; %d previous ones finish their requests" % (len(new), result["workers_shutting_down"]))
            return None
        if time.monotonic() >= end:
            finish(dict(result, outcome="not_reloaded"))
            raise Stop(FAILED, "%d previous workers still accept requests after %d s, and %d are new: nginx refused the configuration; see nginx.error_log_summary" % (len(same), wait, len(new)))
        time.sleep(0.1)


main(action)
