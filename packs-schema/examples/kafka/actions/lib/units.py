"""Asks systemd about units, through systemctl."""

import re

from lib import tool
from lib.bolt_action import UNAVAILABLE, WRONG, Stop, clean

UNIT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9@._:\\-]*$")


def require():
    """Stops the action on a host that systemd does not run."""
    tool.find("systemctl", "this action asks systemd")
    _, out, _ = tool.run(["systemctl", "is-system-running"], 15, accept=None)
    if out.strip() in (b"", b"offline", b"unknown"):
        raise Stop(UNAVAILABLE, "systemd is not running on this host (a container?)")


def state(unit):
    """Returns the state of a unit: load, active, sub, pid, restarts; stops the action if there is no such unit."""
    if not UNIT.match(unit):
        raise Stop(WRONG, "%s is not a valid name of a unit" % clean(unit))
    properties = "LoadState,ActiveState,SubState,MainPID,NRestarts"
    _, out, _ = tool.run(["systemctl", "show", "--no-pager", "--property=" + properties, "--", unit], 20)
    pairs = dict(line.split("=", 1) for line in out.decode("utf-8", "replace").splitlines() if "=" in line)
    load = pairs.get("LoadState", "")
    if load != "loaded":
        raise Stop(WRONG, "%s is not loaded (%s) on this host" % (unit, clean(load) or "no answer"))
    number = lambda key: int(pairs.get(key, "0")) if pairs.get(key, "0").isdigit() else 0  # noqa: E731
    return {
        "state": clean(pairs.get("ActiveState", ""), 40),
        "detail": clean(pairs.get("SubState", ""), 40),
        "main_pid": number("MainPID"),
        "restarts": number("NRestarts"),
    }
