#!/usr/bin/env python3
"""Shows the space that Docker uses, by kind."""

import os
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import daemon  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, human, main, parameters, table  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(280.0)
    root = daemon.ask("/info").json().get("DockerRootDir", "")
    found = daemon.usage(deadline.left())
    images = [image(i) for i in found.get("Images") or []]
    containers = [container(c) for c in found.get("Containers") or []]
    volumes = [volume(v) for v in found.get("Volumes") or []]
    cache = [{"bytes": max(b.get("Size") or 0, 0), "in_use": bool(b.get("InUse"))} for b in found.get("BuildCache") or [] if not b.get("Shared")]
    kinds = {"images": kind(images), "containers": kind(containers), "volumes": kind(volumes), "build_cache": kind(cache)}
    # Layers that several images share are on the disk once.
    kinds["images"]["bytes"] = found.get("LayersSize") or 0
    kinds["images"]["reclaimable_bytes"] = sum(i["own"] for i in images if not i["in_use"])
    largest = lambda rows: [{k: r[k] for k in ("name", "id", "bytes", "in_use")} for r in sorted(rows, key=lambda r: -r["bytes"])[: given["top"]]]  # noqa: E731
    result = {
        "root": clean(root, 300),
        "file_system_used_percent": used_percent(root),
        "kinds": kinds,
        "images": largest(images),
        "containers": largest(containers),
        "volumes": largest(volumes),
    }
    show(result)
    finish(result)


def image(entry):
    tags = [t for t in entry.get("RepoTags") or [] if t != "<none>:<none>"]
    size = max(entry.get("Size") or 0, 0)
    return {
        "name": clean(tags[0] if tags else "<none>", 200),
        "id": clean((entry.get("Id") or "?").rpartition(":")[2][:12]),
        "bytes": size,
        "own": max(size - max(entry.get("SharedSize") or 0, 0), 0),
        "in_use": (entry.get("Containers") or 0) > 0,
    }


def container(entry):
    return {
        "name": daemon.name(entry),
        "id": clean((entry.get("Id") or "?")[:12]),
        "bytes": max(entry.get("SizeRw") or 0, 0),
        "in_use": entry.get("State") in ("running", "paused", "restarting"),
    }


def volume(entry):
    usage = entry.get("UsageData") or {}
    return {"name": clean(entry.get("Name") or "?", 100), "id": "", "bytes": max(usage.get("Size") or 0, 0), "in_use": (usage.get("RefCount") or 0) > 0}


def kind(rows):
    return {
        "count": len(rows),
        "bytes": sum(r["bytes"] for r in rows),
        "reclaimable_bytes": sum(r["bytes"] for r in rows if not r["in_use"]),
    }


def used_percent(root):
    try:
        info = os.statvfs(root)
    except (OSError, ValueError):
        return -1
    used = info.f_blocks - info.f_bfree
    return -(-used * 100 // (used + info.f_bavail)) if used + info.f_bavail else -1


def show(result):
    percent = result["file_system_used_percent"]
    print("%s, file system %s full" % (result["root"] or "?", "%d%%" % percent if percent >= 0 else "?"))
    table(
        [(name.replace("_", " "), k["count"], human(k["bytes"]), human(k["reclaimable_bytes"])) for name, k in result["kinds"].items()],
        ("KIND", "COUNT", "SIZE", "RECLAIMABLE"), right=(1, 2, 3),
    )  # fmt: skip
    for key in ("images", "containers", "volumes"):
        if result[key]:
            print("\nLargest %s" % key)
            table([(human(r["bytes"]), "yes" if r["in_use"] else "no", r["id"] or "-", r["name"]) for r in result[key]], ("SIZE", "IN USE", "ID", "NAME"), right=(0,))


main(action)
