#!/usr/bin/env python3
"""Lets the host's time service set the clock at once, and waits until it is synchronized."""

import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import clock, tool  # noqa: E402
from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Deadline, Stop, finish, main, noop, parameters  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(400.0)
    source, detail, offset = clock.daemon()
    if source == "none":
        raise Stop(UNAVAILABLE, "neither chrony nor systemd-timesyncd runs on this host")
    print("%s (%s), offset %s" % (source, detail, "%.3f ms" % offset if offset is not None else "unknown"))
    if offset is not None and abs(offset) > 1000.0 * given["max_step_seconds"]:
        raise Stop(WRONG, "the clock is off by %.0f s, more than max_step_seconds" % (offset / 1000.0))
    after, outcome = offset, "would_step"
    if noop():
        print("noop: would set the clock")
    else:
        if source == "chrony":
            tool.run(["chronyc", "makestep"], 20)
        else:
            tool.run(["systemctl", "restart", "systemd-timesyncd.service"], 60)
        outcome, after = wait(source, time.monotonic() + min(given["wait"], deadline.left()))
    finish({
        "source": source, "noop": noop(), "outcome": outcome, "offset_before_ms": round(offset or 0.0, 3),
        "offset_after_ms": round(after or 0.0, 3), "offset_known": after is not None,
    })  # fmt: skip
    if outcome == "not_synchronized":
        raise Stop(FAILED, "the clock is not synchronized after %d s" % given["wait"])
    if not noop():
        print("the clock is synchronized%s" % (", offset %.3f ms" % after if after is not None else ""))


def wait(source, end):
    """Returns outcome and offset once the time service has set the clock after its restart, or at the end. The kernel alone calls
    a clock synchronized for hours after that was last done."""
    while True:
        _, detail, offset = clock.daemon()
        if source == "chrony":
            good = offset is not None and abs(offset) < 100.0
        else:
            good = detail.endswith("yes") and clock.timesyncd_has_set()
        if good:
            return "synchronized", offset
        if time.monotonic() >= end:
            return "not_synchronized", offset
        time.sleep(0.5)


main(action)
