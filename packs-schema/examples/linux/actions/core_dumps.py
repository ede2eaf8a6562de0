#!/usr/bin/env python3
"""Lists core dumps in the directories where hosts keep them. Reads names and sizes only, never content."""

import os
import re
import stat
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import clean, config, counted, finish, human, main, parameters, read, table, utc  # noqa: E402

PLACES = ("/var/lib/systemd/coredump", "/var/crash", "/var/cores", "/cores")
SYSTEMD = re.compile(r"^core\.(.+)\.[0-9]+\.[0-9a-f]{32}\.([0-9]+)\.[0-9]+(\.(zst|lz4|xz))?$")
PLAIN = re.compile(r"^(?:core|vmcore)(?:[.-](.*?))?(?:[.-]([0-9]{1,10}))?$|^(.*)\.(?:core|crash)$")
MAX_FILES = 100000


def action():
    given = parameters()
    pattern = (read("/proc/sys/kernel/core_pattern", 256) or b"").strip()
    places = list(PLACES) + list(config().get("core_directories", []))
    if pattern.startswith(b"/"):
        places.append(os.path.dirname(os.fsdecode(pattern)))
    dumps, seen, total = [], set(), 0
    for place in places:
        for path, info in files(place):
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
            dumps.append((info.st_mtime, path, info.st_blocks * 512))
    dumps.sort(key=lambda entry: (-entry[0], entry[1]))
    rows = []
    for moment, path, size in dumps[: given["top"]]:
        program, pid = origin(os.path.basename(path))
        rows.append({"file": clean(path, 400), "program": clean(program, 80), "pid": pid, "time": utc(moment), "bytes": size})
    print("%s, %s; new ones go to %s" % (counted(len(dumps), "core dump"), human(total), clean(pattern) or "nowhere"))
    table([(r["time"], human(r["bytes"]), r["pid"] or "?", r["program"] or "?", r["file"]) for r in rows], ("TIME", "SIZE", "PID", "PROGRAM", "FILE"), right=(1, 2))
    finish({"core_pattern": clean(pattern), "count": len(dumps), "bytes": total, "dumps": rows})


def files(place):
    """Yields regular files directly in a directory whose names are those of core dumps."""
    try:
        with os.scandir(place) as entries:
            for count, entry in enumerate(entries):
                if count >= MAX_FILES:
                    return
                if not (SYSTEMD.match(entry.name) or PLAIN.match(entry.name)):
                    continue
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(info.st_mode):
                    yield entry.path, info
    except OSError:
        return


def origin(name):
    match = SYSTEMD.match(name)
    if match:
        return match.group(1), int(match.group(2))
    match = PLAIN.match(name)
    return (match.group(1) or match.group(3) or "", int(match.group(2) or 0)) if match else ("", 0)


main(action)
