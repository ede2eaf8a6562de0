#!/usr/bin/env python3
"""Restarts the kubelet, and checks that it becomes and stays healthy."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import node, tool, units  # noqa: E402
from lib.bolt_action import FAILED, Deadline, clean, config, finish, main, noop, parameters  # noqa: E402


def action():
    given, site, deadline = parameters(), config(), Deadline(1150.0)
    unit, runtime = site.get("kubelet_unit", "kubelet.service"), site.get("runtime_unit", "containerd.service")
    units.require()
    state, engine = units.state(unit), units.state(runtime)
    healthy, before = node.kubelet()
    result = {"noop": noop(), "before": clean(before, 300), "after": "", "main_pid": state["main_pid"]}
    print("%s is %s; kubelet: %s" % (unit, state["state"], before))
    if healthy and state["state"] == "active" and given["only_if_unhealthy"]:
        print("the kubelet is healthy: nothing to do (only_if_unhealthy=false restarts it all the same)")
        return end(result, "healthy_already")
    if engine["state"] != "active":
        return end(result, "runtime_down", "%s is %s: the kubelet cannot become healthy without it" % (runtime, engine["state"]))
    if noop():
        print("noop: would restart %s" % unit)
        return end(result, "would_restart")
    tool.run(["systemctl", "restart", "--", unit], min(120.0, deadline.left()))
    until = time.monotonic() + min(given["wait"], max(deadline.left() - given["settle"] - 10, 0))
    while True:
        healthy, after = node.kubelet(2.0)
        if healthy or time.monotonic() >= until:
            break
        time.sleep(0.5)
    if healthy:
        started = units.state(unit)["main_pid"]
        time.sleep(min(given["settle"], deadline.left()))
        healthy, after = node.kubelet()
    state = units.state(unit)
    if healthy and state["main_pid"] != started:
        healthy, after = False, "it ended after %d s or earlier, and systemd started it again" % given["settle"]
    result["after"], result["main_pid"] = clean(after, 300), state["main_pid"]
    if not healthy or state["state"] != "active":
        return end(result, "not_healthy", "%s is %s after the restart; kubelet: %s; read its log with linux.service_status" % (unit, state["state"], after))
    print("%s is restarted and healthy, main pid %d" % (unit, state["main_pid"]))
    return end(result, "restarted")


def end(result, outcome, problem=None):
    finish(dict(result, outcome=outcome))
    if problem:
        print(problem, file=sys.stderr)
    return FAILED if problem else None


main(action)
