#!/usr/bin/env python3
"""Shows the disk space that topics use on this broker."""

import os
import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import UNAVAILABLE, Deadline, Stop, clean, config, finish, human, main, parameters, table  # noqa: E402

# <topic>-<partition>, also with `.<uuid>-delete`, `-future` or `-stray`.
PARTITION = re.compile(r"^(.+)-(\d+)(?:\.[0-9a-zA-Z]+-(delete|future|stray))?$")


def action():
    given, deadline = parameters(), Deadline(280.0)
    result = {"complete": True, "bytes": 0, "partitions": 0, "being_deleted_bytes": 0, "being_moved": 0}
    topics, seen = {}, 0
    for directory in config().get("data_directories", ["/var/lib/kafka"]):
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            continue
        except OSError:
            result["complete"] = False
            continue
        seen += 1
        for name in names:
            match = PARTITION.match(name)
            if not match:
                continue
            if deadline.passed():
                result["complete"] = False
                break
            size, segments, complete = measure(os.path.join(directory, name))
            result["complete"] = result["complete"] and complete
            if size is None:
                continue
            result["bytes"] += size
            if match.group(3) in ("delete", "stray"):
                result["being_deleted_bytes"] += size
                continue
            result["being_moved"] += match.group(3) == "future"
            result["partitions"] += 1
            topic = topics.setdefault(match.group(1), {"topic": clean(match.group(1), 249), "partitions": 0, "bytes": 0, "segments": 0})
            topic["partitions"] += 1
            topic["bytes"] += size
            topic["segments"] += segments
    if not seen:
        raise Stop(UNAVAILABLE, "no data directory can be read; set data_directories in /etc/bolt/packs/kafka.yaml")
    result["topics"] = sorted(topics.values(), key=lambda t: (-t["bytes"], t["topic"]))[: given["top"]]
    print("%d partitions, %s; %s being deleted, %d partitions being moved%s" % (
        result["partitions"], human(result["bytes"]), human(result["being_deleted_bytes"]), result["being_moved"], "" if result["complete"] else "; INCOMPLETE",
    ))  # fmt: skip
    table([(human(t["bytes"]), t["partitions"], t["segments"], t["topic"]) for t in result["topics"]], ("SIZE", "PARTITIONS", "SEGMENTS", "TOPIC"), right=(0, 1, 2))
    finish(result)


def measure(path):
    """Returns the size of the files of a partition, the number of its segments, and whether all were read.

    The size is None if the partition is gone or no directory."""
    size = segments = 0
    try:
        with os.scandir(path) as found:
            for entry in found:
                try:
                    if entry.is_file(follow_symlinks=False):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        segments += entry.name.endswith(".log")
                except FileNotFoundError:
                    continue  # A segment whose retention has ended; the others remain.
    except (FileNotFoundError, NotADirectoryError):
        return None, 0, True
    except OSError:
        return size or None, segments, False
    return size, segments, True


main(action)
