#!/usr/bin/env python3
"""Shows what the instance is, from its metadata."""

import re
import sys
import urllib.parse

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import imds  # noqa: E402
from lib.bolt_action import clean, finish, main  # noqa: E402

MAC = re.compile(r"^[0-9a-f:]{17}/?$")


def action():
    metadata = imds.Metadata()
    text = lambda path: metadata.text("meta-data/" + path)  # noqa: E731
    document = metadata.json("dynamic/instance-identity/document") or {}
    profile = metadata.json("meta-data/iam/info") or {}
    result = {
        "instance_id": text("instance-id"),
        "instance_type": text("instance-type"),
        "image_id": text("ami-id"),
        "account": clean(str(document.get("accountId", "")), 20),
        "region": text("placement/region"),
        "zone": text("placement/availability-zone"),
        "zone_id": text("placement/availability-zone-id"),
        "life_cycle": text("instance-life-cycle"),
        "launched": clean(str(document.get("pendingTime", "")), 40),
        "private_address": text("local-ipv4"),
        "public_address": text("public-ipv4"),
        "hostname": text("hostname"),
        "security_groups": [clean(name, 255) for name in metadata.lines("meta-data/security-groups")],
        "interfaces": [interface(metadata, mac.rstrip("/")) for mac in metadata.lines("meta-data/network/interfaces/macs/", 15) if MAC.match(mac)],
        "instance_profile": clean(str(profile.get("InstanceProfileArn", ""))),
        "auto_scaling_state": text("autoscaling/target-lifecycle-state"),
        "tags": {clean(key, 128): metadata.text("meta-data/tags/instance/" + urllib.parse.quote(key, safe=""), 256) for key in metadata.lines("meta-data/tags/instance/", 50)},
    }
    for key, value in result.items():
        if key == "interfaces":
            for i in value:
                print("%-20s%s %s in %s (%s)" % ("interface", i["id"], ", ".join(i["addresses"]), i["subnet"], i["vpc"]))
        elif key == "tags":
            for name, tag in value.items():
                print("%-20s%s = %s" % ("tag", name, tag))
        elif value:
            print("%-20s%s" % (key.replace("_", " "), ", ".join(value) if isinstance(value, list) else value))
    finish(result)


def interface(metadata, mac):
    base = "meta-data/network/interfaces/macs/%s/" % mac
    return {
        "id": metadata.text(base + "interface-id"),
        "mac": mac,
        "vpc": metadata.text(base + "vpc-id"),
        "subnet": metadata.text(base + "subnet-id"),
        "addresses": [clean(a, 60) for a in metadata.lines(base + "local-ipv4s") + metadata.lines(base + "ipv6s")],
    }


main(action)
