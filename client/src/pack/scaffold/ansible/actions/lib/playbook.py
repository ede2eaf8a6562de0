"""Runs one playbook of this pack on this host, with the ansible-core of the pack's own environment.

    parameters --JSON, no text a template--> named pipe --> ansible-playbook --events of tasks--> structured result

Callers choose values and nothing else: neither the playbook nor the inventory, nor any option. Their values are never
evaluated as templates, and reach Ansible in no argument, no variable of the environment and no file. Modules get them on
standard input; a task that makes a file of a value (copy, template, async) has Ansible write it to a temporary file first.
Temporary files are in a directory of the execution that only its account may read. It is removed at the end, and if the
action is killed without SIGTERM, by the next start of an action like this one of the same account. Values of secret
parameters are replaced in all output and in the result, before anything is cut.

Exit statuses: 0 success, 1 a task failed, 2 a parameter cannot be passed on, 3 Ansible could not run the playbook.
"""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

FAILED, WRONG, UNAVAILABLE = 1, 2, 3
# The first version in which only what is marked as a template is evaluated, and what a template returns is not.
OLDEST = (2, 19)
PACK = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Variables of Ansible itself, which a parameter must not replace.
RESERVED = ("environment", "group_names", "groups", "hostvars", "inventory_hostname", "omit", "playbook_dir", "vars")
COUNTS = ("ok", "changed", "failed", "skipped", "unreachable", "rescued", "ignored")
RESULT_LIMIT = 60 * 1024  # Bolt accepts 64 KiB.
DATA_LIMIT = 40 * 1024  # Of the result, for what set_stats gave.
NAMES_LIMIT = 20
LINE_LIMIT = 64 * 1024
SHORTEST_SECRET = 4  # Shorter values would be replaced everywhere.
PREFIX = "bolt-ansible-"


class Stop(Exception):
    """Ends the action with an exit status and the error of its result."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def run(playbook, /, **parameters):
    """Runs the playbook with these parameters as variables, writes the result, and exits."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminated)
    hidden = _forms(_secrets(parameters))
    events, status, error = os.memfd_create("events"), 0, None
    try:
        _execute(playbook, _variables(parameters), hidden, events)
    except Stop as stop:
        status, error = stop.status, str(stop)
    result = _result(_read(events))
    if error:
        result["error"] = error
        print(_redact(error, hidden), file=sys.stderr)
    _write(_redact(result, hidden))
    sys.exit(status)


def _execute(playbook, variables, hidden, events):
    """Runs ansible-playbook to its end; raises `Stop` unless all went well."""
    _check_version()
    try:
        _sweep()
        scratch, lock = _scratch()
    except OSError as error:  # The disk is full or read-only.
        raise Stop(UNAVAILABLE, "no directory for temporary files: %s" % error.strerror) from None
    errors = []
    try:
        status = _ansible(playbook, _pipe(scratch, variables), scratch, events, hidden, errors)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _remove(scratch)
        os.close(lock)
    events = _read(events)
    result = _result(events)
    if result.get("failed", 0) + result.get("unreachable", 0):
        last = [event for event in events if event.get("status") in ("failed", "unreachable")][-1]
        raise Stop(FAILED, "%s: %s" % (last["task"], last["message"]))
    refused = [event["error"] for event in events if "error" in event]
    if status != 0 or refused or "ok" not in result:
        said = (refused + errors + ["it ended with status %d" % status])[0]
        raise Stop(UNAVAILABLE, "ansible-playbook cannot run %s: %s" % (playbook, said))


def _ansible(playbook, variables, scratch, events, hidden, errors):
    arguments = ["-i", "localhost,", "-c", "local", "-e", "@" + variables, os.path.join(PACK, "ansible", playbook)]
    if _noop():
        arguments.insert(0, "--check")
    # The callback replaces secrets before it cuts. It closes the descriptor before any task runs.
    secrets = os.memfd_create("secrets")
    with os.fdopen(os.dup(secrets), "w", encoding="ascii") as file:
        json.dump(hidden, file)
    os.lseek(secrets, 0, os.SEEK_SET)
    # -I: neither the working directory nor variables of Python decide what is imported.
    child = subprocess.Popen(
        [sys.executable, "-I", "-B", "-m", "ansible", "playbook"] + arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(scratch, events, secrets),
        pass_fds=[events, secrets],
    )
    os.close(secrets)
    try:
        copies = [
            threading.Thread(target=_copy, args=(source, target, hidden, errors), daemon=True)
            for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
        ]
        for copy in copies:
            copy.start()
        status = child.wait()
        for copy in copies:
            copy.join(5)  # A process that a task left behind may keep the pipe open.
        return status
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _environment(scratch, events, secrets):
    """Returns the environment of Ansible: what Bolt sets, except parameters and result, and where its files are."""
    kept = ("PATH", "HOME", "USER", "LANG", "VIRTUAL_ENV", "TRACEPARENT")
    left_out = ("BOLT_PARAM_", "BOLT_CONFIG", "BOLT_RESULT")
    ours = {n: v for n, v in os.environ.items() if n in kept or n.startswith("BOLT_") and not n.startswith(left_out)}
    return {
        **ours,
        "ANSIBLE_CONFIG": os.path.join(PACK, "ansible", "ansible.cfg"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_HOME": scratch,
        "ANSIBLE_LOCAL_TEMP": scratch,
        "ANSIBLE_REMOTE_TEMP": scratch,
        "ANSIBLE_ASYNC_DIR": os.path.join(scratch, "async"),
        "TMPDIR": scratch,
        "PLAYBOOK_EVENTS": str(events),
        "PLAYBOOK_SECRETS": str(secrets),
    }


def _noop():
    return os.environ.get("BOLT_NOOP", "0") not in ("", "0")


def _check_version():
    try:
        version = importlib.metadata.version("ansible-core")
    except importlib.metadata.PackageNotFoundError:
        message = (
            "ansible-core is not in the pack's environment: requirements.txt must name it, and the site installs it from its "
            "index or wheels ([python] in agent.toml); bolt pack test takes --index URL or --wheels DIR"
        )
        raise Stop(UNAVAILABLE, message) from None
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        message = "ansible-core %s evaluates values as templates: requirements.txt must name 2.19 or later"
        raise Stop(UNAVAILABLE, message % version)


def _variables(parameters):
    """Returns parameters and site configuration as JSON in which no text is a template."""
    for name in parameters:
        if name.startswith("ansible_") or name in RESERVED:
            raise Stop(WRONG, "the parameter %s has the name of a variable of Ansible: rename it" % name)
    config = parameters.get("bolt_config") or _public_config()
    marked = {name: _mark(name, value) for name, value in dict(parameters, bolt_config=config).items()}
    # Ansible reads as YAML, without the marks, what it cannot read as JSON. No YAML begins with a tab.
    return "\t" + json.dumps(marked)


def _mark(name, value):
    """Marks each text as one that is not a template. Names in objects never are templates."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, list):
        return [_mark(name, item) for item in value]
    if isinstance(value, dict):
        for key in value:
            if key.startswith("__ansible"):
                raise Stop(WRONG, "%s: an object must not have the name %s" % (name, json.dumps(key[:100])))
        return {key: _mark(name, item) for key, item in value.items()}
    return value


def _public_config():
    return json.loads(os.environ.get("BOLT_CONFIG") or "{}")


def _secrets(parameters):
    """Yields the values that are on standard input only."""
    for name, value in parameters.items():
        if name == "bolt_config":
            public = _public_config()
            yield from (item for key, item in value.items() if public.get(key) != item)
        elif "BOLT_PARAM_" + name.upper() not in os.environ:
            yield value


def _forms(values):
    """Returns the texts to replace, longest first: each line as it is, and as written in JSON and in Python."""
    found = set()
    for value in values:
        if isinstance(value, (list, dict)):
            found.update(_forms(value if isinstance(value, list) else value.values()))
        elif value is not None and not isinstance(value, bool):
            for line in str(value).splitlines():
                quoted = (json.dumps(line), json.dumps(line, ensure_ascii=False), repr(line))
                found.update([line] + [text[1:-1] for text in quoted])
    return sorted((form for form in found if len(form) >= SHORTEST_SECRET), key=len, reverse=True)


def _redact(value, hidden):
    if isinstance(value, str):
        for form in hidden:
            value = value.replace(form, "********")
        return value
    if isinstance(value, list):
        return [_redact(item, hidden) for item in value]
    if isinstance(value, dict):
        return {_redact(key, hidden): _redact(item, hidden) for key, item in value.items()}
    return value


def _copy(source, target, hidden, errors):
    """Copies lines without secrets, cut at the limit, and collects errors of Ansible itself."""
    longest = max([len(form.encode("utf-8", "backslashreplace")) for form in hidden], default=0)
    while line := source.readline(LINE_LIMIT + longest):
        rest, cut = line, False
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(LINE_LIMIT)
            cut = cut or bool(rest.rstrip(b"\n"))
        text = _redact(line.decode("utf-8", "backslashreplace").rstrip("\n"), hidden)
        if cut and longest:
            # The end may be the beginning of a secret; a character that was cut is up to 12 here.
            text = text[: -(longest + 12)]
        text = text[:LINE_LIMIT]
        if text.startswith("[ERROR]: ") and len(errors) < 10:
            errors.append(text[len("[ERROR]: ") :].strip()[:500])
        target.write(text + "\n")
        target.flush()


def _pipe(directory, text):
    """Returns the path of a pipe from which one reader is given the text. Ansible takes no descriptor."""
    path = os.path.join(directory, "variables")
    os.mkfifo(path, 0o600)

    def serve():
        with contextlib.suppress(BrokenPipeError), open(path, "w", encoding="ascii") as reader:
            os.unlink(path)
            reader.write(text)

    threading.Thread(target=serve, daemon=True).start()
    return path


def _read(events):
    """Returns what the callback has written so far."""
    with open("/proc/self/fd/%d" % events, encoding="ascii") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def _result(events):
    """Makes the structured result."""
    result = {"noop": _noop(), "tasks": []}
    for event in events:
        if "task" in event:
            result["tasks"].append({name: text for name, text in event.items() if text})
        if "counts" in event:
            result.update(zip(COUNTS, event["counts"]))
            result.update({"data": event["data"]} if event["data"] else {})
    return result


def _write(result):
    """Writes the result; if it is too large, without the largest values of `data` and without tasks from the middle."""
    whole, result = result, _within(result, DATA_LIMIT)
    text = json.dumps(result)
    while len(text) > RESULT_LIMIT and len(result["tasks"]) > 2:
        tasks, third = result["tasks"], len(result["tasks"]) // 3
        result = dict(result, truncated=True, tasks=tasks[:third] + tasks[-third:])
        text = json.dumps(result)
    if len(text) > RESULT_LIMIT:
        text = json.dumps(_within(dict(result, data=whole["data"]), 0))
    with open(os.environ["BOLT_RESULT"], "w", encoding="ascii") as file:
        file.write(text)


def _within(result, limit):
    """Returns the result without the largest values of `data` that are above the limit together, and with their names."""
    data = dict(result.get("data", {}))
    sizes = {name: len(json.dumps({name: value})) for name, value in data.items()}
    total, left_out = sum(sizes.values()), []
    for name in sorted(sizes, key=sizes.get, reverse=True):
        if total <= limit:
            break
        del data[name]
        total -= sizes[name]
        left_out.append(name)
    if not left_out:
        return result
    said = "set_stats gave %d bytes, too many for a result; left out: %s"
    names = ", ".join(name[:100] for name in left_out[:NAMES_LIMIT]) + (", …" if len(left_out) > NAMES_LIMIT else "")
    return dict(result, truncated=True, data=data, data_left_out=said % (sum(sizes.values()), names))


def _remove(directory):
    """Removes a directory, also while processes that are being stopped write to it."""
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not os.path.lexists(directory):
            return
        time.sleep(0.1)


def _scratch():
    """Makes the directory of this execution; returns it with a lock on it, which ends with this process."""
    for _ in range(100):
        path = tempfile.mkdtemp(prefix=PREFIX)
        with contextlib.suppress(FileNotFoundError):
            lock = _open(path)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another start may have removed it before the lock.
            if os.path.isdir(path) and os.path.samestat(os.stat(path), os.fstat(lock)):
                return path, lock
            os.close(lock)
    raise Stop(UNAVAILABLE, "no directory for temporary files in %s" % tempfile.gettempdir())


def _sweep():
    """Removes directories of executions of this account that were killed before they could: nothing holds their lock."""
    for entry in os.scandir(tempfile.gettempdir()):
        if not entry.name.startswith(PREFIX):
            continue
        with contextlib.suppress(OSError):
            lock = _open(entry.path)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(lock)


def _open(directory):
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _terminated(_signal, _frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stop(128 + signal.SIGTERM, "stopped by SIGTERM; tasks has what was done")
