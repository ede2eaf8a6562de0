#!/usr/bin/env python3
"""Runs a task that was written for Puppet, as its task runner does.

The first implementation whose requirements this instance has gets the parameters in the environment (`PT_<name>`), as
JSON on standard input, or both. Output that is a JSON object is the structured result. An `_error` in it is printed and
fails the execution, also after exit status 0; what a task marks as `_sensitive` is neither printed nor kept.
"""

import json
import os
import shutil
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
# The pack's top directory.
PACK = os.path.dirname(os.path.dirname(HERE))
AGENT = "/opt/puppetlabs/puppet/bin"

MAX_RESULT = 64 << 10
# An object that is longer is printed as it comes.
MAX_OBJECT = 4 << 20
MARK = b'"_sensitive"'
# Time for output that comes after the task's end, in seconds.
PATIENCE = 2


class Unusable(Exception):
    """A task that cannot be run here, with the reason for people."""


def registered():
    """Returns the entry of the action that runs."""
    with open(os.path.join(HERE, "tasks.json"), encoding="utf-8") as file:
        tasks = json.load(file)["tasks"]
    name = os.environ.get("BOLT_ACTION", "")
    if name not in tasks:
        raise Unusable("tasks.json has no action %r: import the module again" % name)
    return tasks[name]


def has(requirement):
    """True if this instance has a feature that implementations may require."""
    if requirement == "shell":
        return True
    if requirement == "puppet-agent":
        return os.path.exists(os.path.join(AGENT, "puppet")) or shutil.which("puppet") is not None
    return False


def chosen(entry):
    """Returns the first implementation that fits."""
    for implementation in entry["implementations"]:
        if all(has(requirement) for requirement in implementation["requirements"]):
            return implementation
    needed = sorted({name for one in entry["implementations"] for name in one["requirements"] if not has(name)})
    raise Unusable("%s does not run here: it needs %s" % (entry["task"], ", ".join(needed)))


def command(path):
    """Returns the arguments that run a script: the interpreter of its first line, elsewhere if it is not there."""
    with open(path, "rb") as file:
        first = file.readline(4096)
    if not first.startswith(b"#!"):
        return [path]
    words = first[2:].decode("utf-8", "replace").split(None, 1)
    if not words:
        return [path]
    name = os.path.basename(words[0])
    if name == "env" and len(words) > 1:
        name = words[1].split()[0]
        # Options of env are left to it.
        if name.startswith("-") or "=" in name or shutil.which(name):
            return [path]
    elif os.path.exists(words[0]):
        return [path]
    agents = os.path.join(AGENT, name)
    found = shutil.which(name) or (agents if os.path.exists(agents) else None)
    if found is None:
        raise Unusable("%s needs %s, which is not installed on this instance" % (os.path.basename(path), words[0]))
    options = words[1].split() if len(words) > 1 and os.path.basename(words[0]) != "env" else []
    return [found] + options + [path]


def arguments(entry, implementation):
    """Returns the parameters by the names of the source, and those that the runner adds."""
    values = json.loads(sys.stdin.read() or "{}")
    values.pop("bolt_config", None)
    given = {source: values[bolt] for bolt, source in entry["names"].items() if values.get(bolt) is not None}
    given["_task"] = entry["task"]
    if implementation["installdir"]:
        given["_installdir"] = os.path.join(PACK, implementation["installdir"])
    if entry["noop"] and os.environ.get("BOLT_NOOP") == "1":
        given["_noop"] = True
    return given


def json_of(value):
    """JSON as Puppet's tools write it: without blanks, and with letters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def variable(value):
    """Text of a value in the environment: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json_of(value)


class Output:
    """Standard output of the task. Text is passed on as it comes; what may be a JSON object is held back."""

    def __init__(self):
        self.held = b""
        self.decided = False
        self.tail = b""
        self.stopped = False

    def write(self, data):
        if self.decided:
            return self.pass_on(data)
        self.held += data
        start = self.held.lstrip()[:1]
        if start and start != b"{" or len(self.held) > MAX_OBJECT:
            self.decided = True
            data, self.held = self.held, b""
            self.pass_on(data)

    def pass_on(self, data):
        """Writes text up to the mark of a value that must not be shown."""
        if self.stopped:
            return
        at = (self.tail + data).find(MARK)
        if at >= 0:
            self.stopped = True
            data = data[: max(0, at - len(self.tail))]
        self.tail = (self.tail + data)[-len(MARK) + 1 :]
        sys.stdout.buffer.write(data)
        if self.stopped:
            sys.stdout.buffer.write(b"\n[the rest is sensitive and not shown]\n")
        sys.stdout.buffer.flush()

    def end(self):
        """Returns the object that the output is, if it is one; other text is written."""
        try:
            value = json.loads(self.held.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
        self.pass_on(self.held)
        return None


def run(arguments_, given, method):
    """Runs the task; returns its exit status and its output."""
    environment = dict(os.environ)
    text = b""
    if method in ("environment", "both"):
        environment.update({"PT_" + name: variable(value) for name, value in given.items()})
    if method in ("stdin", "both"):
        text = json_of(given).encode()
    process = subprocess.Popen(arguments_, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def feed():
        # The task may end without reading everything.
        try:
            process.stdin.write(text)
            process.stdin.close()
        except OSError:
            pass

    output = Output()

    def read():
        while True:
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                return
            output.write(data)

    threads = [threading.Thread(target=work, daemon=True) for work in (feed, read)]
    for thread in threads:
        thread.start()
    status = process.wait()
    # Processes that the task left behind may keep its output open.
    threads[1].join(PATIENCE)
    return (status if status >= 0 else 128 - status), output


def error_of(result, task, status):
    """Returns the error of a task that failed; none if it succeeded."""
    error = (result or {}).get("_error")
    if error is None and status == 0:
        return None
    if not isinstance(error, dict):
        error = {} if error is None else {"msg": str(error)}
    named = {
        "kind": "puppetlabs.tasks/task-error",
        "msg": "The task errored with a code %d" % status,
        "details": {"exitcode": status},
    }
    named.update(error)
    return named


def write(result):
    """Writes the structured result; one that is too large is only on standard output."""
    text = json.dumps(result)
    if len(text.encode()) > MAX_RESULT:
        kept = {"result_in": "stdout", "result_bytes": len(text.encode())}
        if "_error" in result:
            kept["_error"] = {"kind": str(result["_error"]["kind"])[:200], "msg": str(result["_error"]["msg"])[:2000]}
        text = json.dumps(kept)
    with open(os.environ["BOLT_RESULT"], "w", encoding="utf-8") as file:
        file.write(text + "\n")


def main():
    entry = registered()
    implementation = chosen(entry)
    path = os.path.join(PACK, implementation["file"])
    given = arguments(entry, implementation)
    status, output = run(command(path), given, implementation["input_method"])
    result = output.end()
    if result is not None:
        if "_sensitive" in result:
            result["_sensitive"] = "********"
        print(json.dumps(result))
    error = error_of(result, entry["task"], status)
    if error is not None:
        result = dict(result or {}, _error=error)
        sys.stderr.write("%s failed: %s [%s]\n" % (entry["task"], error["msg"], error["kind"]))
    if result is not None:
        write(result)
    return status or (1 if error else 0)


if __name__ == "__main__":
    try:
        code = main()
    except (Unusable, OSError) as problem:
        sys.stderr.write("%s\n" % problem)
        code = 1
    sys.stdout.flush()
    # Not the usual end: a thread may still read what a process left behind writes.
    sys.stderr.flush()
    os._exit(code)
