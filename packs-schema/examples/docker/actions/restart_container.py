#!/usr/bin/env python3
"""Restarts one container, and checks that it stays up and becomes healthy."""

import fnmatch
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import daemon  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, config, finish, main, noop, parameters  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(1780.0)
    before = daemon.inspect(given["container"])
    name, identity = (before.get("Name") or "?").lstrip("/"), before.get("Id") or ""
    allowed = config().get("restart_allow", [])
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed):
        raise Stop(WRONG, "%s may not be restarted on this host: add it to restart_allow in /etc/bolt/packs/docker.yaml (allowed now: %s)" % (clean(name), ", ".join(allowed) or "nothing"))
    if not identity.startswith(given["id"]):
        raise Stop(WRONG, "%s is another container now: its id is %s" % (clean(name), clean(identity[:12])))
    print("%s (%s) is %s" % (clean(name), clean(identity[:12]), state(before)["state"]))
    if noop():
        print("noop: would restart it")
        return end("would_restart", before)
    daemon.ask("/containers/%s/restart" % identity, {"t": str(given["stop_seconds"])}, "POST", seconds=given["stop_seconds"] + 60.0)
    time.sleep(min(given["settle"], deadline.left()))
    after = daemon.inspect(identity)
    wait = time.monotonic() + min(given["health_wait"], max(deadline.left() - 10, 0))
    while state(after)["health"] == "starting" and (after.get("State") or {}).get("Running") and time.monotonic() < wait:
        time.sleep(1)
        after = daemon.inspect(identity)
    found = state(after)
    if found["state"] != "running":
        return end("not_running", after, "%s is %s after the restart, exit code %d; see docker.logs" % (clean(name), found["state"], found["exit_code"]))
    if (after.get("RestartCount") or 0) > 0:
        # A restart by request sets the count to zero.
        return end("restarts_again", after, "%s ended again and was restarted by the daemon; see docker.logs" % clean(name))
    if found["health"] not in ("", "healthy"):
        return end("unhealthy", after, "%s runs and is %s" % (clean(name), found["health"]))
    print("%s is restarted and running%s" % (clean(name), ", healthy" if found["health"] else ""))
    return end("restarted", after)


def state(found):
    known = found.get("State") or {}
    health = clean((known.get("Health") or {}).get("Status") or "", 20)
    return {"state": clean(known.get("Status") or "?", 20), "health": "" if health == "none" else health, "exit_code": int(known.get("ExitCode") or 0)}


def end(outcome, found, problem=None):
    name, identity = clean((found.get("Name") or "?").lstrip("/"), 100), clean((found.get("Id") or "?")[:12])
    finish(dict(state(found), noop=noop(), outcome=outcome, name=name, id=identity))
    if problem:
        print(problem, file=sys.stderr)
    return FAILED if problem else None


main(action)
