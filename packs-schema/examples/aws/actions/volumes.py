#!/usr/bin/env python3
"""Shows the volumes of the instance, on the host and in the EC2 API."""

import re
import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import disks, ec2, imds  # noqa: E402
from lib.bolt_action import FAILED, Stop, clean, finish, human, main, parameters, table  # noqa: E402


def action():
    given = parameters()
    rows = disks.find()
    problems = ask(rows) if given["api"] else []
    for row in rows:
        if row.get("status") == "impaired" or row.get("state") == "error":
            problems.append("%s is %s: %s" % (row["volume_id"], row.get("status") or row.get("state"), row.get("status_details") or "no details"))
        problems += ["%s is %d%% full" % (m["path"], m["used_percent"]) for m in row["mounts"] if m["used_percent"] >= 95]
    show(rows, problems)
    finish({"volumes": rows, "problems": problems})
    return FAILED if problems else None


def ask(rows):
    """Adds what the EC2 API knows, and volumes that the host does not see; returns problems."""
    metadata = imds.Metadata()
    instance = metadata.text("meta-data/instance-id")
    if not re.match(r"^i-[0-9a-f]{8,17}$", instance):
        raise Stop(FAILED, "the metadata service names no instance id")
    api = ec2.Ec2(metadata)
    known = {row["volume_id"]: row for row in rows if row["volume_id"]}
    seen = []
    answer = api.ask("DescribeVolumes", {"Filter.1.Name": "attachment.instance-id", "Filter.1.Value.1": instance, "MaxResults": "500"})
    for item in answer.findall("volumeSet/item"):
        text = lambda path: clean(item.findtext(path) or "", 60)  # noqa: B023, E731
        number = lambda path: int(text(path)) if text(path).isdigit() else -1  # noqa: B023, E731
        identity = text("volumeId")
        row = known.get(identity)
        if row is None:
            row = {"device": "", "volume_id": identity, "model": "", "bytes": max(number("size"), 0) << 30, "mounts": []}
            rows.append(row)
        row.update(
            state=text("status"), type=text("volumeType"), iops=number("iops"), throughput_mib=number("throughput"),
            attachment=text("attachmentSet/item/status"), attached_as=text("attachmentSet/item/device"),
        )  # fmt: skip
        known[identity] = row
        seen.append(identity)
    if not seen:
        return []
    query = {"VolumeId.%d" % at: identity for at, identity in enumerate(seen[:200], 1)}
    for item in api.ask("DescribeVolumeStatus", query).findall("volumeStatusSet/item"):
        row = known.get(item.findtext("volumeId") or "")
        if row is not None:
            row["status"] = clean(item.findtext("volumeStatus/status") or "", 40)
            details = ["%s %s" % (d.findtext("name"), d.findtext("status")) for d in item.findall("volumeStatus/details/item")]
            events = [e.findtext("description") or e.findtext("eventType") or "" for e in item.findall("eventsSet/item")]
            row["status_details"] = clean("; ".join(details + events), 300)
    # An instance without NVMe shows no ids, so nothing can be said about what it does not see.
    nvme = any(row["device"] and row["volume_id"] for row in rows)
    return ["%s is attached, but the host does not see it" % row["volume_id"] for row in rows if nvme and not row["device"] and row.get("attachment") == "attached"]


def show(rows, problems):
    table(
        [
            (r["device"] or "-", r["volume_id"] or "-", human(r["bytes"]), r.get("type") or "-", r.get("state") or "-", r.get("status") or "-",
             ", ".join("%s (%s%%)" % (m["path"], m["used_percent"]) for m in r["mounts"]) or "-")
            for r in rows
        ],
        ("DEVICE", "VOLUME", "SIZE", "TYPE", "STATE", "STATUS", "MOUNTED AT"), right=(2,),
    )  # fmt: skip
    for problem in problems:
        print("PROBLEM: " + problem)


main(action)
