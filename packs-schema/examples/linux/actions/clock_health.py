#!/usr/bin/env python3
"""Shows whether the clock is synchronized, and by how much it is off."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import clock  # noqa: E402
from lib.bolt_action import FAILED, finish, main, parameters  # noqa: E402


def action():
    given, problems = parameters(), []
    synchronized, error = clock.kernel()
    source, detail, offset = clock.daemon()
    by_chrony = source == "chrony" and offset is not None
    if source == "chrony" and not by_chrony:
        problems.append("chrony does not know the time: %s" % detail)
    if given.get("server"):
        offset, problem = clock.measure(given["server"])
        problems += [problem] if problem else []
    # Without the option rtcsync, chrony does not tell the kernel.
    if not synchronized and not by_chrony:
        problems.append("the kernel says that the clock is not synchronized")
    if offset is not None and abs(offset) > given["max_offset_ms"]:
        problems.append("the clock is off by %.1f ms" % offset)
    result = {
        "healthy": not problems,
        "synchronized": synchronized,
        "max_error_ms": error,
        "source": source,
        "detail": detail,
        "offset_ms": round(offset, 3) if offset is not None else 0.0,
        "offset_known": offset is not None,
        "problems": problems,
    }
    print("synchronized: %s; source: %s %s" % ("yes" if synchronized else "no", source, detail))
    print("offset: %s" % ("%.3f ms" % offset if offset is not None else "unknown; pass server to measure it"))
    for problem in problems:
        print("  PROBLEM: " + problem)
    finish(result)
    return FAILED if problems else None


main(action)
