"""Asks the daemon of Docker through its Unix socket."""

import calendar
import json
import re
import time
import urllib.parse

from lib import web
from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Stop, clean, config

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
MAX_ROWS = 20000


def ask(path, query=None, method="GET", seconds=30.0, limit=web.LIMIT):
    """Returns the answer of the daemon; stops the action if it refuses the question. Nothing of `path` comes from a caller unchecked."""
    address = "unix:" + config().get("socket", "/run/docker.sock")
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (query or {}).items()}
    target = path + ("?" + urllib.parse.urlencode(text) if text else "")
    try:
        answer = web.ask(address, target, method, seconds=seconds, limit=limit)
    except web.Unreachable as error:
        raise Stop(UNAVAILABLE, "%s; is Docker running, and is socket right in /etc/bolt/packs/docker.yaml?" % error)
    if answer.status >= 400:
        raise Stop(WRONG if answer.status == 404 else FAILED, "Docker refuses %s %s with status %d: %s" % (method, clean(path), answer.status, reason(answer)))
    return answer


def reason(answer):
    try:
        return clean(str(json.loads(answer.body.decode("utf-8", "replace"))["message"]), 400)
    except (ValueError, KeyError, TypeError):
        return clean(answer.body, 200) or "without a reason"


def containers():
    """Returns all containers, as /containers/json gives them."""
    found = ask("/containers/json", {"all": "1"}).json()
    return [c for c in found if isinstance(c, dict)][:MAX_ROWS] if isinstance(found, list) else []


def inspect(identity):
    """Returns what the daemon knows about a container, by name or id."""
    if not NAME.match(identity):
        raise Stop(WRONG, "%s is not a name or id of a container" % clean(identity))
    return ask("/containers/%s/json" % identity).json()


def name(container):
    """Returns the first name of a container, without the slash."""
    names = container.get("Names") or ["/?"]
    return clean(names[0].lstrip("/"), 100)


def moment(text):
    """Parses a time of the daemon (RFC 3339) to Unix time; 0 if there is none.

    Some times, such as those of networks, are in the zone of the daemon."""
    match = re.match(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))$", text or "")
    if not match or match.group(1).startswith("0001"):
        return 0
    try:
        local = calendar.timegm(time.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0
    offset = 3600 * int(match.group(3) or 0) + 60 * int(match.group(4) or 0)
    return local + offset if match.group(2) == "-" else local - offset
