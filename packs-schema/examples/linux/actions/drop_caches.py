#!/usr/bin/env python3
"""Drops clean caches of the kernel (Documentation/admin-guide/sysctl/vm.rst) and reports memory before and after."""

import os
import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import UNAVAILABLE, Stop, finish, human, main, noop, parameters, read  # noqa: E402

VALUES = {"page": b"1\n", "slab": b"2\n", "both": b"3\n"}


def action():
    given, before = parameters(), memory()
    if noop():
        print("noop: would drop %s: page cache %s, reclaimable slab %s" % (given["caches"], human(before[1]), human(before[2])))
        after = before
    else:
        os.sync()
        try:
            with open("/proc/sys/vm/drop_caches", "wb", buffering=0) as control:
                control.write(VALUES[given["caches"]])
        except OSError as error:
            raise Stop(UNAVAILABLE, "/proc/sys/vm/drop_caches cannot be written: %s (a container, or not root)" % error.strerror)
        after = memory()
        print("page cache %s -> %s, reclaimable slab %s -> %s" % (human(before[1]), human(after[1]), human(before[2]), human(after[2])))
    finish({
        "noop": noop(), "available_before": before[0], "available_after": after[0], "cached_before": before[1],
        "cached_after": after[1], "reclaimable_slab_before": before[2], "reclaimable_slab_after": after[2],
    })  # fmt: skip


def memory():
    text = read("/proc/meminfo", 1 << 16) or b""
    values = []
    for key in (b"MemAvailable", b"Cached", b"SReclaimable"):
        match = re.search(rb"^" + key + rb": +([0-9]+) kB$", text, re.MULTILINE)
        values.append(int(match.group(1)) * 1024 if match else 0)
    return values


main(action)
