"""Reads CLIENT LIST."""

from lib import resp
from lib.bolt_action import FAILED, Stop, clean

MAX_CLIENTS = 100000
# Flags of client(7) in the order in which they decide.
KINDS = (("S", "replica"), ("M", "master"), ("O", "monitor"), ("P", "pubsub"), ("b", "blocked"))


def clients(server):
    """Returns the clients of the server, without this connection."""
    try:
        text = server.ask("CLIENT", "LIST")
    except resp.Refused as error:
        raise Stop(FAILED, "the server refuses CLIENT LIST: %s" % error)
    own = server.maybe("CLIENT", "ID")
    rows = [parse(line) for line in text.decode("utf-8", "replace").splitlines()[:MAX_CLIENTS] if line]
    return [row for row in rows if row["id"] != own]


def parse(line):
    # Not at commas: a name may hold `,id=7,addr=...`, which would be the identity of another client.
    pairs = dict(item.partition("=")[::2] for item in line.split(" ") if "=" in item)
    number = lambda key: resp.number(pairs, key)  # noqa: E731
    flags = pairs.get("flags", "")
    return {
        "id": number("id"),
        "address": clean(pairs.get("addr", "?"), 120),
        "name": clean(pairs.get("name", ""), 60),
        "user": clean(pairs.get("user", ""), 60),
        "kind": next((kind for flag, kind in KINDS if flag in flags), "normal"),
        "command": clean(pairs.get("cmd", ""), 40),
        "age_seconds": number("age"),
        "idle_seconds": number("idle"),
        "buffer_bytes": number("qbuf") + number("omem"),
    }
