#!/usr/bin/env python3
"""Removes images that no container of the node uses, one after the other."""

import os
import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import node, tool  # noqa: E402
from lib.bolt_action import FAILED, Deadline, Stop, clean, config, counted, finish, human, main, noop  # noqa: E402

# Image of the sandboxes, which no container names, and which older runtimes do not pin.
PAUSE = re.compile(r"(^|/)pause(-[a-z0-9]+)?(:|@|$)")
ID = re.compile(r"^(sha256:)?[0-9a-f]{12,64}$")


def action():
    deadline, site = Deadline(1780.0), config()
    unused = find()
    result = {"noop": noop(), "images": 0, "bytes": 0, "free_bytes_before": free(site), "free_bytes_after": -1, "names": [], "problems": []}
    for image in unused:
        if not noop():
            if deadline.left() < 30:
                result["problems"].append("stopped before the end; run it again")
                break
            try:
                remove(image["id"], site)
            except Stop as stop:
                # An image that a container began to use meanwhile stays: the runtime refuses.
                result["problems"].append("%s: %s" % (image["name"], stop))
                if stop.status > 128:
                    break  # SIGTERM: nothing more is removed, and what was removed is reported.
                continue
        result["images"] += 1
        result["bytes"] += image["bytes"]
        result["names"].append(image["name"])
    result["free_bytes_after"] = free(site)
    print("%s %s of %s" % ("noop: would remove" if noop() else "removed", counted(result["images"], "image"), human(result["bytes"])))
    for name in result["names"][:200]:
        print("  " + name)
    for problem in result["problems"]:
        print("  PROBLEM: " + problem)
    finish(result)
    return FAILED if result["problems"] else None


def find():
    """Returns the images that no container, also none that has ended, uses."""
    used = set()
    containers = node.runtime("ps", "-a").get("containers")
    if not isinstance(containers, list):
        # Without containers the list is empty; no list at all would make every image unused.
        raise Stop(FAILED, "crictl ps lists no containers")
    for container in containers:
        used.add((container.get("image") or {}).get("image"))
        used.update((container.get("imageRef"), container.get("imageId")))
    rows = []
    for image in node.runtime("images").get("images") or []:
        names = [image.get("id")] + list(image.get("repoTags") or []) + list(image.get("repoDigests") or [])
        if image.get("pinned") or used.intersection(names) or not ID.match(image.get("id") or ""):
            continue
        tags = image.get("repoTags") or image.get("repoDigests") or [image["id"]]
        if any(PAUSE.search(tag) for tag in tags):
            continue
        rows.append({"id": image["id"], "name": clean(tags[0], 200), "bytes": int(image.get("size") or 0)})
    return sorted(rows, key=lambda r: -r["bytes"])


def remove(identity, site):
    endpoint = "unix://" + site.get("runtime_socket", "/run/containerd/containerd.sock")
    tool.run(["crictl", "--runtime-endpoint", endpoint, "--timeout", "60s", "rmi", identity], 90.0)


def free(site):
    try:
        info = os.statvfs(site.get("runtime_directory", "/var/lib/containerd"))
    except OSError:
        return -1
    return info.f_bavail * info.f_frsize


main(action)
