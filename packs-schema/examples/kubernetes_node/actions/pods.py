#!/usr/bin/env python3
"""Shows pods and containers as the container runtime sees them."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import node  # noqa: E402
from lib.bolt_action import Deadline, Stop, clean, counted, finish, human, main, parameters, table  # noqa: E402

MAX_INSPECTED = 40


def action():
    given, deadline = parameters(), Deadline(150.0)
    pods, containers = node.runtime("pods").get("items") or [], node.runtime("ps", "-a").get("containers") or []
    if given.get("namespace"):
        mine = lambda entry: node.pod_name(entry).startswith(given["namespace"] + "/")  # noqa: E731
        pods, containers = list(filter(mine, pods)), list(filter(mine, containers))
    images, rows = image_bytes(), [row(c) for c in containers]
    exited = sorted((r for r in rows if r["state"] == "exited"), key=lambda r: r["age_seconds"])[:MAX_INSPECTED]
    for entry in exited:
        if not deadline.passed():
            explain(entry, min(10.0, deadline.left()))
    result = {
        "pods": by_state(pods, "SANDBOX_"),
        "containers": by_state(containers, "CONTAINER_"),
        "image_bytes": images,
        "restarted": sorted((r for r in rows if r["attempt"]), key=lambda r: (-r["attempt"], r["pod"]))[: given["top"]],
        "failed": [r for r in exited if r["exit_code"] > 0][: given["top"]],
    }
    show(result)
    finish(result)


def row(container):
    metadata = container.get("metadata") or {}
    return {
        "pod": node.pod_name(container),
        "container": clean(metadata.get("name") or "?", 100),
        "id": clean(container.get("id") or "?", 64)[:13],
        "state": clean((container.get("state") or "?").replace("CONTAINER_", "").lower(), 20),
        "attempt": int(metadata.get("attempt") or 0),
        "age_seconds": node.age_seconds(container),
        "exit_code": -1,
        "reason": "",
    }


def explain(entry, seconds):
    """Adds exit code and reason of a container that ended."""
    try:
        status = node.runtime("inspect", entry["id"], seconds=seconds).get("status") or {}
    except Stop:
        return  # Removed meanwhile.
    entry["exit_code"] = int(status.get("exitCode") or 0)
    entry["reason"] = clean(("%s %s" % (status.get("reason") or "", status.get("message") or "")).strip(), 200)


def by_state(entries, prefix):
    found = {}
    for entry in entries:
        state = clean((entry.get("state") or "?").replace(prefix, "").lower(), 20)
        found[state] = found.get(state, 0) + 1
    return found


def image_bytes():
    try:
        found = node.runtime("imagefsinfo").get("status") or {}
    except Stop:
        return -1
    systems = found.get("imageFilesystems") or [] if isinstance(found, dict) else []
    try:
        return sum(int((fs.get("usedBytes") or {}).get("value") or 0) for fs in systems)
    except (TypeError, ValueError, AttributeError):
        return -1


def show(result):
    states = lambda found: ", ".join("%d %s" % (n, s) for s, n in sorted(found.items())) or "none"  # noqa: E731
    print("%s (%s), %s (%s)%s" % (
        counted(sum(result["pods"].values()), "pod"), states(result["pods"]), counted(sum(result["containers"].values()), "container"),
        states(result["containers"]), ", images %s" % human(result["image_bytes"]) if result["image_bytes"] >= 0 else "",
    ))  # fmt: skip
    for head, key in (("Started again", "restarted"), ("Ended with an error", "failed")):
        if result[key]:
            print("\n" + head)
            table(
                [(r["attempt"], r["state"], r["age_seconds"], r["exit_code"] if r["exit_code"] >= 0 else "-", r["id"], "%s %s" % (r["pod"], r["container"]), r["reason"]) for r in result[key]],
                ("ATTEMPT", "STATE", "AGE", "EXIT", "ID", "POD, CONTAINER", "REASON"), right=(0, 2, 3),
            )  # fmt: skip


main(action)
