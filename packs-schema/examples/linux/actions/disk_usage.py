#!/usr/bin/env python3
"""Shows disk usage: by directory, by file system, and of files that are deleted but still open."""

import heapq
import os
import re
import stat
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import proc  # noqa: E402
from lib.bolt_action import UNAVAILABLE, WRONG, Deadline, Stop, clean, finish, human, main, parameters, read, table  # noqa: E402

MAX_NESTING = 200  # One descriptor each.
MAX_LINKS = 300000  # Remembered inodes with several links, so that each counts once.
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre", "afs", "9p", "autofs")  # May block forever.
VIRTUAL = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "pstore", "bpf")
IMAGES = ("squashfs", "iso9660", "erofs", "cramfs")  # Always full, such as packages of snap.
MAX_MOUNTS, MAX_SHOWN = 10000, 64
NOT_ON_DISK = (b"/memfd:", b"/SYSV", b"/dev/zero", b"/[aio]", b"/dev/shm/")


def action():
    given = parameters()
    path, depth, top = given["path"], given["depth"], given["top"]
    deadline = Deadline(3600.0)
    root, device = open_root(path)
    mounts, skipped = filesystems()
    show_filesystems(mounts, skipped)
    deleted, unseen = deleted_files(top, deadline) if given["deleted_files"] else ([], 0)
    if given["deleted_files"]:
        show_deleted(deleted, unseen)
    walk = Walk(device, depth, top, deadline)
    walk.run(root, path)
    show_directories(walk, path)
    finish(
        {
            "path": clean(path, 1000),
            "complete": walk.complete,
            "bytes": walk.total,
            "entries": walk.entries,
            "unreadable_directories": walk.unreadable,
            "directories": walk.largest(),
            "filesystems": mounts,
            "filesystems_not_asked": skipped,
            "deleted_open_files": deleted,
            "processes_not_readable": unseen,
        }
    )


def open_root(path):
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except NotADirectoryError:
        raise Stop(WRONG, "path %s is not a directory" % clean(path))
    except OSError as error:
        raise Stop(UNAVAILABLE, "path %s cannot be opened: %s" % (clean(path), error.strerror))
    return fd, os.fstat(fd).st_dev


class Walk:
    """Walks one file system, depth first, by descriptor, without following links."""

    def __init__(self, device, depth, top, deadline):
        self._device, self._depth, self._top, self._deadline = device, depth, top, deadline
        self._heap, self._links = [], set()
        self.total = self.entries = self.unreadable = 0
        self.complete = True

    def run(self, root, path):
        stack = [Frame(root, path.rstrip("/") or "/")]
        try:
            while stack:
                frame = stack[-1]
                entry = self._next(frame) if not self._stop() else None
                if entry is None:
                    stack.pop().close()
                    self._done(frame, len(stack), stack[-1] if stack else None)
                    continue
                child = self._visit(frame, entry, len(stack))
                if child is not None:
                    stack.append(child)
        finally:
            for frame in stack:
                frame.close()

    def _stop(self):
        if self.complete and self.entries % 256 == 0 and self._deadline.passed():
            self.complete = False
        return not self.complete

    def _next(self, frame):
        try:
            return next(frame.entries, None)
        except OSError:  # A damaged directory; what was read of it counts.
            self.unreadable += 1
            return None

    def _visit(self, frame, entry, nesting):
        self.entries += 1
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError:
            return None
        if info.st_dev != self._device:
            return None
        if stat.S_ISDIR(info.st_mode):
            return self._enter(frame, entry.name, info, nesting)
        if info.st_nlink > 1:
            if info.st_ino in self._links:
                return None
            if len(self._links) < MAX_LINKS:
                self._links.add(info.st_ino)
        frame.bytes += info.st_blocks * 512
        frame.files += 1
        return None

    def _enter(self, frame, name, info, nesting):
        frame.bytes += info.st_blocks * 512
        if nesting >= MAX_NESTING:
            self.unreadable += 1
            return None
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=frame.fd)
        except FileNotFoundError:
            return None  # Removed meanwhile.
        except OSError:
            self.unreadable += 1
            return None
        if os.fstat(fd).st_dev != self._device:
            os.close(fd)
            return None
        try:
            # Paths are needed only for directories that may be listed.
            return Frame(fd, os.path.join(frame.path, name) if nesting <= self._depth else "")
        except OSError:
            self.unreadable += 1
            return None

    def _done(self, frame, level, parent):
        if parent is None:
            self.total = frame.bytes
        else:
            parent.bytes += frame.bytes
            parent.files += frame.files
        if level <= self._depth:
            row = (frame.bytes, frame.path, frame.files)
            if len(self._heap) < self._top:
                heapq.heappush(self._heap, row)
            else:
                heapq.heappushpop(self._heap, row)

    def largest(self):
        rows = sorted(self._heap, key=lambda row: (-row[0], row[1]))
        return [{"path": clean(path, 400), "bytes": size, "files": files} for size, path, files in rows]


class Frame:
    """Directory that is being read. Owns its descriptor."""

    def __init__(self, fd, path):
        self.fd, self.path, self.bytes, self.files = fd, path, 0, 0
        try:
            self.entries = os.scandir(fd)
        except OSError:
            os.close(fd)
            raise

    def close(self):
        self.entries.close()
        os.close(self.fd)


def filesystems():
    """Returns space and inodes of the fullest local file systems, and mount points that were skipped because they could block.

    A node of Kubernetes has hundreds: of each container one that shows the space of its host's, which has a row of its own."""
    rows, skipped, seen = [], [], set()
    for line in (read("/proc/self/mountinfo", 4 << 20) or b"").split(b"\n"):
        before, dash, after = line.partition(b" - ")
        fields, tail = before.split(b" "), after.split(b" ")
        if not dash or len(fields) < 6 or len(tail) < 2:
            continue
        kind, point = tail[0].decode("ascii", "replace"), unescape(fields[4])
        if kind in NETWORK or kind.startswith("fuse"):
            skipped.append("%s (%s)" % (clean(point), clean(kind, 20)))
            continue
        if kind in VIRTUAL + IMAGES or kind == "overlay" and point != b"/" or fields[2] in seen:
            continue
        try:
            space = os.statvfs(point)
        except OSError:
            continue
        if space.f_blocks == 0 or len(rows) >= MAX_MOUNTS:
            continue
        seen.add(fields[2])
        rows.append(
            {
                "mount": clean(point),
                "type": clean(kind, 20),
                "size": space.f_blocks * space.f_frsize,
                "used": (space.f_blocks - space.f_bfree) * space.f_frsize,
                "available": space.f_bavail * space.f_frsize,
                "used_percent": percent(space.f_blocks - space.f_bfree, space.f_blocks - space.f_bfree + space.f_bavail),
                "inodes": space.f_files,
                "inodes_used_percent": percent(space.f_files - space.f_ffree, space.f_files),
            }
        )
    return sorted(rows, key=lambda row: -row["used_percent"])[:MAX_SHOWN], skipped[:MAX_SHOWN]


def unescape(text):
    """Decodes space, tab, newline and backslash, which the kernel writes as octal in mount points."""
    return re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8) & 0xFF]), text)


def percent(part, whole):
    return round(100.0 * part / whole, 1) if whole else 0.0


def deleted_files(top, deadline):
    """Returns deleted files that a process has open, largest first, and the number of processes that could not be read."""
    found, unseen = {}, 0
    for pid in proc.pids():
        if deadline.passed():
            break
        links = proc.descriptors(pid)
        if links is None:
            unseen += 1
            continue
        for number, target in links:
            if not target.endswith(b" (deleted)") or not target.startswith(b"/") or target.startswith(NOT_ON_DISK):
                continue
            try:
                info = os.stat("/proc/%d/fd/%d" % (pid, number))
            except OSError:
                continue
            if not stat.S_ISREG(info.st_mode) or info.st_nlink:
                continue
            key = (info.st_dev, info.st_ino)
            if key not in found and len(found) >= 20000:
                continue
            entry = found.setdefault(key, {"path": clean(target[:-10], 300), "bytes": info.st_blocks * 512, "holders": []})
            if len(entry["holders"]) < 5:
                entry["holders"].append({"pid": pid, "fd": number, "name": proc.name(pid)})
    return sorted(found.values(), key=lambda entry: -entry["bytes"])[:top], unseen


def show_filesystems(rows, skipped):
    print("File systems, fullest first")
    cells = [
        (r["mount"], r["type"], human(r["size"]), human(r["available"]), "%.1f%%" % r["used_percent"], "%.1f%%" % r["inodes_used_percent"])
        for r in rows
    ]
    table(cells, ("MOUNT", "TYPE", "SIZE", "AVAILABLE", "USED", "INODES"), right=(2, 3, 4, 5))
    if skipped:
        print("  skipped, because an unreachable server would block: %s" % ", ".join(skipped[:8]))


def show_deleted(rows, unseen):
    print("\nDeleted but still open (the space is freed when the process closes them or exits)")
    for row in rows:
        holders = ", ".join("%s pid %d fd %d" % (h["name"], h["pid"], h["fd"]) for h in row["holders"])
        print("  %10s  %s  opened by %s" % (human(row["bytes"]), row["path"], holders))
    if not rows:
        print("  none")
    if unseen:
        print("  %d processes of other users could not be read" % unseen)


def show_directories(walk, path):
    print("\nDirectories of %s, largest first; one file system, hard links counted once" % clean(path))
    rows = walk.largest()
    table([(human(r["bytes"]), r["files"], r["path"]) for r in rows], ("SIZE", "FILES", "DIRECTORY"), right=(0, 1))
    if walk.unreadable:
        print("  %d directories could not be read" % walk.unreadable)
    if not walk.complete:
        print("  INCOMPLETE: deadline reached after %d entries; give a narrower path or a longer time-out" % walk.entries)


main(action)
