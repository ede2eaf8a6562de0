#!/usr/bin/env python3
"""Checks what makes a node NotReady."""

import os
import re
import socket
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import node, tool, x509  # noqa: E402
from lib.bolt_action import FAILED, Stop, clean, config, finish, human, main, read, table, utc  # noqa: E402

CONDITIONS = ("RuntimeReady", "NetworkReady")


def action():
    site, checks = config(), []

    def check(name, result):
        if result is not None:
            checks.append({"check": name, "ok": result[0], "detail": clean(result[1], 300)})

    check("kubelet", node.kubelet())
    check("kubelet_unit", unit(site.get("kubelet_unit", "kubelet.service")))
    check("runtime", runtime(site))
    check("runtime_unit", unit(site.get("runtime_unit", "containerd.service")))
    for name, key, default in (
        ("kubelet_disk", "kubelet_directory", "/var/lib/kubelet"),
        ("runtime_disk", "runtime_directory", "/var/lib/containerd"),
        ("log_disk", "pod_log_directory", "/var/log/pods"),
    ):
        check(name, disk(site.get(key, default), site))
    check("memory", memory(site))
    check("process_ids", process_ids())
    check("certificate", certificate(site))
    bad = [c for c in checks if not c["ok"]]
    print("the node is healthy" if not bad else "%d of %d checks fail" % (len(bad), len(checks)))
    table([("ok" if c["ok"] else "FAIL", c["check"].replace("_", " "), c["detail"]) for c in checks], ("", "CHECK", "DETAIL"))
    finish({"healthy": not bad, "checks": checks})
    return FAILED if bad else None


def unit(name):
    try:
        state = node.unit_state(name)
    except Stop as stop:
        return False, str(stop)
    if state is None:
        return None
    return state["state"] == "active", "%s is %s (%s), restarted %d times" % (name, state["state"], state["detail"], state["restarts"])


def runtime(site):
    path = site.get("runtime_socket", "/run/containerd/containerd.sock")
    if tool.has("crictl"):
        try:
            status = node.runtime("info").get("status") or {}
        except Stop as stop:
            return False, str(stop)
        # The kubelet looks at these two; the others, such as of deprecated settings, leave the node ready.
        known = {c.get("type"): c for c in status.get("conditions") or [] if isinstance(c, dict)}
        wrong = [known.get(kind) or {"type": kind, "reason": "crictl info does not name it"} for kind in CONDITIONS if not (known.get(kind) or {}).get("status")]
        said = ["%s: %s %s" % (c.get("type"), c.get("reason") or "", c.get("message") or "") for c in wrong]
        return not wrong, "; ".join(said) or "ready"
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(5.0)
        probe.connect(path)
        return True, "listens at %s (this node has no crictl to ask more)" % path
    except OSError as error:
        return False, "%s: %s" % (path, error.strerror or error)
    finally:
        probe.close()


def disk(path, site):
    try:
        info = os.statvfs(path)
    except FileNotFoundError:
        return None  # Another kind of node.
    except OSError as error:
        return False, "%s: %s" % (path, error.strerror)
    space = 100.0 * info.f_bavail / info.f_blocks if info.f_blocks else 100.0
    inodes = 100.0 * info.f_favail / info.f_files if info.f_files else 100.0
    good = space >= site.get("disk_free_percent", 15) and inodes >= site.get("inodes_free_percent", 7)
    good = good and not info.f_flag & os.ST_RDONLY
    detail = "%s: %.0f%% of space (%s) and %.0f%% of inodes are free" % (path, space, human(info.f_bavail * info.f_frsize), inodes)
    return good, detail + (", READ-ONLY" if info.f_flag & os.ST_RDONLY else "")


def memory(site):
    match = re.search(rb"^MemAvailable:\s+([0-9]+) kB", read("/proc/meminfo") or b"", re.MULTILINE)
    if not match:
        return None
    free = int(match.group(1)) << 10
    return free >= site.get("memory_free_mib", 200) << 20, "%s are available" % human(free)


def process_ids():
    # Runnable and all threads: "0.00 0.01 0.05 2/345 6789".
    match = re.match(rb"^\S+ \S+ \S+ \d+/(\d+)", read("/proc/loadavg", 256) or b"")
    most = (read("/proc/sys/kernel/pid_max", 64) or b"").strip()
    if not match or not most.isdigit():
        return None
    used = int(match.group(1))
    return used < 0.9 * int(most), "%d of %d are in use" % (used, int(most))


def certificate(site):
    path = site.get("certificate", "/var/lib/kubelet/pki/kubelet-client-current.pem")
    if not path:
        return None
    text = read(path, 1 << 20)
    if text is None:
        return (False, "%s cannot be read" % path) if os.path.lexists(path) else None
    try:
        found = [x509.parse(der) for der in x509.certificates(text) if isinstance(der, bytes)]
    except x509.NotACertificate as error:
        return False, "%s: %s" % (path, error)
    if not found:
        return False, "%s holds no certificate" % path
    first = found[0]
    days = (first["not_after"] - time.time()) / 86400
    return days >= site.get("certificate_days", 7), "%s of %s expires at %s" % (path, clean(first["subject"], 100), utc(first["not_after"]))


main(action)
