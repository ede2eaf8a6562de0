#!/usr/bin/env python3
"""Instances of a Consul catalog, for an `exec` source of bolt.

Asks $CONSUL_HTTP_ADDR (default http://127.0.0.1:8500), with $CONSUL_HTTP_TOKEN where it is set; with a file as argument,
reads an answer of /v1/catalog/nodes from there. The id is the node's metadata `instance_id`, else its name.
"""

import json
import os
import sys
import urllib.request

PORT = 8443


def nodes():
    if len(sys.argv) > 1:
        with open(sys.argv[1]) as recorded:
            return json.load(recorded)
    address = os.environ.get("CONSUL_HTTP_ADDR", "http://127.0.0.1:8500")
    if "://" not in address:
        address = "http://" + address
    request = urllib.request.Request(address + "/v1/catalog/nodes")
    if "CONSUL_HTTP_TOKEN" in os.environ:
        request.add_header("X-Consul-Token", os.environ["CONSUL_HTTP_TOKEN"])
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def instance(node):
    meta = dict(node.get("Meta") or {})
    host = node["Address"]
    entry = {
        "id": meta.pop("instance_id", node["Node"]),
        "address": f"[{host}]:{PORT}" if ":" in host else f"{host}:{PORT}",
        "region": meta.pop("region", node["Datacenter"]),
    }
    for fact in ("zone", "app", "cluster", "group"):
        if fact in meta:
            entry[fact] = meta.pop(fact)
    meta.pop("consul-network-segment", None)
    entry["tags"] = meta
    return entry


json.dump({"instances": [instance(node) for node in nodes()]}, sys.stdout)
