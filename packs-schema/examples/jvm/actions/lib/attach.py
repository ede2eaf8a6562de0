"""Asks a HotSpot JVM through its attach protocol, as jcmd, jstack and jmap do, but without a JDK.

    .attach_pid<n> in its /tmp, then SIGQUIT --> the JVM listens on .java_pid<n> in its /tmp --> "1\\0command\\0arg\\0arg\\0arg\\0"

The JVM answers its own account only (and root, in recent versions), so the effective account is that of the process while it is
asked. SIGQUIT would end a process that does not catch it: one that does not is refused. The number and the /tmp are those of the
container that the process is in; /proc/<pid>/root leads there.
"""

import contextlib
import os
import re
import signal
import socket
import stat
import time

from lib import proc
from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Stop, clean, read

OUTPUT_LIMIT = 64 << 20
START_SECONDS = 10


@contextlib.contextmanager
def as_owner(pid):
    """Has the effective account of a process, where this action runs as root."""
    text = read("/proc/%d/status" % pid, 8192) or b""
    ids = [re.search(rb"^%s:\s+[0-9]+\s+([0-9]+)" % key, text, re.MULTILINE) for key in (b"Uid", b"Gid")]
    if not all(ids):
        raise Stop(WRONG, "process %d has ended" % pid)
    uid, gid = (int(match.group(1)) for match in ids)
    before = os.geteuid(), os.getegid(), os.getgroups()
    if (uid, gid) == before[:2]:
        yield
        return
    if before[0] != 0:
        raise Stop(UNAVAILABLE, "process %d belongs to another account (uid %d), and this action does not run as root" % (pid, uid))
    os.setgroups([gid])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        os.setgroups(before[2])


class Jvm:
    """Java process with exactly this pid and start time."""

    def __init__(self, pid, started):
        self.pid, self.started = pid, started
        names = re.search(rb"^NSpid:\s+(.*)$", read("/proc/%d/status" % pid, 8192) or b"", re.MULTILINE)
        self._number = int(names.group(1).split()[-1]) if names else pid
        self._socket = "/proc/%d/root/tmp/.java_pid%d" % (pid, self._number)

    def ask(self, *words, **options):
        """Returns the output of a command with up to three arguments; stops the action if the JVM refuses it.

        `seconds` is the time for the answer."""
        code, text = self._ask(words, options.get("seconds", 60.0))
        if code != 0:
            raise Stop(FAILED, "the JVM refuses %s: %s" % (" ".join(words), clean(text.strip() or b"without a reason", 400)))
        return text

    def maybe(self, *words, **options):
        """Returns the output, or nothing if this version of the JVM does not know the command."""
        code, text = self._ask(words, options.get("seconds", 60.0))
        return text if code == 0 else b""

    def _ask(self, words, seconds):
        if any("\0" in word for word in words) or len(words) > 4:
            raise Stop(WRONG, "not a command of the attach protocol")
        end = time.monotonic() + seconds
        request = b"1\0" + b"".join(word.encode("utf-8") + b"\0" for word in list(words) + [""] * (4 - len(words)))
        with as_owner(self.pid):
            connection = self._connect(end)
            try:
                connection.sendall(request)
                answer = self._answer(connection, end)
            except OSError as error:
                reason = "no answer within %.0f s (its threads do not reach a safepoint?)" % seconds if isinstance(error, socket.timeout) else error.strerror or str(error)
                raise Stop(FAILED, "process %d did not answer: %s" % (self.pid, reason))
            finally:
                connection.close()
        code, _, text = answer.partition(b"\n")
        if not re.match(rb"^-?[0-9]+$", code.strip()):
            raise Stop(FAILED, "process %d does not speak the attach protocol" % self.pid)
        return int(code), text

    def _answer(self, connection, end):
        parts, total = [], 0
        while True:
            connection.settimeout(max(end - time.monotonic(), 0.01))
            part = connection.recv(1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
            total += len(part)
            if total > OUTPUT_LIMIT:
                raise Stop(FAILED, "process %d answers more than %d bytes" % (self.pid, OUTPUT_LIMIT))

    def _connect(self, end):
        if not self._listens():
            self._start(end)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(max(end - time.monotonic(), 0.01))
        try:
            proc.require(self.pid, self.started)
            connection.connect(self._socket)
        except OSError as error:
            connection.close()
            raise Stop(FAILED, "process %d does not listen at %s: %s" % (self.pid, self._socket, error.strerror or error))
        return connection

    def _listens(self):
        try:
            return stat.S_ISSOCK(os.lstat(self._socket).st_mode)
        except OSError:
            return False

    def _start(self, end):
        """Lets the JVM listen."""
        caught = re.search(rb"^SigCgt:\s+([0-9a-f]+)", read("/proc/%d/status" % self.pid, 8192) or b"", re.MULTILINE)
        if not caught or not int(caught.group(1), 16) >> (signal.SIGQUIT - 1) & 1:
            raise Stop(UNAVAILABLE, "process %d does not catch SIGQUIT (option -Xrs, or it is no JVM), so it cannot be asked" % self.pid)
        name = ".attach_pid%d" % self._number
        try:
            # Its /tmp, also when the process has ended.
            place = os.open("/proc/%d/root/tmp" % self.pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Stop(FAILED, "cannot open the /tmp of process %d: %s" % (self.pid, error.strerror))
        try:
            self._trigger(place, name, end)
        finally:
            os.close(place)

    def _trigger(self, place, name, end):
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place))
        except OSError as error:
            raise Stop(FAILED, "cannot make %s in the /tmp of process %d: %s" % (name, self.pid, error.strerror))
        try:
            proc.require(self.pid, self.started)
            os.kill(self.pid, signal.SIGQUIT)
            end = min(end, time.monotonic() + START_SECONDS)
            while not self._listens():
                if time.monotonic() >= end:
                    raise Stop(FAILED, "process %d does not let anyone attach (-XX:+DisableAttachMechanism, or it hangs)" % self.pid)
                time.sleep(0.05)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=place)
