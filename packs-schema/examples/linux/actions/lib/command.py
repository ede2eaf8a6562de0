"""Runs a program of the host: without a shell, with bounded time and output, in an empty environment."""

import os
import subprocess
import threading

OUTPUT_LIMIT = 4 << 20


def run(arguments, seconds):
    """Returns exit status and standard output of a program; None if it does not exist, or was killed because it exceeded the
    time or OUTPUT_LIMIT."""
    environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C", "TZ": "UTC", "SYSTEMD_COLORS": "0"}
    try:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError:
        return None
    timer = threading.Timer(max(seconds, 0.1), process.kill)
    timer.start()
    try:
        output = process.stdout.read(OUTPUT_LIMIT + 1)
        if len(output) > OUTPUT_LIMIT:
            process.kill()
        status = process.wait()
    finally:
        timer.cancel()
        process.stdout.close()
    return None if status < 0 else (status, output)
