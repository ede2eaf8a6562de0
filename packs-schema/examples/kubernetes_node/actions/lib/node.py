"""Asks the kubelet and the container runtime of this node."""

import json
import time

from lib import tool, units, web
from lib.bolt_action import FAILED, Stop, clean, config

SECOND = 1000000000  # The runtime counts nanoseconds.


def kubelet(seconds=5.0):
    """Returns whether the kubelet says that it is healthy, and what it says."""
    address = config().get("kubelet_health", "http://127.0.0.1:10248/healthz")
    try:
        answer = web.ask(address, seconds=seconds, limit=4096)
    except web.Unreachable as error:
        return False, str(error)
    return answer.status == 200, "HTTP status %d: %s" % (answer.status, clean(answer.body.strip(), 200))


def runtime(command, *arguments, **options):
    """Returns the JSON that a command of crictl prints."""
    tool.find("crictl", "the container runtime is asked through it")
    words = ["crictl", "--runtime-endpoint", "unix://" + config().get("runtime_socket", "/run/containerd/containerd.sock"), "--timeout", "20s"]
    # crictl takes an option that follows an argument for one more argument.
    _, out, _ = tool.run(words + [command, "-o", "json", *arguments], options.get("seconds", 30.0))
    try:
        found = json.loads(out.decode("utf-8", "replace"))
    except ValueError:
        raise Stop(FAILED, "crictl %s gave no JSON: %s" % (command, tool.last(out)))
    if not isinstance(found, dict):
        raise Stop(FAILED, "crictl %s gave no object" % command)
    return found


def unit_state(name):
    """Returns the state of a unit, or None where systemd does not run."""
    try:
        units.require()
    except Stop:
        return None
    return units.state(name)


def pod_name(entry):
    """Returns namespace and name of the pod that a container or sandbox belongs to."""
    labels = entry.get("labels") or {}
    metadata = entry.get("metadata") or {}
    name = labels.get("io.kubernetes.pod.name") or metadata.get("name") or "?"
    space = labels.get("io.kubernetes.pod.namespace") or metadata.get("namespace") or "?"
    return clean("%s/%s" % (space, name), 200)


def age_seconds(entry):
    """Returns the seconds since the runtime made a container or sandbox; -1 if it does not say."""
    try:
        return max(int(time.time() - int(entry.get("createdAt", 0)) / SECOND), 0)
    except (TypeError, ValueError):
        return -1
