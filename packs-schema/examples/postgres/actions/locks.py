#!/usr/bin/env python3
"""Shows chains of sessions that wait for locks, from the session that blocks to those that wait."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import FAILED, Deadline, counted, finish, main, parameters, table  # noqa: E402
from lib.sql import Server, text  # noqa: E402

# One snapshot: pg_blocking_pids takes the lock manager's locks for a moment, so it is called for waiting sessions only.
WAITERS = """
SELECT a.pid, a.backend_start, a.datname, a.usename, pg_blocking_pids(a.pid) AS blocked_by, l.mode, l.locktype, l.relation,
       CASE WHEN l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) THEN l.relation::regclass::text END AS name,
       extract(epoch FROM now() - a.query_start)::numeric(12, 1) AS seconds,
       CASE WHEN :'queries' = 'true' THEN left(a.query, 500) END AS query
FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
WHERE a.wait_event_type = 'Lock' ORDER BY a.query_start, a.pid"""
BLOCKERS = """
SELECT pid, backend_start, datname, usename, application_name, client_addr, state, backend_type,
       extract(epoch FROM now() - xact_start)::numeric(12, 1) AS transaction_seconds,
       extract(epoch FROM now() - state_change)::numeric(12, 1) AS state_seconds,
       CASE WHEN :'queries' = 'true' THEN left(query, 500) END AS query
FROM pg_stat_activity WHERE pid = ANY (string_to_array(:'pids', ',')::int[])"""


def action():
    given = parameters()
    server, queries = Server(Deadline(100.0)), "true" if given["queries"] else "false"
    waiting = server.rows(WAITERS, queries=queries)
    edges = {row["pid"]: row["blocked_by"] for row in waiting}
    blocked = roots(edges)
    pids = sorted(blocked, key=lambda pid: (-len(blocked[pid]), pid))[: given["top"]]
    found = {row["pid"]: row for row in server.rows(BLOCKERS, queries=queries, pids=",".join(map(str, pids)))} if pids else {}
    result = {
        "waiting": len(edges),
        "blockers": [blocker(pid, len(blocked[pid]), found.get(pid, {}), given["queries"]) for pid in pids],
        "waiters": [waiter(row, given["queries"]) for row in waiting[: given["top"]]],
    }
    show(result)
    finish(result)
    return FAILED if given["fail"] and result["waiting"] else None


def roots(edges):
    """Returns, for each session that blocks and does not wait, the sessions that wait for it, also through others."""
    blocked = {}
    for pid in edges:
        seen, left = set(), [pid]
        while left:
            for other in edges.get(left.pop(), []):
                if other in seen:
                    continue
                seen.add(other)
                left.append(other)
                if other not in edges:
                    blocked.setdefault(other, set()).add(pid)
    return blocked


def blocker(pid, blocks, row, queries):
    found = {
        "pid": pid,
        "backend_start": text(row.get("backend_start")),
        "blocks": blocks,
        "state": "prepared transaction" if pid == 0 else text(row.get("state")) or text(row.get("backend_type")) or "ended meanwhile",
        "database": text(row.get("datname"), 64),
        "role": text(row.get("usename"), 64),
        "application": text(row.get("application_name"), 64),
        "client": text(row.get("client_addr")) or "local",
        "transaction_seconds": row.get("transaction_seconds") or 0,
        "state_seconds": row.get("state_seconds") or 0,
    }
    if queries:
        found["query"] = text(row.get("query"), 500)
    return found


def waiter(row, queries):
    found = {
        "pid": row["pid"],
        "backend_start": text(row["backend_start"]),
        "blocked_by": sorted(set(row["blocked_by"]))[:20],
        "lock": "%s on %s" % (text(row["mode"]), text(row["locktype"])),
        "relation": text(row["name"]) or text(row["relation"]),
        "database": text(row["datname"], 64),
        "role": text(row["usename"], 64),
        "seconds": row["seconds"] or 0,
    }
    if queries:
        found["query"] = text(row["query"], 500)
    return found


def show(result):
    if not result["waiting"]:
        print("no session waits for a lock")
        return
    print("%s for a lock\n\nBlocking" % ("1 session waits" if result["waiting"] == 1 else "%d sessions wait" % result["waiting"]))
    table(
        [(b["pid"], b["blocks"], b["state"], b["transaction_seconds"], b["database"], b["role"], b["application"], b["client"], b["backend_start"]) for b in result["blockers"]],
        ("PID", "BLOCKS", "STATE", "SECONDS", "DATABASE", "ROLE", "APPLICATION", "CLIENT", "BACKEND START"), right=(0, 1, 3),
    )  # fmt: skip
    print("\nWaiting")
    table(
        [(w["pid"], w["seconds"], ",".join(map(str, w["blocked_by"])), w["relation"] or "-", w["lock"], w["database"], w["role"]) for w in result["waiters"]],
        ("PID", "SECONDS", "BLOCKED BY", "RELATION", "LOCK", "DATABASE", "ROLE"), right=(0, 1),
    )  # fmt: skip
    for entry in result["blockers"] + result["waiters"]:
        if entry.get("query"):
            print("  %d: %s" % (entry["pid"], entry["query"]))
    if not result["blockers"]:
        print("%s in a circle: PostgreSQL ends deadlocks itself" % counted(result["waiting"], "session"))


main(action)
