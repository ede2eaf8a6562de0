#!/usr/bin/env python3
"""Remounts a file system read-write after checks, and verifies it with a file."""

import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import device, tool  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Stop, clean, config, finish, main, noop, parameters, read  # noqa: E402

TYPES = ("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs")


def action():
    given = parameters()
    mount = given["mount"].rstrip("/") or "/"
    allowed = config().get("remount_allow", [])
    if mount not in allowed:
        raise Stop(WRONG, "%s may not be remounted on this host: add it to remount_allow in /etc/bolt/packs/linux.yaml (allowed now: %s)" % (clean(mount), ", ".join(allowed) or "nothing"))
    kind, source, number, writable = find(mount)
    result = {"mount": clean(mount), "type": clean(kind), "source": clean(source), "noop": noop(), "errors": []}
    if writable:
        print("%s is writable already" % clean(mount))
        finish(dict(result, outcome="already_writable"))
        return None
    if kind not in TYPES:
        raise Stop(WRONG, "%s is a %s; this action remounts %s" % (clean(mount), clean(kind), ", ".join(TYPES)))
    if kind != "tmpfs":
        result["errors"] = device.check(source, number, given["despite_errors"])
    if noop():
        print("noop: would remount %s (%s on %s) read-write" % (clean(mount), clean(kind), clean(source)))
        finish(dict(result, outcome="would_remount"))
        return None
    tool.run(["mount", "-o", "remount,rw", "--", mount], 60)
    problem = None if find(mount)[3] else "it is still mounted read-only"
    if problem is None:
        try:
            with tempfile.TemporaryFile(dir=mount) as probe:
                probe.write(b"bolt")
                os.fsync(probe.fileno())
        except OSError as error:
            problem = "a file cannot be written: %s" % error.strerror
    finish(dict(result, outcome="not_writable" if problem else "writable"))
    if problem:
        raise Stop(FAILED, "%s: %s" % (clean(mount), problem))
    print("%s is writable" % clean(mount))


def find(mount):
    """Returns type, source, major:minor and whether it is writable, of the last mount at this point (proc(5), mountinfo)."""
    found = None
    for line in (read("/proc/self/mountinfo", 4 << 20) or b"").splitlines():
        left, _, right = line.partition(b" - ")
        fields, rest = left.split(), right.split()
        if len(fields) < 6 or len(rest) < 3:
            continue
        point = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8) & 255]), fields[4])
        if point == os.fsencode(mount):
            writable = b"rw" in fields[5].split(b",") and b"rw" in rest[2].split(b",")
            found = (rest[0].decode("utf-8", "replace"), os.fsdecode(rest[1]), fields[2].decode("ascii", "replace"), writable)
    if found is None:
        raise Stop(WRONG, "%s is not a mount point" % clean(mount))
    return found


main(action)
