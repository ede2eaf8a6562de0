"""Reads the end of a log file within a bound."""

import os
import re
import stat

from lib.bolt_action import UNAVAILABLE, Stop, clean


def tail(path, limit):
    """Returns the last lines of a regular file, as bytes, from at most `limit` bytes, and the size of the file."""
    try:
        log = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError as error:
        raise Stop(UNAVAILABLE, "%s cannot be read: %s" % (clean(path), error.strerror))
    with log:
        info = os.fstat(log.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise Stop(UNAVAILABLE, "%s is not a regular file (logs that go elsewhere cannot be summarized)" % clean(path))
        start = max(info.st_size - limit, 0)
        log.seek(start)
        text = log.read(limit)
    if start and b"\n" in text:
        text = text[text.index(b"\n") + 1 :]  # The first line is cut.
    return text.splitlines(), info.st_size


def rotated_since(path, moment):
    """True if a log was rotated away that has entries of after `moment`: those are not in the file itself."""
    directory, name = os.path.split(path)
    try:
        names = os.listdir(directory or ".")
    except OSError:
        return False
    for other in names:
        # logrotate: name.1, name.2.gz, or with dateext name-20261129.
        if other.startswith(name) and re.match(r"^[.-][0-9]", other[len(name) :]):
            try:
                if os.stat(os.path.join(directory, other)).st_mtime >= moment:
                    return True
            except OSError:
                continue
    return False


class Counter:
    """Counts keys, at most `most` different ones; further ones are counted together as `(others)`."""

    def __init__(self, most=10000):
        self._found, self._most = {}, most

    def add(self, key):
        if key not in self._found and len(self._found) >= self._most:
            key = "(others)"
        self._found[key] = self._found.get(key, 0) + 1

    def top(self, number):
        """Returns the most frequent keys with their counts."""
        return sorted(self._found.items(), key=lambda pair: (-pair[1], pair[0]))[:number]
