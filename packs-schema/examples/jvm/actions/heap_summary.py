#!/usr/bin/env python3
"""Shows the use of the heap, and objects by class."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import heap, processes  # noqa: E402
from lib.bolt_action import Deadline, clean, finish, human, main, parameters, table  # noqa: E402


def action():
    given, deadline = parameters(), Deadline(280.0)
    jvm, row = processes.select(given)
    info, flags = jvm.maybe("jcmd", "GC.heap_info"), jvm.maybe("jcmd", "VM.flags")
    version = jvm.maybe("jcmd", "VM.version").split(b"\n")
    used, committed = heap.used(info)
    result = {
        "pid": row["pid"],
        "started": row["started"],
        "main": row["main"],
        "version": clean(b", ".join(line.strip() for line in version[:2] if line.strip()), 200),
        "collector": heap.collector(flags),
        "used_bytes": used,
        "committed_bytes": committed,
        "max_bytes": heap.maximum(flags),
        "metaspace_bytes": heap.metaspace(info),
        "rss_bytes": row["rss_bytes"],
        "objects": -1,
        "object_bytes": -1,
        "classes": [],
    }
    if given["histogram"]:
        text = jvm.ask("inspectheap", "-live" if given["live"] else "-all", seconds=deadline.left())
        total = heap.TOTAL.search(text)
        if total:
            result["objects"], result["object_bytes"] = int(total.group(1)), int(total.group(2))
        rows = [{"class": clean(m.group(3), 200), "objects": int(m.group(1)), "bytes": int(m.group(2))} for m in heap.CLASS.finditer(text)]
        result["classes"] = rows[: given["top"]]
    show(result)
    finish(result)


def show(result):
    known = lambda count: human(count) if count >= 0 else "?"  # noqa: E731
    print("%s (pid %d), %s" % (result["main"], result["pid"], result["version"] or "unknown version"))
    print("heap (%s): %s used of %s committed, at most %s; metaspace %s; process %s" % (
        result["collector"], known(result["used_bytes"]), known(result["committed_bytes"]), known(result["max_bytes"]),
        known(result["metaspace_bytes"]), human(result["rss_bytes"]),
    ))  # fmt: skip
    if result["classes"]:
        print("%d objects, %s" % (result["objects"], known(result["object_bytes"])))
        table([(human(c["bytes"]), c["objects"], c["class"]) for c in result["classes"]], ("SIZE", "OBJECTS", "CLASS"), right=(0, 1))


main(action)
