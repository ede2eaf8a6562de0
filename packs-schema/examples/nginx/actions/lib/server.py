"""Finds nginx on this host: its program, its master process and its workers."""

import os
import re

from lib import proc, tool
from lib.bolt_action import UNAVAILABLE, Stop, clean, config, read

# nginx: [emerg] unknown directive "x" in /etc/nginx/nginx.conf:5; once it has opened the log, with the time in place of `nginx:`.
PROBLEM = re.compile(r"^(?:nginx:|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(\w+)\] (?:\d+#\d+: )?(.*?)(?: in (/\S+?):(\d+))?$")


def test(seconds):
    """Lets nginx test the configuration; returns whether it is valid, and what nginx says about it."""
    site = config()
    arguments = [tool.find("nginx"), "-t", "-q"]
    if site.get("configuration"):
        arguments += ["-c", site["configuration"]]
    status, out, err = tool.run(arguments, seconds, accept=(0, 1))
    problems = []
    for line in (out + err).decode("utf-8", "replace").splitlines():
        match = PROBLEM.match(line.strip())
        if match and match.group(1) not in ("notice", "info"):
            level, message, path, number = match.groups()
            problems.append({"level": clean(level, 20), "message": clean(message, 400), "file": clean(path or "", 300), "line": int(number or 0)})
    if status != 0 and not problems:
        problems.append({"level": "emerg", "message": tool.last(err or out), "file": "", "line": 0})
    return status == 0, problems[:50]


def master():
    """Returns pid, start time and account of the master process; stops the action if nginx does not run."""
    path = config().get("pid_file", "/run/nginx.pid")
    text = (read(path, 32) or b"").strip()
    if not text.isdigit():
        raise Stop(UNAVAILABLE, "nginx does not run: %s has no pid; set pid_file in /etc/bolt/packs/nginx.yaml if it is elsewhere" % clean(path))
    pid = int(text)
    process = proc.stat(pid)
    if process is None or process["name"] != "nginx":
        raise Stop(UNAVAILABLE, "nginx does not run: process %d of %s %s" % (pid, clean(path), "is " + process["name"] if process else "does not exist"))
    return {"pid": pid, "started": process["started"], "uid": proc.uid(pid)}


def workers(pid):
    """Returns the children of the master: pid, start time, title, open descriptors, resident bytes."""
    found = []
    page = os.sysconf("SC_PAGE_SIZE")
    for child in proc.pids():
        process = proc.stat(child)
        if process is None or process["ppid"] != pid:
            continue
        title = clean((read("/proc/%d/cmdline" % child, 256) or b"").split(b"\0")[0], 80)
        try:
            descriptors = len(os.listdir("/proc/%d/fd" % child))
        except OSError:
            descriptors = -1
        found.append({
            "pid": child,
            "started": process["started"],
            "role": role(title),
            "descriptors": descriptors,
            "descriptor_limit": limit(child),
            "rss_bytes": process["rss_pages"] * page,
        })  # fmt: skip
    return found


def role(title):
    """Returns what a process is for, by the title that nginx gives it."""
    if "worker process is shutting down" in title:
        return "worker_shutting_down"
    if "worker process" in title:
        return "worker"
    return "cache" if "cache" in title else "other"


def limit(pid):
    """Returns the soft limit of open descriptors; -1 if it is unknown or there is none."""
    match = re.search(rb"^Max open files\s+([0-9]+)", read("/proc/%d/limits" % pid, 8192) or b"", re.MULTILINE)
    return int(match.group(1)) if match else -1
