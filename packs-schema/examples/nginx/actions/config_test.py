#!/usr/bin/env python3
"""Lets nginx test its configuration."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import server  # noqa: E402
from lib.bolt_action import FAILED, finish, main  # noqa: E402


def action():
    valid, problems = server.test(100.0)
    print("the configuration is %s" % ("valid" if valid else "NOT valid"))
    for p in problems:
        print("  %s: %s%s" % (p["level"], p["message"], " in %s:%d" % (p["file"], p["line"]) if p["file"] else ""))
    finish({"valid": valid, "problems": problems})
    return None if valid else FAILED


main(action)
