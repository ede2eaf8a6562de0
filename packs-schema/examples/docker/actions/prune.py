#!/usr/bin/env python3
"""Removes stopped containers, unused images, build cache and networks that are old enough."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import daemon  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, clean, config, finish, human, main, noop, parameters  # noqa: E402

# Containers first: images that only they use are unused afterwards.
ORDER = ("containers", "images", "all_images", "build_cache", "networks")
# Networks that a daemon always has, and never removes.
FIXED = ("bridge", "host", "none", "podman")
STOPPED = ("created", "exited", "dead")


def action():
    given, deadline = parameters(), Deadline(1780.0)
    what = [kind for kind in ORDER if kind in given["what"]]
    if "all_images" in what and "images" in what:
        what.remove("images")
    result = {"noop": noop(), "removed": {}, "reclaimed_bytes": 0, "names": [], "problems": []}
    old = time.time() - 3600 * given["older_than_hours"]
    for kind in what:
        try:
            names, freed = candidates(kind, old, deadline) if noop() else remove(kind, given["older_than_hours"], deadline)
        except Stop as stop:
            result["problems"].append("%s: %s" % (kind, stop))
            if stop.status > 128:
                break  # SIGTERM: nothing more is removed, and what was removed is reported.
            continue
        result["removed"][kind] = len(names)
        result["reclaimed_bytes"] += freed
        result["names"] += ["%s: %s" % (kind, name) for name in names]
    kinds = ", ".join("%d %s" % (n, kind.replace("_", " ")) for kind, n in result["removed"].items()) or "nothing"
    print("%s %s; %s %s" % ("noop: would remove" if noop() else "removed", kinds, "free about" if noop() else "freed", human(result["reclaimed_bytes"])))
    for name in result["names"][:200]:
        print("  " + name)
    for problem in result["problems"]:
        print("  PROBLEM: " + problem)
    finish(result)
    return FAILED if result["problems"] else None


def remove(kind, hours, deadline):
    label = config().get("keep_label", "bolt.keep")
    filters = {"until": ["%dh" % hours], "label!": [label]}
    path = "/%s/prune" % {"all_images": "images", "build_cache": "build"}.get(kind, kind)
    if kind in ("images", "all_images"):
        filters["dangling"] = ["true" if kind == "images" else "false"]
    if kind == "build_cache":
        del filters["label!"]  # Build cache has no labels.
    known = daemon.images() if kind in ("images", "all_images") else set()
    found = daemon.ask(path, {"filters": filters}, "POST", seconds=max(deadline.left(), 1.0)).json()
    key = {"containers": "ContainersDeleted", "build_cache": "CachesDeleted", "networks": "NetworksDeleted"}.get(kind, "ImagesDeleted")
    names = []
    for entry in found.get(key) or []:
        if isinstance(entry, dict):  # Of images: tags that were removed, and images and their layers that were deleted.
            entry = daemon.digest(entry.get("Deleted"))
            entry = entry if entry in known else ""
        if entry:
            names.append(clean(entry[:12] if kind != "networks" else entry, 100))
    return names, found.get("SpaceReclaimed") or 0


def candidates(kind, old, deadline):
    """Returns names and size of what remove() would remove, as far as the daemon tells it."""
    label = config().get("keep_label", "bolt.keep")
    kept = lambda entry: label in (entry.get("Labels") or {})  # noqa: E731
    if kind == "networks":
        found = daemon.ask("/networks", {"filters": {"dangling": ["true"]}}).json()
        return [clean(n.get("Name") or "?", 100) for n in found if n.get("Name") not in FIXED and not kept(n) and 0 < daemon.moment(n.get("Created")) <= old], 0
    found = daemon.usage(max(deadline.left(), 1.0))
    if kind == "containers":
        rows = [c for c in found.get("Containers") or [] if c.get("State") in STOPPED and (c.get("Created") or 0) <= old and not kept(c)]
        return [daemon.name(c) for c in rows], sum(c.get("SizeRw") or 0 for c in rows)
    if kind == "build_cache":
        rows = [b for b in found.get("BuildCache") or [] if not b.get("InUse") and daemon.moment(b.get("LastUsedAt") or b.get("CreatedAt")) <= old]
        return [clean((b.get("ID") or "?")[:12]) for b in rows], sum(b.get("Size") or 0 for b in rows if not b.get("Shared"))
    rows = []
    for i in found.get("Images") or []:
        tags = [t for t in i.get("RepoTags") or [] if t != "<none>:<none>"]
        if (i.get("Containers") or 0) == 0 and (i.get("Created") or 0) <= old and not kept(i) and (kind == "all_images" or not tags):
            rows.append((clean(tags[0] if tags else (i.get("Id") or "?").rpartition(":")[2][:12], 200), max((i.get("Size") or 0) - max(i.get("SharedSize") or 0, 0), 0)))
    return [name for name, _ in rows], sum(size for _, size in rows)


main(action)
