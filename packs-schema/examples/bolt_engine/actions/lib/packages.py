"""Package managers: dpkg and rpm, with the same functions."""

import os
import re
import signal
import subprocess
import time

from lib.bolt_action import UNAVAILABLE, Stop
from lib.command import last_lines, run

PACKAGE = "bolt-agent"
INSTALL_SECONDS = 300
LOCK_TRIES, LOCK_SECONDS = 6, 15
LONGEST_SECONDS = INSTALL_SECONDS + LOCK_TRIES * LOCK_SECONDS  # Of install(), whose waits for a lock are short attempts.


class Dpkg:
    """Debian packages."""

    suffix, source = ".deb", "apt"

    def __init__(self, root=""):
        self._root = ["--root=" + root] if root else []

    def installed(self):
        """Returns the installed version; empty if there is none or it is only half installed."""
        status, text = run(["dpkg-query"] + self._root + ["--show", "--showformat=${db:Status-Status} ${Version}", PACKAGE], 30)
        state, _, version = text.strip().partition(" ")
        return version if status == 0 and state == "installed" else ""

    def manages(self):
        """True if it knows the package, also where a failed or interrupted installation has left it half done."""
        status, text = run(["dpkg-query"] + self._root + ["--show", "--showformat=${db:Status-Status}", PACKAGE], 30)
        return status == 0 and text.strip() not in ("", "not-installed", "config-files")

    def architecture(self):
        """Returns the architecture as package names contain it."""
        return run(["dpkg", "--print-architecture"], 30)[1].strip()

    def describe(self, path):
        """Returns name, version and architecture of a package file; None if it is none."""
        shown = run(["dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n${Architecture}\n", path], 60)
        return described(shown)

    def is_newer(self, one, other):
        """True if version `one` is newer than `other`."""
        return run(["dpkg", "--compare-versions", one, "gt", other], 30)[0] == 0

    def unpack(self, path, directory):
        """Unpacks the files of a package file; returns a problem, or None."""
        status, text = run(["dpkg-deb", "--extract", path, directory], 120)
        return None if status == 0 else "; ".join(last_lines(text, 2))

    def install_command(self, path):
        """Returns the command that installs a file. Configuration that the site changed is kept."""
        return ["dpkg"] + self._root + ["--force-confold", "--install", path]


class Rpm:
    """RPM packages."""

    suffix, source = ".rpm", "dnf"

    def __init__(self, root=""):
        self._root = ["--root", root] if root else []

    def installed(self):
        """Returns the installed version with its release; empty if there is none."""
        status, text = run(["rpm"] + self._root + ["-q", "--qf", "%{VERSION}-%{RELEASE}\n", PACKAGE], 30)
        # Two after an interrupted upgrade: the last one is the newer.
        return text.split()[-1] if status == 0 and text.split() else ""

    def manages(self):
        """True if the package is installed."""
        return bool(self.installed())

    def architecture(self):
        """Returns the architecture as package names contain it."""
        return run(["rpm", "--eval", "%{_arch}"], 30)[1].strip()

    def describe(self, path):
        """Returns name, version and architecture of a package file; None if it is none."""
        return described(run(["rpm", "-qp", "--nosignature", "--qf", "%{NAME}\n%{VERSION}-%{RELEASE}\n%{ARCH}\n", path], 60))

    def is_newer(self, one, other):
        """True if version `one` is newer than `other`."""
        # Both versions fit the pattern of the parameter, which contains no quote.
        if not (re.match(r"^[0-9A-Za-z.+~:-]+$", one) and re.match(r"^[0-9A-Za-z.+~:-]+$", other)):
            raise Stop(UNAVAILABLE, "rpm reports a version that cannot be compared: %r, %r" % (one, other))
        status, text = run(["rpm", "--eval", "%%{lua: print(rpm.vercmp('%s', '%s'))}" % (one, other)], 30)
        if status != 0 or text.strip() not in ("-1", "0", "1"):
            raise Stop(UNAVAILABLE, "this host's rpm cannot compare versions (rpm 4.7 or later is needed)")
        return text.strip() == "1"

    def unpack(self, path, directory):
        """Unpacks the files of a package file; returns a problem, or None."""
        archive = os.path.join(directory, ".cpio")
        with open(archive, "wb") as out:
            status, text = run(["rpm2cpio", path], 120, output=out)
        if status != 0:
            return "; ".join(last_lines(text, 2)) or "rpm2cpio failed"
        with open(archive, "rb") as source:
            try:
                done = subprocess.run(
                    ["cpio", "--extract", "--make-directories", "--quiet", "--no-absolute-filenames"],
                    stdin=source,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=directory,
                    timeout=120,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return "cpio: %s" % error
        os.unlink(archive)
        return None if done.returncode == 0 else "cpio failed with status %d" % done.returncode

    def install_command(self, path):
        """Returns the command that installs a file. Configuration that the site changed is kept (%config(noreplace))."""
        return ["rpm"] + self._root + ["--upgrade", "--oldpackage", "--replacepkgs", path]


def described(answer):
    status, text = answer
    fields = text.splitlines()
    return tuple(fields[:3]) if status == 0 and len(fields) >= 3 else None


def manager(root):
    """Returns the package manager that installed the agent below `root`."""
    found = [one for one in (Dpkg(root), Rpm(root)) if one.manages()]
    if not found:
        raise Stop(UNAVAILABLE, "no package %s is installed by dpkg or rpm on this host; this action upgrades packages only" % PACKAGE)
    return found[0]


def install(packages, path):
    """Installs a package file; returns a problem with the manager's last lines, or None.

    Waits for a lock that another program holds, such as an unattended upgrade. A kill of this action is heard after the
    installation, which is bounded: a package manager that is killed half way leaves a host without an agent."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # Also for the package manager, which inherits this.
    try:
        for _ in range(LOCK_TRIES):
            status, text = run(packages.install_command(path), INSTALL_SECONDS)
            if status == 0 or not re.search(r"\block(ed)?\b", text):
                break
            time.sleep(LOCK_SECONDS)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    for line in last_lines(text, 30):
        print("  | " + line)
    if status == 0:
        return None
    lines = last_lines(text, 3)
    return "%s ended with status %s: %s" % (packages.install_command(path)[0], status, "; ".join(lines) or "no output")
