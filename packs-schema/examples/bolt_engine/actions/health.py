#!/usr/bin/env python3
"""Checks that the agent of this host runs its installed version and answers."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import agent  # noqa: E402
from lib.bolt_action import FAILED, config, finish, main, parameters  # noqa: E402
from lib.packages import manager  # noqa: E402


def action():
    given, root = parameters(), config().get("root", "")
    version = manager(root).installed()
    launcher, api, address, problems = agent.check(given["settled"], root)
    wanted = given.get("version")
    if wanted and wanted != version:
        problems.insert(0, "version %s is installed, not %s" % (version, wanted))
    print("bolt-agent %s: launcher %s for %ds (pid %d), api %s at %s" % (
        version, launcher["state"], launcher["seconds"], launcher["main_pid"], api, address or "an unknown address"))
    for problem in problems:
        print("  PROBLEM: " + problem)
    finish({"healthy": not problems, "version": version, "launcher": launcher, "api": api, "address": address, "problems": problems})
    return FAILED if problems else None


main(action)
