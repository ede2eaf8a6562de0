"""Shared code of a pack's Python actions: parameters, readable output and the structured result.

Standard library only, Python 3.7 or later. Text from other processes (names, log lines, paths) is untrusted and passes
through clean() before it is printed or stored. Nothing here starts a process or passes a parameter to a shell.

An action that stops without a result of its own leaves {"error": message}.

Exit statuses: 0 success, 1 failed check or incomplete remediation, 2 invalid parameter or site configuration, 3 the host
lacks something that the action needs.
"""

import calendar
import json
import os
import re
import signal
import sys
import time

FAILED, WRONG, UNAVAILABLE = 1, 2, 3
RESULT_LIMIT = 60 * 1024  # Bolt accepts 64 KiB.
DEADLINE_MARGIN = 3.0  # Seconds for writing the result, or a fifth of the time if that is less.


class Stop(Exception):
    """Ends the action with a message on standard error and an exit status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def parameters():
    """Returns the parameters with defaults, from the JSON object on standard input."""
    text = sys.stdin.read()
    try:
        given = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise Stop(WRONG, "standard input is not a JSON object of parameters: %s" % error)
    if not isinstance(given, dict):
        raise Stop(WRONG, "standard input is not a JSON object of parameters")
    return given


def config():
    """Returns the site configuration of the pack; empty if there is none."""
    try:
        found = json.loads(os.environ.get("BOLT_CONFIG") or "{}")
    except ValueError as error:
        raise Stop(WRONG, "BOLT_CONFIG is not JSON: %s" % error)
    return found if isinstance(found, dict) else {}


def noop():
    """True for a dry run: report what would change, and change nothing."""
    return os.environ.get("BOLT_NOOP", "0") not in ("", "0")


class Deadline:
    """Time at which to stop and report: BOLT_DEADLINE minus a margin, or `longest` seconds from now."""

    def __init__(self, longest):
        now = time.time()
        left = longest
        absolute = _moment(os.environ.get("BOLT_DEADLINE", ""))
        if absolute is not None:
            left = min(left, absolute - now - min(DEADLINE_MARGIN, 0.2 * (absolute - now)))
        self._end = time.monotonic() + max(left, 0.0)

    def left(self):
        """Returns the seconds left, at least zero."""
        return max(self._end - time.monotonic(), 0.0)

    def passed(self):
        """True after the deadline."""
        return time.monotonic() >= self._end


def _moment(text):
    """Parses seconds, milliseconds or RFC 3339 in UTC to Unix time; None if it is none of them."""
    text = text.strip()
    if re.match(r"^[0-9]+(\.[0-9]+)?$", text):
        number = float(text)
        return number / 1000.0 if number > 1e11 else number
    match = re.match(r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)$", text)
    if match:
        return float(calendar.timegm(time.strptime(match.group(1).replace(" ", "T"), "%Y-%m-%dT%H:%M:%S")))
    return None


def clean(text, limit=200):
    """Returns `text` (bytes or str) on one line, with unprintable characters escaped, cut off at `limit`."""
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "backslashreplace")
    shown = []
    length = 0
    for char in text[: limit + 1]:
        if not char.isprintable():
            code = ord(char)
            char = "\\x%02x" % code if code < 0x100 else "\\u%04x" % code
        length += len(char)
        if length > limit:
            shown.append("...")
            break
        shown.append(char)
    return "".join(shown)


def human(count):
    """Formats a size, such as 1.5GiB."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return "%.1f%s" % (count / unit, name)
    return "%dB" % count


def counted(count, noun):
    """Formats a number with its noun: 1 file, 2 files."""
    return "%d %s%s" % (count, noun, "" if count == 1 else "s")


def utc(moment):
    """Formats Unix time as RFC 3339 in UTC, in seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def read(path, limit=1 << 20, dir_fd=None):
    """Reads at most `limit` bytes of a file in /proc or /sys; None if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        parts, total = [], 0
        while total < limit:
            part = os.read(fd, min(1 << 16, limit - total))
            if not part:
                break
            parts.append(part)
            total += len(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def table(rows, heads, right=()):
    """Prints `rows` under `heads` in columns; those with an index in `right` are right-aligned. The last is not padded."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(head)] + [len(row[i]) for row in rows]) for i, head in enumerate(heads)]
    for row in [list(heads)] + rows:
        cells = [c.rjust(widths[i]) if i in right else c.ljust(widths[i]) for i, c in enumerate(row)]
        print("  " + "  ".join(cells).rstrip())


def finish(result):
    """Writes the structured result. If it is too large, halves its longest lists and sets `truncated`."""
    path = os.environ.get("BOLT_RESULT")
    if not path:
        return
    text = json.dumps(result)
    while len(text) > RESULT_LIMIT:
        lists = [key for key, value in result.items() if isinstance(value, (list, dict)) and len(value) > 1]
        if not lists:
            raise Stop(FAILED, "the result is larger than %d bytes" % RESULT_LIMIT)
        longest = max(lists, key=lambda key: len(json.dumps(result[key])))
        value = result[longest]
        half = len(value) // 2
        kept = value[:half] if isinstance(value, list) else dict(list(value.items())[:half])
        result = dict(result, truncated=True)
        result[longest] = kept
        text = json.dumps(result)
    with open(path, "w", encoding="ascii") as out:
        out.write(text)
    finish.done = True


finish.done = False


def main(action):
    """Runs `action`, which returns an exit status or None, and exits with a status as listed above."""
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        status = action() or 0
        sys.stdout.flush()
    except Stop as stop:
        sys.stdout.flush()
        print(str(stop), file=sys.stderr)
        status = stop.status
        if not finish.done:
            finish({"error": clean(str(stop), 2000)})
    except BrokenPipeError:
        os._exit(FAILED)
    sys.exit(status)


def _terminated(_signal, _frame):
    """Handles SIGTERM: ends the action through its `finally` blocks, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stop(128 + signal.SIGTERM, "stopped by SIGTERM before the end; completed work is listed above")
