#!/usr/bin/env python3
"""Installs a version of the agent's package, and returns to the previous one unless the agent is healthy with it."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
import os  # noqa: E402

from lib import agent, guard, source  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, config, finish, main, noop, parameters  # noqa: E402
from lib.exchange import exchange  # noqa: E402
from lib.kept import Kept  # noqa: E402
from lib.packages import LONGEST_SECONDS, manager  # noqa: E402


def action():
    given, site = parameters(), config()
    packages = manager(site.get("root", ""))
    kept = Kept(packages, site)
    return Upgrade(given, site, packages, kept).run()


class Upgrade:
    """One upgrade: obtain, check, exchange, and go back if that fails."""

    def __init__(self, given, site, packages, kept):
        self.given, self.site, self.packages, self.kept = given, site, packages, kept
        self.root = site.get("root", "")
        self.version, self.old = given["version"], packages.installed()
        self.rollback = None  # Path of the file of the old version.
        self.before = []  # Problems before the upgrade.

    def run(self):
        if self.version == self.old:
            print("version %s is installed" % self.old)
            problems = agent.wait_until_healthy(self.given["start_wait"], 0, self.root)
            if not problems:
                guard.disarm()  # Of an upgrade to this version that was killed.
            return self.end("already", problems)
        if self.old and not self.given["allow_downgrade"] and self.packages.is_newer(self.old, self.version):
            raise Stop(WRONG, "version %s is older than the installed %s; pass allow_downgrade=true for a downgrade" % (self.version, self.old))
        self.kept.open()
        try:
            return self.prepare()
        finally:
            self.kept.close()

    def prepare(self):
        _, _, _, self.before = agent.check(0, self.root)
        for problem in self.before:
            print("before: " + problem)
        deadline = Deadline(1500.0)
        candidate = source.fetch(self.packages, self.site, self.version, self.given.get("sha256"), self.kept.staging, deadline)
        self.kept.require_space(candidate, self.root)
        self.check_configuration(candidate)
        self.find_way_back(deadline)
        if noop():
            print("noop: would install %s in place of %s" % (self.version, self.old))
            return self.end("would_install", [])
        return self.replace(candidate)

    def check_configuration(self, candidate):
        """Stops if the new programs reject the host's configuration: they would not start."""
        unpacked = os.path.join(self.kept.staging, "unpacked")
        os.mkdir(unpacked)
        problem = self.packages.unpack(candidate, unpacked)
        problems = [problem] if problem else agent.configuration_problems(unpacked, self.root)
        if problems:
            for line in problems:
                print("  | " + line)
            raise Stop(FAILED, "version %s was not installed, because it cannot run with this host's configuration: %s" % (self.version, problems[0]))

    def find_way_back(self, deadline):
        """Finds the file of the installed version: kept by the last upgrade, or obtained now."""
        if not self.old:
            reason = "the package is installed only in part, so that there is no version to return to"
            if not self.given["without_rollback"]:
                raise Stop(FAILED, "%s; pass without_rollback=true to upgrade without a way back, or use bolt_engine.rollback" % reason)
            print("no way back: " + reason)
            return
        for slot in ("current", "previous"):
            if self.kept.version(slot) == self.old:
                self.rollback = self.kept.path(slot)
                return
        directory = os.path.join(self.kept.staging, "old")
        os.mkdir(directory)
        try:
            self.rollback = source.fetch(self.packages, self.site, self.old, self.given.get("rollback_sha256"), directory, deadline)
        except Stop as stop:
            if stop.status > 100 or not self.given["without_rollback"]:
                raise Stop(stop.status, "the file of the installed version %s, for the way back, cannot be obtained: %s; "
                           "pass without_rollback=true to upgrade without it" % (self.old, stop))
            print("no way back: %s" % stop)

    def replace(self, candidate):
        wait, settle = self.given["start_wait"], self.given["settle"]
        guard.disarm()  # Of an upgrade that was killed, which would return to another version.
        if self.rollback:
            # The timer has a file of its own: an upgrade that is refused leaves `previous` to bolt_engine.rollback.
            try:
                self.kept.put("pending", self.rollback)
            except OSError as error:
                raise Stop(FAILED, "the file for the way back cannot be kept: %s; nothing was installed" % error)
            command = self.packages.install_command(self.kept.path("pending"))
            problem = guard.arm(command, LONGEST_SECONDS + wait + settle + 120)
            if problem and not self.given["without_rollback"]:
                self.kept.remove("pending")
                raise Stop(FAILED, "%s; nothing was installed; pass without_rollback=true to upgrade without it" % problem)
            if problem:
                print(problem)
            try:
                if os.path.exists(self.kept.path("previous")):
                    self.kept.share("previous", "older")
                self.kept.share("pending", "previous")
            except OSError as error:
                self.disarm()
                raise Stop(FAILED, "the file for the way back cannot be kept: %s; nothing was installed" % error)
        try:
            problems = exchange(self.packages, candidate, wait, settle, self.root)
        except Stop as stop:  # Also a kill, or the time-out: the grace period is long enough for the way back.
            problems = [str(stop)]
        if not problems:
            self.disarm()
            self.keep(candidate)
            print("version %s is installed and healthy" % self.version)
            return self.end("upgraded", [])
        for problem in problems:
            print("  PROBLEM: " + problem)
        if self.is_unchanged():
            print("nothing was installed: version %s is there as before" % self.old)
            if self.rollback and os.path.exists(self.kept.path("older")):
                self.kept.share("older", "previous")
            self.disarm()
            return self.end("failed", problems)
        return self.go_back(problems)

    def is_unchanged(self):
        """True if the package manager has changed nothing, for example because another program kept its lock."""
        if not self.old or self.packages.installed() != self.old:
            return False
        return set(agent.check(0, self.root)[3]) <= set(self.before)

    def disarm(self):
        """Stops the timer and removes the files that nothing else needs."""
        guard.disarm()
        self.kept.remove("pending")
        self.kept.remove("older")

    def keep(self, candidate):
        """Keeps the file for the next upgrade's way back; without it that upgrade obtains the file again."""
        try:
            self.kept.put("current", candidate)
        except OSError as error:
            print("the file of version %s is not kept: %s" % (self.version, error))

    def go_back(self, problems):
        if not self.rollback:
            return self.end("failed", problems)
        print("version %s is not healthy; installing %s" % (self.version, self.old))
        more = exchange(self.packages, self.kept.path("previous"), self.given["start_wait"], min(self.given["settle"], 10), self.root)
        if not more:  # Otherwise the timer tries again, for example when no other program locks the package manager.
            self.disarm()
        return self.end("rollback_failed" if more else "rolled_back", problems + more)

    def end(self, outcome, problems):
        finish({
            "outcome": outcome,
            "noop": noop(),
            "from": self.old,
            "to": self.version,
            "installed": self.packages.installed(),
            "rollback_possible": bool(self.rollback),
            "problems": problems,
        })
        if problems:
            print("%s: %s" % (outcome, problems[0]), file=sys.stderr)
        return FAILED if problems else None


main(action)
