#!/usr/bin/env python3
"""Prints the last lines that a container wrote."""

import struct
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import daemon  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, main, parameters  # noqa: E402

LIMIT = 1 << 20


def action():
    given, deadline = parameters(), Deadline(100.0)
    found = daemon.inspect(given["container"])
    identity = found.get("Id") or given["container"]
    query = {
        "stdout": "0" if given["stream"] == "stderr" else "1",
        "stderr": "0" if given["stream"] == "stdout" else "1",
        "timestamps": "1",
    }
    if given.get("minutes"):
        query["since"] = str(int(time.time()) - 60 * given["minutes"])
    answer, complete = last(identity, query, given["lines"], deadline)
    text = answer.body if (found.get("Config") or {}).get("Tty") else joined(answer.body)
    lines = text.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    for line in lines[-given["lines"] :]:
        print(clean(line, 4000))
    finish({
        "name": clean((found.get("Name") or "?").lstrip("/"), 100),
        "id": clean(identity[:12]),
        "lines": len(lines[-given["lines"] :]),
        "complete": complete,
    })  # fmt: skip


def last(identity, query, count, deadline):
    """Returns the answer with the last lines, fewer if so many exceed the limit, and whether that was not necessary.

    The daemon sends the oldest line first, so that the end of an answer that is too large would be lost."""
    complete = True
    while True:
        answer = daemon.ask("/containers/%s/logs" % identity, dict(query, tail=str(count)), seconds=min(60.0, deadline.left()), limit=LIMIT)
        if answer.complete or count == 1 or deadline.left() < 10:
            return answer, complete and answer.complete
        count, complete = count // 2, False


def joined(body):
    """Joins the frames of both streams: stream, three zeros, length, bytes."""
    parts, at = [], 0
    while at + 8 <= len(body):
        stream, length = struct.unpack_from(">BxxxI", body, at)
        if stream > 2:
            return body  # Not in frames.
        parts.append(body[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(parts)


main(action)
