"""Finds Java processes, and what their command lines say of them.

A command line may hold passwords (-Dpassword=...), so only options that begin with -X and the main class or jar are shown.
"""

import fnmatch
import os
import pwd
import re

from lib import proc
from lib.attach import Jvm
from lib.bolt_action import UNAVAILABLE, WRONG, Stop, clean, read

# Options with a value in the next word.
TAKES_VALUE = (
    "-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules", "--limit-modules",
    "--add-opens", "--add-exports", "--add-reads", "--patch-module", "--enable-native-access", "--source",
)  # fmt: skip
MAX_MAPS = 4 << 20
SHOWN = re.compile(r"^-X(?!bootclasspath)[^\x00-\x20]{1,200}$")


def find():
    """Returns the Java processes that this account may look into, by pid."""
    found = []
    for pid in proc.pids():
        process = proc.stat(pid)
        if process is None or process["state"] in "ZX" or not is_java(pid):
            continue
        words = command_line(pid)
        main, options = parse(words)
        uid = proc.uid(pid)
        found.append({
            "pid": pid,
            "started": process["started"],
            "account": account(uid),
            "main": clean(main, 200),
            "options": [clean(word, 200) for word in options][:30],
            "rss_bytes": process["rss_pages"] * os.sysconf("SC_PAGE_SIZE"),
            "threads": threads(pid),
            "cgroup": proc.cgroup(pid),
        })  # fmt: skip
    return found


def is_java(pid):
    """True if the process has loaded libjvm.so."""
    try:
        name = os.path.basename(os.readlink("/proc/%d/exe" % pid))
    except OSError:
        return False
    if name.startswith("java "):  # "java (deleted)": its package was upgraded.
        return True
    return name == "java" or b"/libjvm.so" in (read("/proc/%d/maps" % pid, MAX_MAPS) or b"")


def command_line(pid):
    text = read("/proc/%d/cmdline" % pid, 1 << 18) or b""
    return [word.decode("utf-8", "replace") for word in text.split(b"\0")]


def parse(words):
    """Returns main class, jar, module or source file, and the options that begin with -X."""
    options, at = [], 1
    while at < len(words):
        word = words[at]
        if word == "-jar" or word in ("-m", "--module"):
            return words[at + 1] if at + 1 < len(words) else "?", options
        if word in TAKES_VALUE:
            at += 2
            continue
        if not word.startswith(("-", "@")):
            return word or "?", options
        if SHOWN.match(word):
            options.append(word)
        at += 1
    return "?", options


def select(given):
    """Returns the one Java process that the parameters pid, started and main name, and its row."""
    pid = given.get("pid")
    if pid is not None:
        proc.require(pid, given.get("started"))
    rows = [row for row in find() if pid is None or row["pid"] == pid]
    if given.get("main"):
        rows = [row for row in rows if fnmatch.fnmatchcase(row["main"], given["main"]) or fnmatch.fnmatchcase(os.path.basename(row["main"]), given["main"])]
    if not rows:
        if pid is not None and not given.get("main"):
            raise Stop(WRONG, "process %d is not a Java process" % pid)
        raise Stop(UNAVAILABLE, "this host has no such Java process; see jvm.list")
    if len(rows) > 1:
        names = ", ".join("%d %s" % (row["pid"], row["main"]) for row in rows[:10])
        raise Stop(WRONG, "this host has %d such Java processes (%s): name one by pid or main" % (len(rows), names))
    return Jvm(rows[0]["pid"], rows[0]["started"]), rows[0]


def account(uid):
    try:
        return clean(pwd.getpwuid(uid).pw_name, 40)
    except (KeyError, OverflowError):
        return str(uid)


def threads(pid):
    match = re.search(rb"^Threads:\s+([0-9]+)", read("/proc/%d/status" % pid, 8192) or b"", re.MULTILINE)
    return int(match.group(1)) if match else 0
