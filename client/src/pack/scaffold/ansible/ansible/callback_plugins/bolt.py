"""Reports a playbook: a line for each task on standard output, and JSON for lib/playbook.py, which makes the result of it."""

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: bolt
type: stdout
short_description: results of tasks for Bolt
description: Prints a line for each task, and writes JSON to the descriptor that PLAYBOOK_EVENTS names, without the texts that
  are in the descriptor that PLAYBOOK_SECRETS names.
"""

MAX_MESSAGE = 500  # Characters of a message in the result.
MAX_SHOWN = 4000  # Characters of a message or a diff on standard output.
MAX_TASKS = 2000
COUNTS = ("ok", "changed", "failures", "skipped", "dark", "rescued", "ignored")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "bolt"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._events = int(os.environ.pop("PLAYBOOK_EVENTS"))
        with open(int(os.environ.pop("PLAYBOOK_SECRETS")), encoding="ascii") as secrets:
            self._secrets = json.load(secrets)
        self._tasks = 0
        self._item = ""  # message of the first item that failed in the current loop

    def v2_playbook_on_no_hosts_matched(self):
        self._write(error="a play runs on no host: its hosts must be localhost")

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._item = ""

    def v2_playbook_on_handler_task_start(self, task):
        self._item = ""

    def v2_runner_on_ok(self, result):
        self._report(result, "changed" if result.result.get("changed") else "ok")
        if "results" not in result.result:
            self._debug(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._report(result, "ignored" if ignore_errors else "failed", self._item or reason(result.result))

    def v2_runner_on_unreachable(self, result):
        self._report(result, "unreachable", reason(result.result))

    def v2_runner_on_skipped(self, result):
        self._report(result, "skipped", str(result.result.get("skip_reason") or result.result.get("msg") or ""))

    def v2_runner_item_on_ok(self, result):
        self._debug(result)

    def v2_runner_item_on_failed(self, result):
        self._item = self._item or "%s: %s" % (self._get_item_label(result.result), reason(result.result))

    def v2_on_file_diff(self, result):
        for one in result.result.get("results") or [result.result]:
            text = self._get_diff(one["diff"]).strip() if one.get("diff") else ""
            if text:
                self._display.display(self._cut(text, MAX_SHOWN))

    def v2_playbook_on_stats(self, stats):
        counts = [sum(getattr(stats, name).values()) for name in COUNTS]
        self._write(counts=counts, data=stats.custom.get("_run"))

    def _report(self, result, status, message=""):
        self._handle_warnings(result.result)
        name = self._cut(result.task.get_name(), MAX_MESSAGE)
        shown = ": " + self._cut(message, MAX_SHOWN) if message else ""
        self._display.display("%s: %s%s" % (status, name, shown))
        self._tasks += 1
        if self._tasks <= MAX_TASKS or status in ("failed", "unreachable"):
            self._write(task=name, status=status, message=self._cut(message, MAX_MESSAGE))

    def _debug(self, result):
        """Prints the message of ansible.builtin.debug."""
        if result.result.get("_ansible_verbose_always"):
            message = result.result.get("msg")
            text = message if isinstance(message, str) else self._dump_results(result.result, indent=2)
            self._display.display(self._cut(text, MAX_SHOWN))

    def _cut(self, text, limit):
        """Cuts a text after its secrets were replaced, so that no half of one is left."""
        for secret in self._secrets:
            text = text.replace(secret, "********")
        return text[:limit]

    def _write(self, **event):
        os.write(self._events, (json.dumps(event, default=str) + "\n").encode())


def reason(result):
    """Says why a task failed: its message, and the last line of what its command printed as an error."""
    if "censored" in result:
        return "hidden, since the task has no_log"
    printed = str(result.get("stderr") or result.get("module_stderr") or "").strip().splitlines()
    parts = [str(result.get("msg") or ""), printed[-1] if printed else ""]
    return ": ".join(filter(None, parts)) or "no message"
