#!/usr/bin/env python3
"""Runs the scripts of an action that was imported from another system, one after the other, as that system does.

Values of callers become environment variables of the scripts; nothing is put into their text. Where a caller gives a whole
script, it is a file of its own. Standard input of this program has the values as JSON; that of the scripts is empty."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PACK = os.path.dirname(os.path.dirname(HERE))
# Exit statuses with a meaning in Systems Manager.
STOP_AND_SUCCEED, STOP_AND_FAIL, REBOOT = 168, 169, 194
# Exit status of a step that was stopped because of its time-out.
TIMED_OUT = 124


class Unusable(Exception):
    """A value that a step cannot use."""


def text_of(value):
    """Text of a value: JSON, unless it is text already."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def value_of(source, given):
    """Value of an environment variable."""
    if "text" in source:
        return source["text"]
    if "environment" in source:
        return os.environ.get(source["environment"], "")
    if "hostname" in source:
        return socket.gethostname()
    value = given.get(source["parameter"])
    if isinstance(value, list) and "delimiter" in source:
        return source["delimiter"].join(text_of(item) for item in value)
    return text_of(value)


def joined(pieces, variables):
    return "".join(piece["text"] if "text" in piece else variables.get(piece["variable"], "") for piece in pieces)


def release():
    """Name and version of the system, as in /etc/os-release."""
    found = {}
    try:
        with open("/etc/os-release") as lines:
            for line in lines:
                name, separator, value = line.strip().partition("=")
                if separator:
                    found[name] = value.strip("\"'")
    except (OSError, ValueError):
        pass
    return found.get("NAME", "Linux"), found.get("VERSION_ID", "")


def environment(entry, variables):
    """Environment of the scripts."""
    result = dict(os.environ)
    if entry["ssm"]:
        name, version = release()
        result["AWS_SSM_INSTANCE_ID"] = result.get("BOLT_INSTANCE_ID", "")
        result["AWS_SSM_REGION_NAME"] = result.get("BOLT_REGION", "")
        result["AWS_SSM_PLATFORM_NAME"], result["AWS_SSM_PLATFORM_VERSION"] = name, version
        result["SSM_COMMAND_ID"] = result.get("BOLT_EXECUTION_ID", "")
    result.pop("BOLT_RESULT", None)
    # A parameter may have the name of one of them.
    result.update(variables)
    return result


def seconds(step, variables, ssm):
    """Time-out of a step, or None."""
    if step["timeout"] is None:
        return None
    given = joined(step["timeout"], variables)
    try:
        number = float(given)
    except ValueError:
        number = -1.0
    if ssm and not 5 <= number <= 172800:
        return 3600.0
    if not 0 < number < 1e9:
        raise Unusable("%s: its time-out %r is no number of seconds" % (step["name"], given))
    return number


class Runner(object):
    def __init__(self, entry, variables, given):
        self.entry, self.variables, self.given = entry, variables, given
        self.environment = environment(entry, variables)
        self.child = None
        # The last script was stopped because of its time-out; its own status may be the same.
        self.expired = False
        # The first signal that stopped the action. No script starts after it: no step, no handler, no final step.
        self.ended_by = None
        self.reports = []
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, self.forward)

    def forward(self, number, _frame):
        """Remembers the signal, and passes it on: scripts have a process group of their own, so that a time-out ends all of it."""
        self.ended_by = self.ended_by or number
        self.signal(number)

    def signal(self, number):
        if self.child is None:
            return
        try:
            os.killpg(self.child.pid, number)
        except OSError:
            pass

    def run(self, step):
        """Runs one script; returns its exit status."""
        sys.stdout.flush()
        directory = joined(step["directory"], self.variables) if step["directory"] else ""
        if not directory.startswith("/"):
            directory = None
        # An argument without a value is none, as in Rundeck.
        arguments = [word for word in (joined(argument, self.variables) for argument in step["arguments"]) if word]
        if step["program"] is None:
            return self.start(step, step["interpreter"], os.path.join(PACK, step["script"]), arguments, directory)
        text = value_of(step["program"], self.given)
        # The agent of Systems Manager runs an empty script, too.
        if not text.strip() and not self.entry["ssm"]:
            raise Unusable("%s: the script that the caller gives is empty" % step["name"])
        with tempfile.TemporaryDirectory(prefix="bolt-step-") as place:
            path = os.path.join(place, "script")
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(text + "\n")
            os.chmod(path, 0o700)
            interpreter = [] if text.startswith("#!") else step["interpreter"]
            return self.start(step, interpreter, path, arguments, directory)

    def start(self, step, interpreter, script, arguments, directory):
        words = [script] + arguments
        if step["one_word"]:
            words = [" ".join(shlex.quote(word) for word in words)]
        command = interpreter + words
        limit = seconds(step, self.variables, self.entry["ssm"])
        self.expired = False
        if self.ended_by is not None:
            return 128 + self.ended_by
        try:
            self.child = subprocess.Popen(
                command, cwd=directory, env=self.environment, stdin=subprocess.DEVNULL, preexec_fn=os.setpgrp
            )
        except OSError as error:
            sys.stderr.write("%s: %s\n" % (step["name"], error))
            return 126
        if self.ended_by is not None:
            # The signal came while the script was being started, and did not reach it.
            self.signal(self.ended_by)
        try:
            status = self.child.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.child.wait()
            sys.stderr.write("%s: stopped after its time-out of %g seconds\n" % (step["name"], limit))
            status, self.expired = TIMED_OUT, True
        finally:
            self.child = None
        return 128 - status if status < 0 else status

    def record(self, step, state, status):
        report = {"name": step["name"], "state": state}
        if status is not None:
            report["exit_status"] = status
        self.reports.append(report)

    def handled(self, step, status):
        """Runs the handler of a step that failed; returns the status that counts."""
        handler = step["handler"]
        if handler is None or self.ended_by is not None:
            return status
        after = self.run(handler)
        self.record(handler, "succeeded" if after == 0 else "failed", after)
        return after if handler["replaces"] else status

    def all(self):
        """Runs the steps; returns the exit status of the action."""
        result, stopped = 0, False
        for step in self.entry["steps"]:
            if self.ended_by is not None or stopped and not step["always"]:
                self.record(step, "skipped", None)
                continue
            if any(joined(a, self.variables) != joined(b, self.variables) for a, b in step["when"]):
                self.record(step, "skipped", None)
                continue
            status = self.run(step)
            if self.entry["ssm"] and status == REBOOT and self.ended_by is None:
                sys.stderr.write(
                    "%s asks for a reboot (exit status 194), after which Systems Manager would run it again. Bolt does not "
                    "restart instances: restart this one, and run the action again.\n" % step["name"]
                )
                self.record(step, "failed", status)
                return status
            if self.entry["ssm"] and status == STOP_AND_SUCCEED:
                self.record(step, "succeeded", status)
                stopped = True
                continue
            self.record(step, "succeeded" if status == 0 else "failed", status)
            if status != 0:
                status = self.handled(step, status)
            if status == 0:
                stopped = stopped or step["on_success"] == "exit"
                continue
            timed_out = self.entry["ssm"] and self.expired
            if step["on_failure"] == "succeed" and not timed_out:
                stopped = True
                continue
            result = result or status
            stopped = stopped or step["on_failure"] == "exit" and not timed_out
            stopped = stopped or self.entry["ssm"] and status == STOP_AND_FAIL
        return result if self.ended_by is None else 128 + self.ended_by


def main():
    with open(os.path.join(HERE, "steps.json")) as file:
        registry = json.load(file)
    entry = registry["actions"][os.environ["BOLT_ACTION"].rsplit(".", 1)[-1]]
    given = json.load(sys.stdin)
    variables = {name: value_of(source, given) for name, source in entry["variables"].items()}
    for name, value in variables.items():
        if "\0" in value:
            raise Unusable("%s contains a zero byte" % name)
    if os.geteuid() == 0:
        # Files that root makes for other programs, as there; Bolt's own umask is 077.
        os.umask(0o022)
    runner = Runner(entry, variables, given)
    status = runner.all()
    if len(runner.reports) > 1 and os.environ.get("BOLT_RESULT"):
        with open(os.environ["BOLT_RESULT"], "w") as file:
            json.dump({"steps": runner.reports}, file)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Unusable, OSError) as error:
        sys.stderr.write("%s\n" % error)
        sys.exit(1)
