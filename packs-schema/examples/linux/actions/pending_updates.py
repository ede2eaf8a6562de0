#!/usr/bin/env python3
"""Lists available package updates from the host's lists of apt, dnf or yum."""

import os
import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import tool  # noqa: E402
from lib.bolt_action import UNAVAILABLE, Stop, clean, finish, main, parameters, table  # noqa: E402

# Inst bash [5.2-1] (5.2-2 Debian:12.1/stable, Debian-Security:12/stable-security [amd64])
APT = re.compile(r"^Inst (\S+) \[([^\]]+)\] \((\S+) (.*?)\s*\[[^\]]*\]\)")
# bash.x86_64    5.2.15-1.amzn2023    amazonlinux
DNF = re.compile(r"^(\S+)\.\S+\s+(\S+)\s+\S+\s*$")


def action():
    given = parameters()
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
    result = {
        "manager": manager,
        "count": len(packages),
        "security": security,
        "reboot_required": reboot_required(),
        "packages": packages[: given["top"]],
    }
    print("%d updates (%s)%s%s" % (
        len(packages), manager, ", %d for security" % security if security >= 0 else "",
        "; a reboot is required" if result["reboot_required"] else "",
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
    for line in out.decode("utf-8", "replace").splitlines():
        if line.startswith("Obsoleting"):
            break
        match = DNF.match(line)
        if match:
            found.append({"name": clean(match.group(1), 100), "installed": "", "available": clean(match.group(2), 80), "security": False})
    return found


def reboot_required():
    if os.path.exists("/run/reboot-required") or os.path.exists("/var/run/reboot-required"):
        return True
    if tool.has("needs-restarting"):
        return tool.run(["needs-restarting", "-r"], 60, accept=(0, 1))[0] == 1
    return False


main(action)
