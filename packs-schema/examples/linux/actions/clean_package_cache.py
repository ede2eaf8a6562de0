#!/usr/bin/env python3
"""Cleans the cache of package files with the host's package manager, which takes its own lock."""

import os
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import tool  # noqa: E402
from lib.bolt_action import FAILED, UNAVAILABLE, Deadline, Stop, counted, finish, human, main, noop  # noqa: E402

MANAGERS = (
    ("apt", ["apt-get", "clean"], "/var/cache/apt/archives", ".deb"),
    ("dnf", ["dnf", "-q", "clean", "packages"], "/var/cache/dnf", ".rpm"),
    # yum cleans those of enabled repositories only, dnf those of all.
    ("yum", ["yum", "-q", "--enablerepo=*", "clean", "packages"], "/var/cache/yum", ".rpm"),
)
MAX_FILES = 200000


def action():
    found = [entry for entry in MANAGERS if tool.has(entry[1][0])]
    if not found:
        raise Stop(UNAVAILABLE, "this host has neither apt-get nor dnf nor yum")
    name, command, cache, suffix = found[0]
    files, before = measure(cache, suffix)
    if noop():
        print("noop: would run %s: %s, %s in %s" % (" ".join(command), counted(files, "package file"), human(before), cache))
        after = before
    else:
        tool.run(command, Deadline(270.0).left())
        left, after = measure(cache, suffix)
        print("%s: freed %s of %s in %s" % (" ".join(command), human(max(before - after, 0)), human(before), cache))
    finish({
        "manager": name, "noop": noop(), "files": files, "bytes_before": before, "bytes_after": after,
        "bytes_reclaimed": before if noop() else max(before - after, 0),
    })  # fmt: skip
    if not noop() and left:
        raise Stop(FAILED, "%s remain in %s" % (counted(left, "package file"), cache))


def measure(cache, suffix):
    """Returns number and size of the package files below a directory."""
    files = size = 0
    for directory, _, names in os.walk(cache):
        for name in names:
            if name.endswith(suffix) and files < MAX_FILES:
                try:
                    size += os.lstat(os.path.join(directory, name)).st_blocks * 512
                    files += 1
                except OSError:
                    continue
    return files, size


main(action)
