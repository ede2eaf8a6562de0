#!/usr/bin/env python3
"""Shows what AWS has scheduled for the instance."""

import calendar
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import imds  # noqa: E402
from lib.bolt_action import FAILED, clean, counted, finish, main, parameters, table, utc  # noqa: E402

# Of maintenance: "21 Jan 2026 09:00:43 GMT"; of all else RFC 3339.
FORMS = ("%d %b %Y %H:%M:%S GMT", "%Y-%m-%dT%H:%M:%SZ")


def action():
    given = parameters()
    metadata, events = imds.Metadata(), []
    kinds = ["scheduled"] + (["history"] if given["history"] else [])
    for name in kinds:
        found = metadata.json("meta-data/events/maintenance/" + name)
        for e in found if isinstance(found, list) else []:
            events.append(event("maintenance", e.get("Code"), e.get("State"), e.get("Description"), e.get("NotBefore"), e.get("NotAfter"), e.get("EventId")))
    spot = metadata.json("meta-data/spot/instance-action")
    if isinstance(spot, dict):
        events.append(event("spot", spot.get("action"), "active", "interruption of a spot instance", spot.get("time")))
    rebalance = metadata.json("meta-data/events/recommendations/rebalance")
    if isinstance(rebalance, dict):
        events.append(event("rebalance", "rebalance", "active", "raised risk of an interruption", rebalance.get("noticeTime")))
    state = metadata.text("meta-data/autoscaling/target-lifecycle-state")
    if state.startswith(("Terminated", "Detached", "Warmed:Terminated")):
        events.append(event("auto_scaling", state, "active", "Auto Scaling is about to end the instance", None))
    limit = time.time() + 3600 * given["within_hours"]
    soon = [e for e in events if e["state"] == "active" and (not e["begins"] or (moment(e["begins"]) or 0) <= limit)]
    if not events:
        print("AWS has scheduled nothing")
    else:
        print("%s, %d within %d hours" % (counted(len(events), "event"), len(soon), given["within_hours"]))
        table([(e["begins"] or "now", e["kind"], e["code"], e["state"], e["description"]) for e in events], ("BEGINS", "KIND", "CODE", "STATE", "DESCRIPTION"))
    finish({"events": events[:100], "soon": len(soon)})
    return FAILED if soon else None


def event(kind, code, state, description, begins, ends=None, identity=None):
    when = lambda text: utc(moment(text)) if moment(text) else clean(str(text or ""), 40)  # noqa: E731
    return {
        "kind": kind,
        "code": clean(str(code or ""), 60),
        "state": clean(str(state or ""), 40),
        "description": clean(str(description or ""), 300),
        "begins": when(begins),
        "ends": when(ends),
        "id": clean(str(identity or ""), 80),
    }


def moment(text):
    """Parses a time of AWS to Unix time; None if it has another form."""
    for form in FORMS:
        try:
            return calendar.timegm(time.strptime(text, form))
        except (TypeError, ValueError):
            continue
    return None


main(action)
