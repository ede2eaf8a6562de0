#!/usr/bin/env python3
"""Runs logrotate on one of the host's configurations with the defaults of logrotate.conf, and verifies each log that was due.

In a dry run logrotate itself says what it would do.
"""

import os
import re
import stat
import sys
import tempfile

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import logrotate, tool  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, finish, main, noop, parameters, read  # noqa: E402

DEFAULTS, DIRECTORY = "/etc/logrotate.conf", "/etc/logrotate.d"
INTERESTING = re.compile(rb"rotating|renaming|error|compressing|removing|log needs|log does not|creating new|truncating|copying")
MAX_LOGS = 200


def action():
    given, deadline = parameters(), Deadline(850.0)
    if not re.match(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", given["configuration"]):
        raise Stop(WRONG, "configuration: not the name of a file")
    path = os.path.join(DIRECTORY, given["configuration"])
    tool.find("logrotate")
    if not secure(path):
        have = sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else []
        raise Stop(WRONG, "there is no %s; this host has: %s" % (path, clean(", ".join(have), 800) or "none"))
    # logrotate reads the options outside of blocks in each file for those after it, and takes only files of root.
    with temporary() as defaults:
        defaults.write(logrotate.defaults(read(DEFAULTS) or b"", DIRECTORY) if secure(DEFAULTS) else b"")
        defaults.flush()
        command = ["logrotate", "-v"] + (["-f"] if given["force"] else []) + [defaults.name, path]
        status, out, err = tool.run(command + ["-d"], deadline.left(), accept=None)
        planned = logrotate.plan(out + err)
        if planned.losing:
            raise Stop(
                WRONG,
                "logrotate would remove logs: the rotate count of %s is 0; set rotate in %s, or before the include in %s"
                % (clean(b", ".join(planned.losing), 400), path, DEFAULTS),
            )
        before = [(log, identity(log)) for log in planned.due[:MAX_LOGS]]
        if not noop():
            status, out, err = tool.run(command, deadline.left(), accept=None)
    logs = [row(log, was) for log, was in before]
    unchanged = [log["file"] for log in logs if log["outcome"] == "unchanged"]
    report = [clean(line.strip(), 300) for line in (out + err).splitlines() if INTERESTING.search(line)][:200]
    print("%s %s" % ("noop: logrotate would treat" if noop() else "logrotate treated", path))
    for line in report:
        print("  " + line)
    finish({"configuration": given["configuration"], "noop": noop(), "logs": logs, "report": report})
    if status != 0:
        print("logrotate failed with status %d: %s" % (status, tool.last(err)), file=sys.stderr)
    if unchanged:
        print("not rotated although due: %s" % clean(", ".join(unchanged), 800), file=sys.stderr)
    return FAILED if status != 0 or unchanged else None


def temporary():
    """Makes a temporary file in memory, where possible: the disk is often full when logs are rotated by hand."""
    for place in ("/run", "/dev/shm", None):
        try:
            return tempfile.NamedTemporaryFile(prefix="bolt-logrotate-", dir=place)
        except OSError as error:
            problem = error.strerror
    raise Stop(FAILED, "there is no place for a temporary file: %s" % problem)


def secure(path):
    """True if only root can write the file, false if it does not exist; stops the action if logrotate would not use it."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Stop(FAILED, "%s cannot be read: %s" % (path, error.strerror))
    if not stat.S_ISREG(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o022:
        raise Stop(WRONG, "%s is not a regular file that only root can write, so logrotate would not use it" % path)
    return True


def identity(log):
    """Returns device, inode and size of a log; None if it cannot be read."""
    try:
        info = os.lstat(log)
    except OSError:
        return None
    return info.st_dev, info.st_ino, info.st_size


def row(log, before):
    """Describes a log that was due. A rotated one is another file, or has been truncated."""
    after = identity(log)
    same = before is not None and after is not None and after[:2] == before[:2] and after[2] >= before[2] > 0
    outcome = "would_rotate" if noop() else "unchanged" if same else "rotated"
    return {"file": clean(log, 300), "bytes": before[2] if before else 0, "outcome": outcome}


main(action)
