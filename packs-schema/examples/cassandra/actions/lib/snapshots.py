"""Finds, measures and removes Cassandra's snapshots on disk.

    <data directory>/<keyspace>/<table>-<id>/snapshots/<tag>/...

A snapshot is a directory of hard links to SSTables, which Cassandra never changes once written. Removing the links removes
the snapshot: `nodetool clearsnapshot` does the same through JMX. Doing it here needs no JMX port, no credentials and no
response from a Cassandra whose disk is full.

All access is by descriptor with O_NOFOLLOW: symbolic links below a data directory are never followed; inside a snapshot
they are removed. Nothing outside `snapshots/<tag>` or on another file system is changed.
"""

import os
import stat

from lib.bolt_action import UNAVAILABLE, Stop, clean

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 8  # Secondary indexes are one level below a snapshot.
MAX_SHARED = 200000


class Snapshot:
    """Snapshot of one table with one tag. `parent`, the descriptor of its `snapshots` directory, is open while it is yielded."""

    def __init__(self, parent, where, keyspace, table, tag, info):
        self.parent, self.where, self.keyspace, self.table, self.tag = parent, where, keyspace, table, tag
        self.made, self.device, self.inode = info.st_mtime, info.st_dev, info.st_ino


def data_directories(config):
    """Returns the existing configured data directories, each once."""
    paths = config.get("data_directories") or ["/var/lib/cassandra/data"]
    found = {}
    for path in paths:
        try:
            info = os.stat(path)
        except OSError:
            continue
        if stat.S_ISDIR(info.st_mode):
            found.setdefault((info.st_dev, info.st_ino), path)
    if not found:
        raise Stop(
            UNAVAILABLE,
            "no data directory of Cassandra exists (configured: %s); set data_directories in /etc/bolt/packs/cassandra.yaml"
            % ", ".join(clean(path) for path in paths),
        )
    return list(found.values())


def find(data, keyspace, problem):
    """Yields the snapshots in the data directory `data`, of one keyspace or (None) of all.

    Calls `problem(path, reason)` for paths that could not be read.
    """
    # The configured path may contain symbolic links, because root wrote it; paths below it may not.
    root = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        device = os.fstat(root).st_dev
        for name in names(root, data, problem):
            if keyspace is not None and name != keyspace:
                continue
            yield from _in_keyspace(root, data, name, device, problem)
    finally:
        os.close(root)


def _in_keyspace(root, data, keyspace, device, problem):
    where = "%s/%s" % (data, keyspace)
    fd = enter(root, keyspace, where, device, problem)
    if fd is None:
        return
    try:
        for table in names(fd, where, problem):
            yield from _in_table(fd, where, keyspace, table, device, problem)
    finally:
        os.close(fd)


def _in_table(keyspace_fd, where, keyspace, table, device, problem):
    where = "%s/%s" % (where, table)
    fd = enter(keyspace_fd, table, where, device, problem)
    if fd is None:
        return
    try:
        where += "/snapshots"
        parent = enter(fd, "snapshots", where, device, problem, missing_is_fine=True)
    finally:
        os.close(fd)
    if parent is None:
        return
    try:
        for tag in names(parent, where, problem):
            try:
                info = os.stat(tag, dir_fd=parent, follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
                yield Snapshot(parent, "%s/%s" % (where, tag), keyspace, table, tag, info)
            else:
                problem("%s/%s" % (where, tag), "not a directory of this file system")
    finally:
        os.close(parent)


def names(fd, where, problem):
    """The names in a directory, sorted, without hidden ones."""
    try:
        return sorted(name for name in os.listdir(fd) if not name.startswith("."))
    except OSError as error:
        problem(where, error.strerror)
        return []


def enter(parent, name, where, device, problem, missing_is_fine=False):
    """A descriptor of a directory that is no link and on the same file system; None when it is not."""
    try:
        fd = os.open(name, DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not missing_is_fine:
            problem(where, "gone")
        return None
    except OSError as error:
        # Plain files among the directories are no news; links are.
        try:
            plain = stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except OSError:
            plain = False
        if not plain:
            problem(where, "a symbolic link, which is not followed" if is_link(parent, name) else error.strerror)
        return None
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        problem(where, "another file system")
        return None
    return fd


def is_link(parent, name):
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False


def open_snapshot(snapshot):
    """Opens the snapshot; None if it was removed or replaced."""
    try:
        fd = os.open(snapshot.tag, DIRECTORY, dir_fd=snapshot.parent)
    except OSError:
        return None
    info = os.fstat(fd)
    if (info.st_dev, info.st_ino) != (snapshot.device, snapshot.inode):
        os.close(fd)
        return None
    return fd


def is_ephemeral(fd):
    """True for a snapshot of a running repair, which Cassandra removes itself."""
    try:
        os.stat("ephemeral.snapshot", dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # Unknown: the snapshot stays.
    return True


class Links:
    """Decides which removal frees a file with several hard links: that of the last link."""

    def __init__(self):
        self._taken = {}

    def frees(self, info):
        """Returns the bytes that are freed when one more link of this file is removed."""
        if info.st_nlink == 1:
            return info.st_blocks * 512
        key = (info.st_dev, info.st_ino)
        taken = self._taken.get(key, 0) + 1
        if taken > 1 or len(self._taken) < MAX_SHARED:
            self._taken[key] = taken
        return info.st_blocks * 512 if taken == info.st_nlink else 0


class Removal:
    """Removes the content of a snapshot, or counts it in a dry run. The counts are correct even after an interruption."""

    def __init__(self, really, deadline, problem):
        self._really, self._deadline, self._problem = really, deadline, problem
        # Removing a link lowers the link count; a dry run must remember it.
        self._links = Links()
        self.files = self.reclaimed = self.shared = 0
        self.complete = True

    def empty(self, fd, where, device, depth=0):
        """Removes everything in the directory. True if it is empty afterwards."""
        clear = True
        try:
            found = os.listdir(fd)
        except FileNotFoundError:
            return True  # Removed meanwhile, as Cassandra does with snapshots that expire.
        except OSError as error:
            self._problem(where, error.strerror)
            return False
        for name in found:
            if self._deadline.passed():
                self.complete = False
                return False
            try:
                clear = self._one(fd, name, "%s/%s" % (where, name), device, depth) and clear
            except FileNotFoundError:
                continue
            except OSError as error:
                self._problem("%s/%s" % (where, name), error.strerror)
                clear = False
        return clear

    def _one(self, fd, name, where, device, depth):
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            return self._directory(fd, name, where, info, device, depth)
        freed = info.st_blocks * 512 if info.st_nlink == 1 else 0
        if self._really:
            os.unlink(name, dir_fd=fd)
        else:
            freed = self._links.frees(info)
        self.files += 1
        self.reclaimed += freed
        self.shared += 0 if freed or not stat.S_ISREG(info.st_mode) else info.st_blocks * 512
        return True

    def _directory(self, fd, name, where, info, device, depth):
        if info.st_dev != device or depth >= MAX_DEPTH:
            self._problem(where, "another file system" if info.st_dev != device else "too deep for a snapshot")
            return False
        below = os.open(name, DIRECTORY, dir_fd=fd)
        try:
            if os.fstat(below).st_dev != device or not self.empty(below, where, device, depth + 1):
                return False
        finally:
            os.close(below)
        if self._really:
            os.rmdir(name, dir_fd=fd)
        return True
