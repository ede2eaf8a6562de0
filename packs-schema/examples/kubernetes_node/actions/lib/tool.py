"""Runs a program of the host that an action needs, and explains its absence or failure.

Never through a shell; in an environment of its own; with bounded time and output. What remains of it is killed. Needs no
temporary file: the disk may be full or read-only, which actions are there to repair.
"""

import os
import selectors
import shutil
import signal
import subprocess
import time

from lib.bolt_action import FAILED, UNAVAILABLE, Stop, clean

OUTPUT_LIMIT = 8 << 20
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(program, why=""):
    """Returns the path of a program; stops the action if the host lacks it. An absolute path is taken as it is."""
    path = shutil.which(program, path=os.environ.get("PATH", SEARCH))
    if path is None:
        raise Stop(UNAVAILABLE, "this host has no program %s%s" % (clean(program), ": " + why if why else ""))
    return path


def has(program):
    """True if the host has the program."""
    return shutil.which(program, path=os.environ.get("PATH", SEARCH)) is not None


def run(arguments, seconds, text=b"", environment=None, accept=(0,)):
    """Returns exit status, standard output and standard error of a program, both as bytes; `text` is its standard input.

    Stops the action if the program is missing, exceeds its time or OUTPUT_LIMIT, is killed, or ends with a status outside
    `accept` (None: any status)."""
    find(arguments[0])
    variables = {"PATH": os.environ.get("PATH", SEARCH), "LC_ALL": "C", "TZ": "UTC", "HOME": os.environ.get("HOME", "/"), "SYSTEMD_COLORS": "0"}
    variables.update(environment or {})
    name = clean(os.path.basename(arguments[0]))
    source = subprocess.PIPE if text else subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            arguments, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise Stop(UNAVAILABLE, "%s cannot be started: %s" % (name, error.strerror))
    try:
        problem, out, err = _collect(process, text, time.monotonic() + max(seconds, 0.1))
    finally:
        _end(process)
    if problem:
        raise Stop(FAILED, "%s %s" % (name, problem))
    if process.returncode < 0:
        raise Stop(FAILED, "%s was killed by signal %d" % (name, -process.returncode))
    if accept is not None and process.returncode not in accept:
        raise Stop(FAILED, "%s failed with status %d: %s" % (name, process.returncode, last(err or out)))
    return process.returncode, out, err


def _collect(process, text, end):
    """Writes the input and reads both streams until they end; returns a problem (or None) and the output."""
    parts, total = {process.stdout: [], process.stderr: []}, 0
    with selectors.DefaultSelector() as ready:
        for stream in parts:
            ready.register(stream, selectors.EVENT_READ)
        if process.stdin:
            os.set_blocking(process.stdin.fileno(), False)
            ready.register(process.stdin, selectors.EVENT_WRITE)
        while ready.get_map():
            left = end - time.monotonic()
            if left <= 0:
                return "did not finish in time", b"", b""
            for key, _ in ready.select(left):
                if key.fileobj is process.stdin:
                    text = _feed(key.fd, text)
                    if not text:
                        ready.unregister(process.stdin)
                        process.stdin.close()
                    continue
                part = os.read(key.fd, 1 << 16)
                if not part:
                    ready.unregister(key.fileobj)
                parts[key.fileobj].append(part)
                total += len(part)
                if total > OUTPUT_LIMIT:
                    return "wrote more than %d bytes" % OUTPUT_LIMIT, b"", b""
    try:
        process.wait(max(end - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        return "did not finish in time", b"", b""
    return None, b"".join(parts[process.stdout]), b"".join(parts[process.stderr])


def _feed(fd, text):
    """Writes what there is room for, and returns the rest; nothing if the program reads no more."""
    try:
        return text[os.write(fd, text) :]
    except BrokenPipeError:
        return b""


def _end(process):
    """Kills the program and what it started, if it still runs, and closes its streams."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def last(text, count=3):
    """Returns the last lines of a program's output as one printable line."""
    lines = [clean(line.strip(), 300) for line in text.strip().splitlines() if line.strip()]
    return "; ".join(lines[-count:]) or "without a message"
