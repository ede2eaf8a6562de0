#!/usr/bin/env python3
"""Instances of a Terraform output, for an `exec` source of bolt.

Runs `terraform output -json` in the directory given as argument; with a file, reads such an output from there. The
configuration has to have this output:

    output "bolt_instances" {
      value = [for i in aws_instance.web : {
        id = i.id, private_ip = i.private_ip, availability_zone = i.availability_zone, tags = i.tags
      }]
    }
"""

import json
import os
import subprocess
import sys

PORT = 8443


def outputs(path):
    if os.path.isfile(path):
        with open(path) as recorded:
            return json.load(recorded)
    return json.loads(subprocess.check_output(["terraform", "output", "-json"], cwd=path))


def instance(one):
    tags = one.get("tags") or {}
    zone = one["availability_zone"]
    entry = {"id": one["id"], "address": f"{one['private_ip']}:{PORT}", "region": zone[:-1], "zone": zone, "tags": tags}
    for fact in ("app", "cluster"):
        if fact in tags:
            entry[fact] = tags[fact]
    return entry


listed = outputs(sys.argv[1] if len(sys.argv) > 1 else ".")["bolt_instances"]["value"]
json.dump({"instances": [instance(one) for one in listed]}, sys.stdout)
