#!/usr/bin/env python3
"""Hosts of an Ansible inventory, for an `exec` source of bolt.

Runs `ansible-inventory --list` with the arguments given, such as `-i hosts.yaml`; with one argument that is a file of
recorded output (*.json), reads that. The id is the variable `instance_id`, else the host's name; the groups of a host are
its tags `group_<name>`.
"""

import json
import subprocess
import sys

PORT = 8443
FACTS = ("region", "zone", "app", "cluster", "group")


def listing(arguments):
    if len(arguments) == 1 and arguments[0].endswith(".json"):
        with open(arguments[0]) as recorded:
            return json.load(recorded)
    return json.loads(subprocess.check_output(["ansible-inventory", "--list", *arguments]))


def instances(inventory):
    groups = {}
    for name, group in inventory.items():
        for host in group.get("hosts", []) if name not in ("_meta", "all", "ungrouped") else []:
            groups.setdefault(host, []).append(name)
    hostvars = inventory["_meta"]["hostvars"]
    for host in sorted(set(hostvars) | set(groups)):
        variables = hostvars.get(host, {})
        address = variables.get("ansible_host", host)
        entry = {
            "id": variables.get("instance_id", host),
            "address": f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}",
            "tags": {f"group_{name}": "true" for name in groups.get(host, [])},
        }
        entry.update({fact: str(variables[fact]) for fact in FACTS if fact in variables})
        yield entry


json.dump({"instances": list(instances(listing(sys.argv[1:])))}, sys.stdout)
