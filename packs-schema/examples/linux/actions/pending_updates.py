#!/usr/bin/env python3
"""Lists available package updates from the host's lists of apt, dnf or yum."""

import os
import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import tool  # noqa: E402
from lib.bolt_action import UNAVAILABLE, Deadline, Stop, clean, finish, main, parameters, table  # noqa: E402

# Inst bash [5.2-1] (5.2-2 Debian:12.1/stable, Debian-Security:12/stable-security [amd64])
APT = re.compile(r"^Inst (\S+) \[([^\]]+)\] \((\S+) (.*?)\s*\[[^\]]*\]\)")
# bash.x86_64    5.2.15-1.amzn2023    amazonlinux
DNF = re.compile(r"^(\S+)\.\S+\s+(\S+)\s+\S+\s*$")


def action():
    given, deadline = parameters(), Deadline(170.0)
    if tool.has("apt-get"):
        manager, packages = "apt", apt()
    elif tool.has("dnf"):
        manager, packages = "dnf", rpm("dnf")
    elif tool.has("yum"):
        manager, packages = "yum", rpm("yum")
    else:
        raise Stop(UNAVAILABLE, "this host has neither apt-get nor dnf nor yum")
    security = sum(p["security"] for p in packages) if manager == "apt" else -1
    packages.sort(key=lambda p: (not p["security"], p["name"]))
    required, known = reboot_required(manager, min(60.0, deadline.left()))
    result = {
        "manager": manager,
        "count": len(packages),
        "security": security,
        "reboot_required": required,
        "reboot_known": known,
        "packages": packages[: given["top"]],
    }
    print("%d updates (%s)%s%s" % (
        len(packages), manager, ", %d for security" % security if security >= 0 else "",
        "; a reboot is required" if required else "" if known else "; whether a reboot is required is unknown",
    ))  # fmt: skip
    table(
        [(p["name"], p["installed"], p["available"], "yes" if p["security"] else "") for p in result["packages"]],
        ("PACKAGE", "INSTALLED", "AVAILABLE", "SECURITY"),
    )
    finish(result)


def apt():
    """Lets apt simulate an upgrade, which needs no lock, without the planner's log in /var/log/apt."""
    options = ["-s", "-q", "-o", "Debug::NoLocking=1", "-o", "Dir::Log::Planner=/dev/null"]
    _, out, _ = tool.run(["apt-get", *options, "dist-upgrade"], 150)
    found = []
    for line in out.decode("utf-8", "replace").splitlines():
        match = APT.match(line)
        if match:
            name, old, new, origins = match.groups()
            found.append({"name": clean(name, 100), "installed": clean(old, 80), "available": clean(new, 80), "security": "security" in origins.lower()})
    return found


def rpm(program):
    """Exit status 100 means that there are updates."""
    _, out, _ = tool.run([program, "-q", "-C", "check-update"], 150, accept=(0, 100))
    found = []
    for line in rows(out.decode("utf-8", "replace")):
        if line.startswith("Obsoleting"):
            break
        match = DNF.match(line)
        if match:
            found.append({"name": clean(match.group(1), 100), "installed": "", "available": clean(match.group(2), 80), "security": False})
    return found


def rows(text):
    """Joins the lines of each row: without a terminal yum wraps at 80 columns, and begins what continues a row with spaces."""
    joined = []
    for line in text.splitlines():
        if joined and joined[-1] and line[:1] == " " and line.strip():
            joined[-1] += line
        else:
            joined.append(line)
    return joined


def reboot_required(manager, seconds):
    """Returns whether a reboot is required, and whether that is known."""
    if os.path.exists("/run/reboot-required") or os.path.exists("/var/run/reboot-required"):
        return True, True
    if not tool.has("needs-restarting"):
        return False, manager == "apt"
    try:
        status, out, err = tool.run(["needs-restarting", "-r"], seconds, accept=(0, 1))
    except Stop:
        return False, False
    # Status 1 is also that of a plugin or of Python that fails.
    required = status == 1 and re.search(rb"[Rr]eboot is required", out + err) is not None
    return required, required or status == 0


main(action)
