"""Runs a program of the host: without a shell, with bounded time and output, in an environment of its own."""

import os
import subprocess
import threading

from lib.bolt_action import clean

OUTPUT_LIMIT = 1 << 20


def run(arguments, seconds, directory="/", output=None):
    """Runs a program and returns its exit status and its output with standard error, or standard error alone if standard
    output goes to the file `output`. The status is None if it does not exist, and negative if it was killed, also because
    it exceeded the time or OUTPUT_LIMIT."""
    environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
    environment.update(HOME="/root", DEBIAN_FRONTEND="noninteractive", SYSTEMD_COLORS="0")
    merged = subprocess.STDOUT if output is None else subprocess.PIPE
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output is None else output,
            stderr=merged,
            env=environment,
            cwd=directory,
        )
    except OSError as error:
        return None, "%s: %s" % (arguments[0], error.strerror)
    stream = process.stdout if output is None else process.stderr
    timer = threading.Timer(max(seconds, 0.1), process.kill)
    timer.start()
    try:
        text = stream.read(OUTPUT_LIMIT + 1)
        if len(text) > OUTPUT_LIMIT:
            process.kill()
        status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        timer.cancel()
        stream.close()
    return status, text.decode("utf-8", "backslashreplace")


def last_lines(text, count=10):
    """Returns the last lines of a program's output, printable, for a message."""
    lines = [clean(line, 300) for line in text.strip().splitlines() if line.strip()]
    return lines[-count:]
