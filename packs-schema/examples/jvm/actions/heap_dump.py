#!/usr/bin/env python3
"""Lets a Java process write a heap dump, after a check of free space."""

import contextlib
import os
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import heap, processes  # noqa: E402
from lib.attach import as_owner  # noqa: E402
from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Deadline, Stop, clean, config, finish, human, main, noop, parameters  # noqa: E402

PREFIX, SUFFIX = "bolt-heap-", ".hprof"


def action():
    given, deadline, site = parameters(), Deadline(1750.0), config()
    jvm, row = processes.select(given)
    directory = site.get("dump_directory", "/var/tmp").rstrip("/") or "/"
    outside = "/proc/%d/root%s" % (jvm.pid, directory)
    with as_owner(jvm.pid):
        free, total = space(outside, directory, site.get("dumps_kept", 2))
    used, _ = heap.used(jvm.maybe("jcmd", "GC.heap_info"))
    largest = heap.maximum(jvm.maybe("jcmd", "VM.flags"))
    # A dump is about as large as what it holds; of an unknown heap, its limit, or what the process has in memory.
    estimate = max(used, 0) or max(largest, 0) or row["rss_bytes"]
    estimate += estimate // 10 + (16 << 20)
    needed = estimate + total * site.get("free_percent", 10) // 100
    name = "%s%d-%s%s" % (PREFIX, jvm.pid, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), SUFFIX)
    path = "%s/%s" % (directory.rstrip("/"), name)
    result = {
        "noop": noop(), "pid": jvm.pid, "started": jvm.started, "main": row["main"], "file": clean(path, 600),
        "bytes": estimate, "free_bytes": free, "needed_bytes": needed,
    }  # fmt: skip
    print("%s (pid %d): a dump of about %s; %s free in %s" % (row["main"], jvm.pid, human(estimate), human(free), clean(directory)))
    if free < needed:
        finish(dict(result, outcome="no_space"))
        raise Stop(FAILED, "%s has %s free; the dump needs about %s, and %d%% must stay free" % (clean(directory), human(free), human(estimate), site.get("free_percent", 10)))
    if noop():
        print("noop: would write " + clean(path, 600))
        finish(dict(result, outcome="would_write"))
        return
    written = os.path.join(outside, name)
    try:
        jvm.ask("dumpheap", path, "-live" if given["live"] else "-all", seconds=deadline.left())
        with as_owner(jvm.pid):
            size = complete(written, path)
    except BaseException:
        # An incomplete dump only takes space.
        with contextlib.suppress(OSError, Stop), as_owner(jvm.pid):
            os.unlink(written)
        raise
    print("wrote %s, %s" % (clean(path, 600), human(size)))
    finish(dict(result, outcome="written", bytes=size))


def space(outside, directory, kept):
    """Returns free and all bytes of the file system; stops the action if there are too many dumps."""
    try:
        info = os.statvfs(outside)
        if not os.access(outside, os.W_OK | os.X_OK, effective_ids=True):
            raise Stop(UNAVAILABLE, "the account of the process may not write into %s; set dump_directory in /etc/bolt/packs/jvm.yaml" % clean(directory))
        dumps = [name for name in os.listdir(outside) if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    except OSError as error:
        raise Stop(UNAVAILABLE, "%s, as the process sees it, cannot be used: %s; set dump_directory in /etc/bolt/packs/jvm.yaml" % (clean(directory), error.strerror))
    if len(dumps) >= kept:
        raise Stop(WRONG, "%s has %d heap dumps already, such as %s; remove them first (dumps_kept)" % (clean(directory), len(dumps), clean(sorted(dumps)[0], 100)))
    return info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize


def complete(written, path):
    """Returns the size of a dump, which only its owner may read from then on."""
    try:
        fd = os.open(written, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Stop(FAILED, "the process says that it wrote %s, but it cannot be opened: %s" % (clean(path, 600), error.strerror))
    try:
        os.fchmod(fd, 0o600)
        if os.read(fd, 12) != b"JAVA PROFILE":
            raise Stop(FAILED, "%s is not a heap dump" % clean(path, 600))
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


main(action)
