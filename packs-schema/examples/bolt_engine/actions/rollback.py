#!/usr/bin/env python3
"""Installs the version of the agent's package that the last upgrade replaced."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import agent, guard, source  # noqa: E402
from lib.bolt_action import FAILED, UNAVAILABLE, Stop, config, finish, main, noop, parameters  # noqa: E402
from lib.exchange import exchange  # noqa: E402
from lib.kept import Kept  # noqa: E402
from lib.packages import LONGEST_SECONDS, manager  # noqa: E402


def action():
    given, site = parameters(), config()
    root = site.get("root", "")
    packages = manager(root)
    kept, old = Kept(packages, site), packages.installed()
    kept.open()
    try:
        version = kept.version("previous")
        if not version:
            raise Stop(UNAVAILABLE, "no file of a previous version is kept; use bolt_engine.upgrade with allow_downgrade=true")
        if version == old:
            outcome, problems = "already", agent.wait_until_healthy(given["start_wait"], 0, root)
        elif noop():
            outcome, problems = "would_install", []
        else:
            source.check(packages, kept.path("previous"), version)
            wait = LONGEST_SECONDS + given["start_wait"] + given["settle"] + 120
            problem = guard.arm(packages.install_command(kept.path("previous")), wait)
            if problem:
                print(problem)
            problems = exchange(packages, kept.path("previous"), given["start_wait"], given["settle"], root)
            outcome = "failed" if problems else "rolled_back"
        if not problems and outcome != "would_install":
            guard.disarm()
    finally:
        kept.close()
    print("%s: %s in place of %s" % (outcome, version, old))
    finish({"outcome": outcome, "noop": noop(), "from": old, "to": version, "installed": packages.installed(), "problems": problems})
    if problems:
        print("%s: %s" % (outcome, problems[0]), file=sys.stderr)
    return FAILED if problems else None


main(action)
