"""Asks the daemon of Docker through its Unix socket."""

import calendar
import json
import re
import time
import urllib.parse

from lib import web
from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Stop, clean, config

# Later versions leave out of /system/df what space and prune read; a path without a version means the latest.
NEWEST = (1, 51)
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
MAX_ROWS = 20000


def ask(path, query=None, method="GET", seconds=30.0, limit=web.LIMIT):
    """Returns the answer of the daemon; stops the action if it refuses the question. Nothing of `path` comes from a caller unchecked."""
    return _ask(version() + path, query, method, seconds, limit)


def version():
    """Returns the version of the API to ask in, as the beginning of a path."""
    if not version.known:
        found = _ask("/version", seconds=30.0).json()
        latest = re.match(r"^(\d{1,4})\.(\d{1,4})$", str(found.get("ApiVersion")) if isinstance(found, dict) else "")
        if not latest:
            raise Stop(FAILED, "the service does not say which version of the API of Docker it speaks")
        version.known = "/v%d.%d" % min(NEWEST, tuple(map(int, latest.groups())))
    return version.known


version.known = ""


def _ask(path, query=None, method="GET", seconds=30.0, limit=web.LIMIT):
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


def usage(seconds):
    """Returns what takes space, as /system/df gives it."""
    found = ask("/system/df", seconds=seconds).json()
    if not isinstance(found, dict) or "Images" not in found:
        raise Stop(FAILED, "Docker does not say what its images take")  # Which would look like no images.
    return found


def images():
    """Returns the digests of all images, without those of their layers."""
    found = ask("/images/json").json()
    return {digest(i.get("Id")) for i in found if isinstance(i, dict)} if isinstance(found, list) else set()


def digest(text):
    """Returns an id without the name of its algorithm, which Podman leaves out of some answers."""
    return (text or "").rpartition(":")[2]


def containers():
    """Returns all containers, as /containers/json gives them."""
    found = ask("/containers/json", {"all": "1"}).json()
    return [c for c in found if isinstance(c, dict)][:MAX_ROWS] if isinstance(found, list) else []


def inspect(identity, seconds=30.0):
    """Returns what the daemon knows about a container, by name or id."""
    if not NAME.match(identity):
        raise Stop(WRONG, "%s is not a name or id of a container" % clean(identity))
    return ask("/containers/%s/json" % identity, seconds=seconds).json()


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
