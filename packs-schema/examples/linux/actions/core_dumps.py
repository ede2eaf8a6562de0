#!/usr/bin/env python3
"""Lists core dumps in the directories where hosts keep them. Reads names and sizes only, never content."""

import itertools
import os
import re
import stat
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import clean, config, counted, finish, human, main, parameters, read, table, utc  # noqa: E402

CRASHES = "/var/crash"
PLACES = ("/var/lib/systemd/coredump", "/var/lib/apport/coredump", CRASHES, "/var/cores", "/cores")
# systemd-coredump writes the id of the boot without hyphens, apport (Ubuntu) with them.
SYSTEMD = re.compile(r"^core\.(.+)\.[0-9]+\.[0-9a-f-]{32,36}\.([0-9]+)\.[0-9]+(\.(zst|lz4|xz))?$")
PLAIN = re.compile(r"^(?:core|vmcore)(?:[.-](.*?))?(?:[.-]([0-9]{1,10}))?$|^(.*)\.(?:core|crash)$")
# kdump makes a directory for each crash of the kernel: vmcore (Red Hat, Amazon Linux), dump.DATE (Debian, Ubuntu).
KERNEL = re.compile(r"^(?:vmcore(?:[.-](?:flat|incomplete|[0-9]+))?|dump\.[0-9]+)$")
MAX_FILES, MAX_CRASHES = 100000, 1000
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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
    """Yields regular files directly in a directory whose names are those of core dumps, and dumps of the kernel one level below
    CRASHES."""
    try:
        fd = os.open(place, DIRECTORY)
    except OSError:
        return
    try:
        for name, info in regular(fd, (SYSTEMD, PLAIN)):
            yield os.path.join(place, name), info
        for crash in directories(fd) if place == CRASHES else ():
            try:
                below = os.open(crash, DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            except OSError:
                continue
            try:
                for name, info in regular(below, (KERNEL,)):
                    yield os.path.join(place, crash, name), info
            finally:
                os.close(below)
    finally:
        os.close(fd)


def regular(fd, patterns):
    """Returns name and stat of the regular files of a directory whose names match."""
    found = []
    try:
        with os.scandir(fd) as entries:
            for entry in itertools.islice(entries, MAX_FILES):
                if not any(pattern.match(entry.name) for pattern in patterns):
                    continue
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # Removed meanwhile, as systemd-tmpfiles does by age.
                if stat.S_ISREG(info.st_mode):
                    found.append((entry.name, info))
    except OSError:
        pass
    return found


def directories(fd):
    try:
        with os.scandir(fd) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, MAX_FILES) if entry.is_dir(follow_symlinks=False))[-MAX_CRASHES:]
    except OSError:
        return []


def origin(name):
    match = SYSTEMD.match(name)
    if match:
        return match.group(1), int(match.group(2))
    if KERNEL.match(name):
        return "kernel", 0
    match = PLAIN.match(name)
    return (match.group(1) or match.group(3) or "", int(match.group(2) or 0)) if match else ("", 0)


main(action)
