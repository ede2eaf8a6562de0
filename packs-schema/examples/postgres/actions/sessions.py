#!/usr/bin/env python3
"""Shows sessions and transactions, and what keeps vacuum from removing rows."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import FAILED, Deadline, counted, finish, main, parameters, table  # noqa: E402
from lib.sql import Server, text  # noqa: E402

# Default of vacuum_failsafe_age: whatever autovacuum_freeze_max_age is, ids of transactions run out soon after.
FAILSAFE_AGE = 1600000000
SESSIONS = """
SELECT pid, backend_start, datname, usename, application_name, client_addr, state, backend_type, wait_event_type, wait_event,
       extract(epoch FROM now() - xact_start)::numeric(12, 1) AS transaction_seconds,
       extract(epoch FROM now() - state_change)::numeric(12, 1) AS state_seconds,
       CASE WHEN :'queries' = 'true' THEN left(query, 500) END AS query
FROM pg_stat_activity
WHERE backend_type IN ('client backend', 'autovacuum worker', 'parallel worker') AND pid <> pg_backend_pid()
  AND xact_start <= now() - make_interval(secs => :'age'::float8)
ORDER BY xact_start, pid"""
COUNTS = """
SELECT coalesce(state, 'unknown') AS state, coalesce(datname, '') AS datname, coalesce(usename, '') AS usename,
       count(*) AS number, count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1, 2, 3"""
SETTINGS = """
SELECT pg_is_in_recovery() AS standby, current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int AS reserved,
       current_setting('autovacuum_freeze_max_age')::bigint AS freeze_age,
       (SELECT max(age(datfrozenxid)) FROM pg_database) AS transaction_id_age"""
PREPARED = """
SELECT gid, database, owner, extract(epoch FROM now() - prepared)::numeric(12, 1) AS seconds
FROM pg_prepared_xacts ORDER BY prepared LIMIT 50"""
# Of a standby's own feedback, pg_stat_replication has the snapshot; of slots, pg_replication_slots.
SNAPSHOTS = """
SELECT * FROM (
  SELECT greatest(age(backend_xmin), age(backend_xid)) AS age, 'session ' || pid AS by
  FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND coalesce(backend_xmin, backend_xid) IS NOT NULL
  UNION ALL SELECT age(transaction), 'prepared transaction ' || gid FROM pg_prepared_xacts
  UNION ALL SELECT greatest(age(xmin), age(catalog_xmin)), 'replication slot ' || slot_name FROM pg_replication_slots
    WHERE coalesce(xmin, catalog_xmin) IS NOT NULL
  UNION ALL SELECT age(backend_xmin), 'standby ' || application_name FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
) s WHERE age IS NOT NULL ORDER BY age DESC LIMIT 1"""


def action():
    given = parameters()
    server = Server(Deadline(100.0))
    settings, counts = server.one(SETTINGS), server.rows(COUNTS)
    long = server.rows(SESSIONS, age=given["older_than"], queries="true" if given["queries"] else "false")
    oldest = server.rows(SNAPSHOTS) or [{"age": 0, "by": ""}]
    result = {
        "version": server.version,
        "standby": settings["standby"],
        "connections": sum(c["number"] for c in counts),
        "max_connections": settings["max_connections"],
        "states": grouped(counts, "state"),
        "by_database": grouped(counts, "datname"),
        "by_role": grouped(counts, "usename"),
        "waiting": sum(c["waiting"] for c in counts),
        "transaction_id_age": settings["transaction_id_age"],
        "transaction_id_age_limit": settings["freeze_age"],
        "oldest_snapshot_age": oldest[0]["age"],
        "oldest_snapshot_by": text(oldest[0]["by"]),
        "sessions": [session(row, given["queries"]) for row in long[: given["top"]]],
        "prepared": [
            {"name": text(p["gid"]), "database": text(p["database"]), "role": text(p["owner"]), "seconds": p["seconds"]}
            for p in server.rows(PREPARED)
        ],
    }
    result["problems"] = problems(result, settings["reserved"])
    show(result)
    finish(result)
    return FAILED if given["fail"] and result["problems"] else None


def grouped(counts, key):
    found = {}
    for row in counts:
        found[text(row[key], 64) or "-"] = found.get(text(row[key], 64) or "-", 0) + row["number"]
    return dict(sorted(found.items(), key=lambda pair: -pair[1])[:50])


def session(row, queries):
    found = {
        "pid": row["pid"],
        "backend_start": text(row["backend_start"]),
        "database": text(row["datname"], 64),
        "role": text(row["usename"], 64) or text(row["backend_type"]),
        "application": text(row["application_name"], 64),
        "client": text(row["client_addr"]) or "local",
        "state": text(row["state"]) or "active",
        "transaction_seconds": row["transaction_seconds"],
        "state_seconds": row["state_seconds"] or 0,
        "wait": "%s: %s" % (text(row["wait_event_type"]), text(row["wait_event"])) if row["wait_event"] else "",
    }
    if queries:
        found["query"] = text(row["query"], 500)
    return found


def problems(result, reserved):
    found = []
    usable = result["max_connections"] - reserved
    if result["connections"] >= 0.9 * usable:
        found.append("%d of %d connections are in use" % (result["connections"], usable))
    idle = [s for s in result["sessions"] if s["state"].startswith("idle in transaction")]
    if idle:
        found.append("%s idle in a transaction, the longest for %d s" % (counted(len(idle), "listed session"), max(s["state_seconds"] for s in idle)))
    if result["transaction_id_age"] > min(2 * result["transaction_id_age_limit"], FAILSAFE_AGE):
        found.append("the oldest transaction id is %d transactions old: autovacuum does not keep up, and the server stops at 2000000000" % result["transaction_id_age"])
    old = [p for p in result["prepared"] if p["seconds"] > 3600]
    if old:
        found.append("%s older than an hour: commit it or roll it back" % counted(len(old), "prepared transaction"))
    return found


def show(result):
    states = ", ".join("%d %s" % (n, s) for s, n in result["states"].items())
    print("%s: %d of %d connections (%s); %d wait for a lock" % (
        "standby" if result["standby"] else "primary", result["connections"], result["max_connections"], states or "none", result["waiting"],
    ))  # fmt: skip
    print("oldest transaction id: %d transactions old; oldest snapshot: %d%s" % (
        result["transaction_id_age"], result["oldest_snapshot_age"], ", by " + result["oldest_snapshot_by"] if result["oldest_snapshot_by"] else "",
    ))  # fmt: skip
    if result["sessions"]:
        print("\nLong transactions")
        table(
            [(s["pid"], s["transaction_seconds"], s["state_seconds"], s["state"], s["database"], s["role"], s["client"], s["wait"] or "-", s["backend_start"]) for s in result["sessions"]],
            ("PID", "SECONDS", "IN STATE", "STATE", "DATABASE", "ROLE", "CLIENT", "WAITS FOR", "BACKEND START"), right=(0, 1, 2),
        )  # fmt: skip
        for s in result["sessions"]:
            if s.get("query"):
                print("  %d: %s" % (s["pid"], s["query"]))
    for p in result["prepared"]:
        print("  prepared transaction %s of %s in %s, %d s old" % (p["name"], p["role"], p["database"], p["seconds"]))
    for problem in result["problems"]:
        print("PROBLEM: " + problem)


main(action)
