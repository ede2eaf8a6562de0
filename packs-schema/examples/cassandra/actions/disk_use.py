#!/usr/bin/env python3
"""Shows the disk space of tables and their snapshots."""

import os
import re
import stat
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import snapshots  # noqa: E402
from lib.bolt_action import FAILED, Deadline, clean, config, finish, human, main, parameters, table  # noqa: E402

MAX_DEPTH = 8


def action():
    given, deadline = parameters(), Deadline(580.0)
    directories, problems, tables, complete = [], [], {}, True
    live, kept, own = 0, 0, 0
    for data in snapshots.data_directories(config()):
        info = os.statvfs(data)
        percent = info.f_bavail * 100 // info.f_blocks if info.f_blocks else 100
        directories.append({"path": clean(data, 300), "free_bytes": info.f_bavail * info.f_frsize, "free_percent": percent})
        if percent < given["free_percent"]:
            problems.append("%s has %d%% free" % (clean(data, 300), percent))
        missed = []
        for keyspace, name, path in table_directories(data, missed):
            if deadline.passed():
                complete = False
                break
            size = Size()
            size.add(path, deadline)
            complete = complete and size.complete
            key = "%s.%s" % (keyspace, name)
            row = tables.setdefault(key, {"table": clean(key, 300), "live_bytes": 0, "snapshot_bytes": 0, "sstables": 0})
            row["live_bytes"] += size.live
            row["snapshot_bytes"] += size.kept
            row["sstables"] += size.sstables
            live, kept, own = live + size.live, kept + size.kept, own + size.own
        complete = complete and not missed
    result = {
        "complete": complete,
        "live_bytes": live,
        "snapshot_bytes": kept,
        "snapshot_own_bytes": own,
        "directories": directories,
        "tables": sorted(tables.values(), key=lambda t: (-t["live_bytes"] - t["snapshot_bytes"], t["table"]))[: given["top"]],
        "problems": problems,
    }
    show(result)
    finish(result)
    return FAILED if problems else None


def table_directories(data, missed):
    """Yields keyspace, table and path of each table; directories are called <table>-<id>. Adds to `missed` what cannot be read."""
    for keyspace in listed(data, missed):
        for name in listed(os.path.join(data, keyspace), missed):
            yield keyspace, re.sub(r"-[0-9a-f]{32}$", "", name), os.path.join(data, keyspace, name)


def listed(path, missed):
    try:
        with os.scandir(path) as found:
            return sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError:
        missed.append(path)
        return []


class Size:
    """Size of a table: of its live files, and of files in its snapshots and incremental backups."""

    def __init__(self):
        self.live = self.kept = self.own = self.sstables = 0
        self.complete = True
        self._seen = set()

    def add(self, path, deadline, kept=False, depth=0):
        """Counts the files below a directory."""
        if deadline.passed() or depth > MAX_DEPTH:
            self.complete = False
            return
        try:
            entries = list(os.scandir(path))
        except FileNotFoundError:
            return
        except OSError:
            self.complete = False
            return
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # Removed by a compaction.
            except OSError:
                self.complete = False
                continue
            if stat.S_ISDIR(info.st_mode):
                self.add(entry.path, deadline, kept or entry.name in ("snapshots", "backups"), depth + 1)
            elif stat.S_ISREG(info.st_mode):
                self._file(entry.name, info, kept)

    def _file(self, name, info, kept):
        size = info.st_blocks * 512
        if not kept:
            self.live += size
            self.sstables += name.endswith("-Data.db")
        elif (info.st_dev, info.st_ino) not in self._seen:
            self.kept += size
            if info.st_nlink == 1:
                self.own += size
            elif len(self._seen) < 500000:
                self._seen.add((info.st_dev, info.st_ino))


def show(result):
    print("live %s, snapshots %s (at least %s of their own)%s" % (
        human(result["live_bytes"]), human(result["snapshot_bytes"]), human(result["snapshot_own_bytes"]), "" if result["complete"] else "; INCOMPLETE",
    ))  # fmt: skip
    table([(human(d["free_bytes"]), d["free_percent"], d["path"]) for d in result["directories"]], ("FREE", "%", "DIRECTORY"), right=(0, 1))
    table([(human(t["live_bytes"]), human(t["snapshot_bytes"]), t["sstables"], t["table"]) for t in result["tables"]], ("LIVE", "SNAPSHOTS", "SSTABLES", "TABLE"), right=(0, 1, 2))
    for problem in result["problems"]:
        print("PROBLEM: " + problem)


main(action)
