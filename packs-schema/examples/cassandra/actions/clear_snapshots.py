#!/usr/bin/env python3
"""Removes Cassandra's snapshots older than a number of days, and reports the freed space by keyspace."""

import fnmatch
import os
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import snapshots  # noqa: E402
from lib.bolt_action import FAILED, Deadline, clean, config, counted, finish, human, main, noop, parameters, table  # noqa: E402


def action():
    given = parameters()
    directories = snapshots.data_directories(config())
    work = Work(given, Deadline(24 * 3600.0))
    try:
        for data in directories:
            for snapshot in snapshots.find(data, given.get("keyspace"), work.skip):
                work.consider(snapshot)
    finally:
        result = work.result()
        show(result)
        finish(result)
    return FAILED if result["problems"] or not result["complete"] else None


class Work:
    """Removes snapshots and collects the results."""

    def __init__(self, given, deadline):
        self._before = time.time() - 86400.0 * given["older_than_days"]
        self._tag, self._really, self._deadline = given.get("tag"), not noop(), deadline
        self._removal = snapshots.Removal(self._really, deadline, self.problem)
        self._keyspaces, self._problems, self._skipped = {}, [], []
        self._kept = self._ephemeral = 0

    def problem(self, path, reason):
        if len(self._problems) < 1000:
            self._problems.append({"path": clean(path, 300), "reason": clean(reason)})

    def skip(self, path, reason):
        """Records a path that could not be read; unlike a problem it is not a failure, because it may be intended."""
        if len(self._skipped) < 1000:
            self._skipped.append({"path": clean(path, 300), "reason": clean(reason)})

    def consider(self, snapshot):
        if self._tag is not None and not fnmatch.fnmatchcase(snapshot.tag, self._tag):
            return
        if self._deadline.passed():
            self._removal.complete = False
            return
        if snapshot.made > self._before:
            self._kept += 1
            return
        fd = snapshots.open_snapshot(snapshot)
        if fd is None:
            return
        try:
            if snapshots.is_ephemeral(fd):
                self._ephemeral += 1
                return
            self._remove(snapshot, fd)
        finally:
            os.close(fd)

    def _remove(self, snapshot, fd):
        before = (self._removal.files, self._removal.reclaimed, self._removal.shared)
        gone = False
        try:
            gone = self._removal.empty(fd, snapshot.where, snapshot.device)
            if gone and self._really:
                os.rmdir(snapshot.tag, dir_fd=snapshot.parent)
        except FileNotFoundError:
            pass  # Cassandra has removed the same snapshot meanwhile.
        except OSError as error:
            gone = False
            self.problem(snapshot.where, error.strerror)
        finally:
            if not gone and self._really:
                self._keep_age(snapshot, fd)
            entry = self._keyspaces.setdefault(
                snapshot.keyspace, {"snapshots": 0, "files": 0, "bytes_reclaimed": 0, "bytes_shared": 0}
            )
            entry["snapshots"] += int(gone)
            entry["files"] += self._removal.files - before[0]
            entry["bytes_reclaimed"] += self._removal.reclaimed - before[1]
            entry["bytes_shared"] += self._removal.shared - before[2]

    def _keep_age(self, snapshot, fd):
        """Restores the age of a partly removed snapshot, so that the next run selects it again."""
        try:
            os.utime(fd, (snapshot.made, snapshot.made))
        except OSError as error:
            self.problem(snapshot.where, "cannot restore its age: %s" % error.strerror)

    def result(self):
        total = lambda key: sum(entry[key] for entry in self._keyspaces.values())  # noqa: E731
        return {
            "noop": not self._really,
            "complete": self._removal.complete,
            "snapshots": total("snapshots"),
            "files": total("files"),
            "bytes_reclaimed": total("bytes_reclaimed"),
            "bytes_shared": total("bytes_shared"),
            "kept": self._kept,
            "ephemeral": self._ephemeral,
            "keyspaces": {clean(name, 100): entry for name, entry in sorted(self._keyspaces.items())[:500]},
            "skipped": self._skipped[:20],
            "problems": self._problems[:20],
        }


def show(result):
    print(
        "%s %s, %s and %s %s; %s still used by live tables; %s kept"
        % (
            "noop: would remove" if result["noop"] else "removed",
            counted(result["snapshots"], "snapshot"),
            counted(result["files"], "file"),
            "free" if result["noop"] else "freed",
            human(result["bytes_reclaimed"]),
            human(result["bytes_shared"]),
            counted(result["kept"], "newer snapshot"),
        )
    )
    rows = [
        (name, e["snapshots"], e["files"], human(e["bytes_reclaimed"]), human(e["bytes_shared"]))
        for name, e in result["keyspaces"].items()
    ]
    if rows:
        table(rows[:100], ("KEYSPACE", "SNAPSHOTS", "FILES", "FREED", "SHARED"), right=(1, 2, 3, 4))
    if result["ephemeral"]:
        print("  not removed, because a running repair uses them: %s" % counted(result["ephemeral"], "snapshot"))
    for entry in result["skipped"]:
        print("  not read: %s: %s" % (entry["path"], entry["reason"]))
    for problem in result["problems"]:
        print("  PROBLEM: %s: %s" % (problem["path"], problem["reason"]))
    if not result["complete"]:
        print("  INCOMPLETE: stopped before the end; run it again to continue")


main(action)
