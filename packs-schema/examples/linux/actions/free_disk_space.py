#!/usr/bin/env python3
"""Frees disk space in the log directories that the site allows: removes old logs, and truncates those that are open.

Runs as root in directories that other users can write to. Therefore every step uses descriptors with O_NOFOLLOW, never a
path that a user could replace meanwhile; other file systems are not entered; and a file with several hard links is never
truncated, because another link could be any user's file.
"""

import fnmatch
import os
import stat
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, clean, config, counted, finish, human, main, noop, parameters  # noqa: E402

MAX_DEPTH, MAX_CANDIDATES, MAX_ENTRIES = 16, 100000, 2000000
# Login records, which must not be removed by age.
KEPT_NAMES = ("wtmp", "btmp", "utmp", "lastlog", "faillog", "tallylog")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def action():
    given, site = parameters(), config()
    allowed = [plain_path(path) for path in site.get("log_directories", ["/var/log"])]
    wanted = [permitted(path, allowed) for path in given.get("directories") or allowed]
    work = Work(given, set(site.get("log_directories_kept", ["journal", "audit"])), Deadline(3000.0))
    try:
        work.run(wanted)
    finally:
        result = work.result()
        show(result, given)
        finish(result)
    if not work.entered:
        print("none of the directories could be entered: %s" % clean(", ".join(wanted), 800), file=sys.stderr)
    return FAILED if result["failed"] or not result["complete"] or not work.entered else None


def plain_path(path):
    """Checks and returns an absolute path without empty, `.` or `..` parts."""
    parts = path.rstrip("/").split("/")
    if not path.startswith("/") or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
        raise Stop(WRONG, "directory %s is not an absolute path without '..' (and not / itself)" % clean(path))
    return "/".join(parts)


def permitted(path, allowed):
    path = plain_path(path)
    if any(path == top or path.startswith(top + "/") for top in allowed):
        return path
    raise Stop(
        WRONG,
        "directory %s is not allowed on this site (allowed: %s); see log_directories in /etc/bolt/packs/linux.yaml"
        % (clean(path), clean(", ".join(allowed), 400)),
    )


def open_path(path):
    """Opens a directory; no part of its path may be a symbolic link."""
    fd = os.open("/", DIRECTORY)
    for part in path.split("/")[1:]:
        try:
            below = os.open(part, DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


class Candidate:
    """File to remove or truncate: its path, and its identity when it was found."""

    __slots__ = ("path", "device", "inode", "bytes", "links", "changed", "how")

    def __init__(self, path, info, how):
        self.path, self.device, self.inode, self.links, self.changed = path, info.st_dev, info.st_ino, info.st_nlink, info.st_mtime
        self.bytes, self.how = info.st_blocks * 512, how


class Work:
    """Finds candidates, then removes or truncates them, oldest first, until enough space is freed."""

    def __init__(self, given, kept, deadline):
        self._patterns, self._kept, self._deadline = given["patterns"], kept, deadline
        self._before = time.time() - 86400.0 * given["older_than_days"]
        self._active = given.get("truncate_active_over_mib", 0) << 20
        self._enough = given.get("reclaim_mib", 0) << 20
        self._noop = noop()
        self._entries = self.entered = 0
        self._candidates = []
        self._open, self._unseen = set(), 0
        self._complete = True
        self._removed = self._truncated = self._reclaimed = 0
        self._files, self._failed, self._skipped = [], [], []

    def run(self, paths):
        for path in paths:
            if not any(path.startswith(other + "/") for other in paths):
                self._top(path)
        self._open, self._unseen = open_files(self._deadline)
        self._candidates.sort(key=lambda candidate: candidate.changed)
        for candidate in self._candidates:
            if self._enough and self._reclaimed >= self._enough:
                break
            if self._deadline.passed():
                self._complete = False
                break
            self._free(candidate)

    def _top(self, path):
        if any(part in self._kept for part in path.split("/")):
            raise Stop(WRONG, "directory %s is excluded on this site (log_directories_kept)" % clean(path))
        try:
            fd = open_path(path)
        except OSError as error:
            return self._skip(path, "cannot be opened without following a symbolic link: %s" % error.strerror)
        self.entered += 1
        self._walk(fd, path, os.fstat(fd).st_dev, 0)
        return None

    def _walk(self, fd, path, device, depth):
        """Collects candidates in a directory and its subdirectories. Owns `fd`."""
        below = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    self._entries += 1
                    if self._entries >= MAX_ENTRIES or len(self._candidates) >= MAX_CANDIDATES or self._deadline.passed():
                        self._complete = False
                        return
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # Removed by another program, such as logrotate.
                    if stat.S_ISDIR(info.st_mode):
                        below.append(entry.name)
                    elif stat.S_ISREG(info.st_mode) and info.st_dev == device:
                        self._consider(os.path.join(path, entry.name), entry.name, info)
            for name in sorted(below):
                self._enter(fd, os.path.join(path, name), name, device, depth + 1)
        except OSError as error:
            self._skip(path, error.strerror)
        finally:
            os.close(fd)

    def _enter(self, fd, path, name, device, depth):
        if name in self._kept:
            return
        if depth > MAX_DEPTH:
            return self._skip(path, "more than %d levels deep" % MAX_DEPTH)
        try:
            below = os.open(name, DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._skip(path, error.strerror)
        if os.fstat(below).st_dev != device:
            os.close(below)
            return self._skip(path, "another file system")
        return self._walk(below, path, device, depth)

    def _consider(self, path, name, info):
        if name in KEPT_NAMES or not any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns):
            return
        if info.st_mtime <= self._before:
            self._candidates.append(Candidate(path, info, "old"))
        elif self._active and info.st_blocks * 512 > self._active:
            self._candidates.append(Candidate(path, info, "active"))

    def _free(self, candidate):
        held = (candidate.device, candidate.inode) in self._open
        # If some processes cannot be read, any file may be open: truncating is correct in both cases.
        empty = held or candidate.how == "active" or self._unseen > 0
        try:
            done = self._truncate(candidate) if empty else self._remove(candidate)
        except FileNotFoundError:
            return  # Removed by another program, such as logrotate.
        except OSError as error:
            if len(self._failed) < 1000:
                self._failed.append({"file": clean(candidate.path, 300), "reason": clean(error.strerror)})
            return
        if not done:
            return
        freed = candidate.bytes if empty or candidate.links == 1 else 0
        self._reclaimed += freed
        self._truncated += empty
        self._removed += not empty
        self._files.append({"file": clean(candidate.path, 300), "how": "truncated" if empty else "removed", "bytes": freed})

    def _parent(self, candidate):
        directory, _, name = candidate.path.rpartition("/")
        return open_path(directory), name

    def _same(self, info, candidate):
        return stat.S_ISREG(info.st_mode) and (info.st_dev, info.st_ino) == (candidate.device, candidate.inode)

    def _remove(self, candidate):
        parent, name = self._parent(candidate)
        try:
            if not self._same(os.stat(name, dir_fd=parent, follow_symlinks=False), candidate):
                return False
            if not self._noop:
                os.unlink(name, dir_fd=parent)
            return True
        finally:
            os.close(parent)

    def _truncate(self, candidate):
        if candidate.bytes == 0:
            return False
        parent, name = self._parent(candidate)
        try:
            fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            info = os.fstat(fd)
            if not self._same(info, candidate):
                return False
            if info.st_nlink != 1:
                return self._skip(candidate.path, "it may be open and has %d links; truncating it would truncate all of them" % info.st_nlink)
            if not self._noop:
                os.ftruncate(fd, 0)
            return True
        finally:
            os.close(fd)

    def _skip(self, path, reason):
        if len(self._skipped) < 1000:
            self._skipped.append({"file": clean(path, 300), "reason": clean(reason)})
        return False

    def result(self):
        return {
            "noop": self._noop,
            "complete": self._complete,
            "candidates": len(self._candidates),
            "removed": self._removed,
            "truncated_files": self._truncated,
            "bytes_reclaimed": self._reclaimed,
            "processes_not_readable": self._unseen,
            "files": sorted(self._files, key=lambda file: -file["bytes"])[:100],
            "failed": self._failed[:20],
            "skipped": self._skipped[:20],
        }


def open_files(deadline):
    """Returns device and inode of every regular file that a process has open, and the number of processes that could not be read."""
    found, unseen = set(), 0
    for pid in proc.pids():
        if pid == os.getpid():
            continue
        links = proc.descriptors(pid)
        if links is None or deadline.passed():
            unseen += 1
            continue
        for number, target in links:
            if not target.startswith(b"/") or target.startswith((b"/dev/", b"/proc/", b"/sys/", b"/memfd:")):
                continue
            try:
                info = os.stat("/proc/%d/fd/%d" % (pid, number))
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode):
                found.add((info.st_dev, info.st_ino))
    return found, unseen


def show(result, given):
    freed, removed = human(result["bytes_reclaimed"]), counted(result["removed"], "file")
    truncated = "%s in use or held open by a process" % counted(result["truncated_files"], "file")
    if result["noop"]:
        print("noop: would free %s: remove %s, truncate %s" % (freed, removed, truncated))
    else:
        print("freed %s: removed %s, truncated %s" % (freed, removed, truncated))
    for file in result["files"][:50]:
        print("  %10s  %-9s  %s" % (human(file["bytes"]), file["how"], file["file"]))
    if len(result["files"]) > 50 or result["removed"] + result["truncated_files"] > len(result["files"]):
        print("  ... only the largest are shown")
    if result["processes_not_readable"]:
        count = "%d process%s" % (result["processes_not_readable"], "" if result["processes_not_readable"] == 1 else "es")
        print("  the open files of %s cannot be read, so old files are truncated instead of removed" % count)
    for entry in result["skipped"]:
        print("  skipped: %s: %s" % (entry["file"], entry["reason"]))
    for entry in result["failed"]:
        print("  FAILED: %s: %s" % (entry["file"], entry["reason"]))
    if not result["complete"]:
        print("  INCOMPLETE: too many files, or the deadline was reached; run it again")
    if given.get("reclaim_mib") and result["bytes_reclaimed"] < given["reclaim_mib"] << 20:
        print("  less than the requested %d MiB" % given["reclaim_mib"])


main(action)
