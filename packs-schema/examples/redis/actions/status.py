#!/usr/bin/env python3
"""Shows the state of the server from INFO."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import resp  # noqa: E402
from lib.bolt_action import FAILED, Deadline, clean, finish, human, main, parameters, table, utc  # noqa: E402


def action():
    given = parameters()
    server = resp.connect(given, Deadline(50.0), while_loading=True)
    found = resp.info(server)
    number = lambda key: resp.number(found, key)  # noqa: E731
    hits, misses = number("keyspace_hits"), number("keyspace_misses")
    result = {
        "version": clean(found.get("valkey_version") or found.get("redis_version", "?"), 40),
        "role": clean(found.get("role", "?"), 20),
        "uptime_seconds": number("uptime_in_seconds"),
        "used_bytes": number("used_memory"),
        "max_bytes": number("maxmemory"),
        "clients": number("connected_clients"),
        "max_clients": number("maxclients") or int(resp.setting(server, "maxclients") or 0),
        "blocked_clients": number("blocked_clients"),
        "commands_per_second": number("instantaneous_ops_per_sec"),
        "hit_percent": round(100.0 * hits / (hits + misses), 1) if hits + misses else -1,
        "evicted_keys": number("evicted_keys"),
        "expired_keys": number("expired_keys"),
        "rejected_connections": number("rejected_connections"),
        "persistence": {
            "rdb_last_save": utc(number("rdb_last_save_time")),
            "rdb_last_status": clean(found.get("rdb_last_bgsave_status", "?"), 20),
            "rdb_changes": number("rdb_changes_since_last_save"),
            "aof": number("aof_enabled") == 1,
            "aof_last_status": clean(found.get("aof_last_write_status", "?"), 20),
            "loading": number("loading") == 1,
        },
        "replication": replication(found),
        "keys": {clean(db, 10): resp.number(resp.pairs(text), "keys") for db, text in found.items() if db[:2] == "db" and db[2:].isdigit()},
    }
    result["problems"] = problems(result)
    show(result)
    finish(result)
    return FAILED if given["fail"] and result["problems"] else None


def replication(found):
    if found.get("role") == "slave":
        return {
            "master": clean("%s:%s" % (found.get("master_host", "?"), found.get("master_port", "?")), 260),
            "link": clean(found.get("master_link_status", "?"), 20),
            "last_seconds": resp.number(found, "master_last_io_seconds_ago", -1),
            "replicas": [],
        }
    offset, rows = resp.number(found, "master_repl_offset"), []
    for key, text in found.items():
        if key[:5] == "slave" and key[5:].isdigit():
            one = resp.pairs(text)
            rows.append({
                "address": clean("%s:%s" % (one.get("ip", "?"), one.get("port", "?")), 260),
                "state": clean(one.get("state", "?"), 20),
                "behind_bytes": max(offset - resp.number(one, "offset"), 0),
                "lag_seconds": resp.number(one, "lag", -1),
            })  # fmt: skip
    return {"replicas": rows}


def problems(result):
    found, persistence, replicated = [], result["persistence"], result["replication"]
    if result["max_bytes"] and result["used_bytes"] >= 0.95 * result["max_bytes"]:
        found.append("%s of %s (maxmemory) are in use" % (human(result["used_bytes"]), human(result["max_bytes"])))
    if result["max_clients"] and result["clients"] >= 0.9 * result["max_clients"]:
        found.append("%d of %d clients are connected" % (result["clients"], result["max_clients"]))
    if persistence["rdb_last_status"] != "ok":
        found.append("the last save (RDB) failed: %s" % persistence["rdb_last_status"])
    if persistence["aof"] and persistence["aof_last_status"] != "ok":
        found.append("the last write of the append-only file failed: %s" % persistence["aof_last_status"])
    if persistence["loading"]:
        found.append("the server is loading its data")
    if replicated.get("link", "up") != "up":
        found.append("the link to the master %s is %s" % (replicated["master"], replicated["link"]))
    for replica in replicated["replicas"]:
        if replica["state"] != "online":
            found.append("replica %s is in state %s" % (replica["address"], replica["state"]))
    return found


def show(result):
    print("Redis %s, %s, up %d s, %d commands/s" % (result["version"], result["role"], result["uptime_seconds"], result["commands_per_second"]))
    print("memory: %s of %s; clients: %d of %s, %d blocked" % (
        human(result["used_bytes"]), human(result["max_bytes"]) if result["max_bytes"] else "no limit",
        result["clients"], result["max_clients"] or "?", result["blocked_clients"],
    ))  # fmt: skip
    print("since the start: hits %s, %d evicted, %d expired, %d connections refused" % (
        "%s%%" % result["hit_percent"] if result["hit_percent"] >= 0 else "none", result["evicted_keys"], result["expired_keys"], result["rejected_connections"],
    ))  # fmt: skip
    p = result["persistence"]
    print("persistence: RDB %s at %s, %d changes since; AOF %s" % (p["rdb_last_status"], p["rdb_last_save"], p["rdb_changes"], p["aof_last_status"] if p["aof"] else "off"))
    if "master" in result["replication"]:
        r = result["replication"]
        print("replica of %s: link %s, last heard from %d s ago" % (r["master"], r["link"], r["last_seconds"]))
    if result["replication"]["replicas"]:
        table([(r["address"], r["state"], human(r["behind_bytes"]), r["lag_seconds"]) for r in result["replication"]["replicas"]], ("REPLICA", "STATE", "BEHIND", "LAG"), right=(2, 3))
    for db, keys in result["keys"].items():
        print("%s: %d keys" % (db, keys))
    for problem in result["problems"]:
        print("PROBLEM: " + problem)


main(action)
