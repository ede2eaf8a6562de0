#!/usr/bin/env python3
"""Lists the directories of one file system with most entries. Follows no symbolic links."""

import heapq
import os
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import UNAVAILABLE, Deadline, Stop, clean, finish, main, parameters, table  # noqa: E402

# Bytes for the names of directories that are still to be read, each with what Python needs beside.
MAX_LEFT, BESIDE = 40 << 20, 64


def action():
    given, deadline = parameters(), Deadline(540.0)
    top = given["path"]
    try:
        device = os.stat(top).st_dev
        space = os.statvfs(top)
    except OSError as error:
        raise Stop(UNAVAILABLE, "%s cannot be read: %s" % (clean(top), error.strerror))
    left, largest, entries, unreadable, complete = [os.fsencode(top)], [], 0, 0, True
    held = len(left[0]) + BESIDE
    while left:
        directory = left.pop()
        held -= len(directory) + BESIDE
        count = 0
        try:
            if os.lstat(directory).st_dev != device and directory != os.fsencode(top):
                continue
            with os.scandir(directory) as found:
                for entry in found:
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        if held < MAX_LEFT:
                            left.append(entry.path)
                            held += len(entry.path) + BESIDE
                        else:
                            complete = False
                    if count % 1000 == 0 and deadline.passed():
                        break
        except FileNotFoundError:
            continue  # Removed meanwhile.
        except OSError:
            unreadable += 1
        entries += count
        heapq.heappush(largest, (count, directory))
        if len(largest) > given["top"]:
            heapq.heappop(largest)
        if deadline.passed():
            complete = False
            break
    rows = [{"path": clean(path, 400), "entries": count} for count, path in sorted(largest, key=lambda pair: (-pair[0], pair[1]))]
    result = {
        "path": clean(top, 400),
        "complete": complete,
        "entries": entries,
        "inodes": space.f_files,
        "inodes_free": space.f_ffree,
        "unreadable_directories": unreadable,
        "directories": rows,
    }
    print("%d entries below %s; the file system has %d of %d inodes free" % (entries, result["path"], space.f_ffree, space.f_files))
    table([(row["entries"], row["path"]) for row in rows], ("ENTRIES", "DIRECTORY"), right=(0,))
    if not complete:
        print("  INCOMPLETE: too many directories, or the deadline was reached")
    finish(result)


main(action)
