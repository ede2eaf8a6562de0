"""Package files of the installed and the previous version, kept so that a way back needs no repository."""

import fcntl
import os
import shutil
import tempfile

from lib.bolt_action import FAILED, UNAVAILABLE, Stop, human


class Kept:
    """Directory with `current` and `previous`, each a package file, and while an upgrade runs a staging directory, `pending`,
    the file that the timer of the way back installs, and `older`, the `previous` of the upgrade before."""

    def __init__(self, packages, site):
        self._packages = packages
        self._directory = site.get("directory", "/var/lib/bolt-engine")
        self._lock = None
        self.staging = None

    def open(self):
        """Creates and locks the directory. Stops if another upgrade holds it."""
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            self._lock = open(os.path.join(self._directory, "lock"), "w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stop(FAILED, "another upgrade holds %s" % self._directory)
        except OSError as error:
            raise Stop(UNAVAILABLE, "%s: %s" % (self._directory, error.strerror))
        for name in os.listdir(self._directory):
            if name.startswith("staging-"):
                shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)
        self.staging = tempfile.mkdtemp(prefix="staging-", dir=self._directory)

    def close(self):
        """Removes the staging directory and releases the lock."""
        if self.staging:
            shutil.rmtree(self.staging, ignore_errors=True)
        if self._lock:
            self._lock.close()

    def path(self, slot):
        """Returns the path of a slot: `current`, `previous`, `pending` or `older`."""
        return os.path.join(self._directory, slot + self._packages.suffix)

    def version(self, slot):
        """Returns the version of a kept file; empty if there is none."""
        shown = self._packages.describe(self.path(slot)) if os.path.exists(self.path(slot)) else None
        return shown[1] if shown else ""

    def put(self, slot, path):
        """Copies a package file to a slot, replacing it in one step, and syncs it to the disk."""
        temporary = self.path(slot) + ".new"
        with open(path, "rb") as source, open(temporary, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        os.rename(temporary, self.path(slot))
        self._sync()

    def share(self, slot, other):
        """Makes `other` the same file as `slot`, in one step; takes no space."""
        temporary = self.path(other) + ".new"
        if os.path.exists(temporary):
            os.unlink(temporary)
        os.link(self.path(slot), temporary)
        os.rename(temporary, self.path(other))
        self._sync()

    def remove(self, slot):
        """Removes the file of a slot, if there is one."""
        if os.path.exists(self.path(slot)):
            os.unlink(self.path(slot))

    def _sync(self):
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def require_space(self, path, root):
        """Stops unless there is room for the kept copies and for the unpacked programs."""
        size = os.path.getsize(path)
        for directory in (self._directory, root + "/usr/lib"):
            found = os.statvfs(directory)
            free = found.f_bavail * found.f_frsize
            if free < 6 * size:
                raise Stop(FAILED, "%s has %s free, and an upgrade needs %s" % (directory, human(free), human(6 * size)))
