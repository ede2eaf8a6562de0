#!/usr/bin/env python3
"""Runs logrotate on one of the host's configurations. In a dry run logrotate itself says what it would do."""

import os
import re
import stat
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import tool  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, finish, main, noop, parameters  # noqa: E402

DIRECTORY = "/etc/logrotate.d"
INTERESTING = re.compile(rb"rotating|renaming|error|compressing|removing|log needs|log does not|creating new|truncating|copying")


def action():
    given, deadline = parameters(), Deadline(850.0)
    if not re.match(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", given["configuration"]):
        raise Stop(WRONG, "configuration: not the name of a file")
    path = os.path.join(DIRECTORY, given["configuration"])
    tool.find("logrotate")
    try:
        info = os.lstat(path)
    except OSError:
        have = sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else []
        raise Stop(WRONG, "there is no %s; this host has: %s" % (path, clean(", ".join(have), 800) or "none"))
    if not stat.S_ISREG(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o022:
        raise Stop(WRONG, "%s is not a regular file that only root can write, so logrotate would not use it" % path)
    arguments = ["logrotate", "-v"] + (["-d"] if noop() else []) + (["-f"] if given["force"] else []) + [path]
    status, out, err = tool.run(arguments, deadline.left(), accept=None)
    report = [clean(line.strip(), 300) for line in (out + err).splitlines() if INTERESTING.search(line)][:200]
    print("%s %s" % ("noop: logrotate would treat" if noop() else "logrotate treated", path))
    for line in report:
        print("  " + line)
    finish({"configuration": given["configuration"], "noop": noop(), "report": report})
    if status != 0:
        print("logrotate failed with status %d: %s" % (status, tool.last(err)), file=sys.stderr)
        return FAILED


main(action)
