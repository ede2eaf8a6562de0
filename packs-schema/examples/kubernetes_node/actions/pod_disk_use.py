#!/usr/bin/env python3
"""Shows the disk space that pods use for logs and volumes."""

import os
import stat
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import UNAVAILABLE, Deadline, Stop, clean, config, finish, human, main, parameters, table  # noqa: E402

MAX_DEPTH = 40


def action():
    given, site, deadline = parameters(), config(), Deadline(580.0)
    logs = site.get("pod_log_directory", "/var/log/pods")
    volumes = os.path.join(site.get("kubelet_directory", "/var/lib/kubelet"), "pods")
    if not os.path.isdir(logs) and not os.path.isdir(volumes):
        raise Stop(UNAVAILABLE, "neither %s nor %s exists: is this a node of Kubernetes?" % (clean(logs), clean(volumes)))
    pods, count = {}, Count(deadline)
    for name in count.entries(logs):
        # <namespace>_<pod>_<uid>
        parts = name.split("_")
        uid = parts[-1]
        entry = pod(pods, uid)
        if len(parts) == 3:
            entry["pod"] = clean("%s/%s" % (parts[0], parts[1]), 200)
        size, files = count.below(os.path.join(logs, name))
        entry["log_bytes"] += size
        entry["files"] += files
    for uid in count.entries(volumes):
        size, files = count.below(os.path.join(volumes, uid))
        pod(pods, uid)["volume_bytes"] += size
        pods[uid]["files"] += files
    rows = sorted(pods.values(), key=lambda p: (-p["log_bytes"] - p["volume_bytes"], p["uid"]))
    result = {
        "complete": count.complete,
        "log_bytes": sum(p["log_bytes"] for p in rows),
        "volume_bytes": sum(p["volume_bytes"] for p in rows),
        "pods": rows[: given["top"]],
    }
    print("%d pods: logs %s, volumes %s%s" % (
        len(rows), human(result["log_bytes"]), human(result["volume_bytes"]), "" if count.complete else "; INCOMPLETE: the deadline was reached, or something cannot be read",
    ))  # fmt: skip
    table([(human(p["log_bytes"]), human(p["volume_bytes"]), p["files"], p["pod"], p["uid"]) for p in result["pods"]], ("LOGS", "VOLUMES", "FILES", "POD", "UID"), right=(0, 1, 2))
    finish(result)


def pod(pods, uid):
    return pods.setdefault(uid, {"pod": "?", "uid": clean(uid, 64), "log_bytes": 0, "volume_bytes": 0, "files": 0})


class Count:
    """Counts files below directories of one file system, each file once, without following links."""

    def __init__(self, deadline):
        self._deadline, self._linked = deadline, set()
        self.complete = True

    def entries(self, path):
        """Returns the names in a directory."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []
        except OSError:
            self.complete = False
            return []

    def below(self, path):
        """Returns bytes and files."""
        try:
            device = os.lstat(path).st_dev
        except FileNotFoundError:
            return 0, 0
        except OSError:
            self.complete = False
            return 0, 0
        size, files, left = 0, 0, [(path, 0)]
        while left:
            directory, depth = left.pop()
            if self._deadline.passed() or depth > MAX_DEPTH:
                self.complete = False
                break
            try:
                with os.scandir(directory) as found:
                    for entry in found:
                        try:
                            info = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue  # A log that was rotated, a temporary file: the others remain.
                        except OSError:
                            self.complete = False  # Such as a mount whose server is gone.
                            continue
                        if info.st_dev != device:
                            continue  # A volume that is mounted.
                        if stat.S_ISDIR(info.st_mode):
                            left.append((entry.path, depth + 1))
                        elif info.st_nlink == 1 or self._first(info):
                            size, files = size + info.st_blocks * 512, files + 1
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                self.complete = False
        return size, files

    def _first(self, info):
        key = (info.st_dev, info.st_ino)
        if key in self._linked or len(self._linked) > 200000:
            return False
        self._linked.add(key)
        return True


main(action)
