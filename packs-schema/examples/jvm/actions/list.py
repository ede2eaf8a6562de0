#!/usr/bin/env python3
"""Lists the Java processes of the host."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import processes  # noqa: E402
from lib.bolt_action import finish, human, main, table  # noqa: E402


def action():
    rows = sorted(processes.find(), key=lambda row: -row["rss_bytes"])
    if not rows:
        print("no Java process")
    else:
        table(
            [(r["pid"], r["started"], r["account"], human(r["rss_bytes"]), r["threads"], r["main"], " ".join(r["options"])) for r in rows],
            ("PID", "STARTED", "ACCOUNT", "RSS", "THREADS", "MAIN", "OPTIONS"), right=(0, 1, 3, 4),
        )  # fmt: skip
    finish({"processes": rows})


main(action)
