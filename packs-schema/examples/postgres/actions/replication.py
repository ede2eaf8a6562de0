#!/usr/bin/env python3
"""Shows standbys, replication slots, the archiver, and on a standby its receiver."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import FAILED, Deadline, finish, human, main, parameters, table  # noqa: E402
from lib.sql import Server, text  # noqa: E402

# On a standby with standbys of its own, the position is that of replay.
POSITION = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
STANDBYS = """
SELECT application_name, client_addr, state, sync_state, pg_wal_lsn_diff(%(at)s, sent_lsn)::bigint AS sent,
       pg_wal_lsn_diff(%(at)s, replay_lsn)::bigint AS replay, extract(epoch FROM replay_lag)::numeric(12, 1) AS seconds
FROM pg_stat_replication ORDER BY replay DESC NULLS FIRST LIMIT 100""" % {"at": POSITION}
SLOTS = """
SELECT slot_name, slot_type, database, active, %(status)s AS status, greatest(pg_wal_lsn_diff(%(at)s, restart_lsn), 0)::bigint AS retained
FROM pg_replication_slots ORDER BY retained DESC NULLS LAST LIMIT 100"""
ARCHIVER = """
SELECT current_setting('archive_mode') AS mode, archived_count, failed_count,
       extract(epoch FROM now() - last_archived_time)::numeric(12, 1) AS seconds,
       last_failed_time IS NOT NULL AND (last_archived_time IS NULL OR last_failed_time > last_archived_time) AS failing
FROM pg_stat_archiver"""
RECEIVER = """
SELECT coalesce((SELECT status FROM pg_stat_wal_receiver LIMIT 1), 'not running') AS status, %(source)s AS source,
       greatest(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0)::bigint AS behind,
       extract(epoch FROM now() - pg_last_xact_replay_timestamp())::numeric(12, 1) AS delay, pg_is_wal_replay_paused() AS paused,
       (SELECT sum(confl_tablespace + confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock)::bigint FROM pg_stat_database_conflicts) AS conflicts"""
SOURCE = "(SELECT sender_host || ':' || sender_port FROM pg_stat_wal_receiver LIMIT 1)"


def action():
    given = parameters()
    server = Server(Deadline(100.0))
    standby = server.one("SELECT pg_is_in_recovery() AS standby")["standby"]
    status = "wal_status" if server.version >= 130000 else "''"
    archiver = server.one(ARCHIVER)
    result = {
        "standby": standby,
        "standbys": [
            {
                "name": text(s["application_name"], 64),
                "client": text(s["client_addr"]) or "local",
                "state": text(s["state"]),
                "sync": text(s["sync_state"]),
                "sent_lag_bytes": max(s["sent"] or 0, 0),
                "replay_lag_bytes": -1 if s["replay"] is None else max(s["replay"], 0),
                "replay_lag_seconds": s["seconds"] or 0,
            }
            for s in server.rows(STANDBYS)
        ],
        "slots": [
            {
                "name": text(s["slot_name"], 64),
                "type": text(s["slot_type"]),
                "database": text(s["database"], 64),
                "active": s["active"],
                "retained_bytes": s["retained"] or 0,
                "status": text(s["status"]),
            }
            for s in server.rows(SLOTS % {"at": POSITION, "status": status})
        ],
        "archiver": {
            "mode": text(archiver["mode"]),
            "archived": archiver["archived_count"],
            "failed": archiver["failed_count"],
            "last_archived_seconds": -1 if archiver["seconds"] is None else archiver["seconds"],
            "failing": archiver["failing"],
        },
        "receiver": receiver(server) if standby else {},
    }
    result["problems"] = problems(result, given)
    show(result)
    finish(result)
    return FAILED if result["problems"] else None


def receiver(server):
    row = server.one(RECEIVER % {"source": SOURCE if server.version >= 110000 else "''"})
    return {
        "status": text(row["status"]),
        "source": text(row["source"]),
        "replay_behind_bytes": row["behind"] or 0,
        # A primary without writes sends no transactions: their age is a delay only if something is left to replay.
        "replay_delay_seconds": (row["delay"] or 0) if row["behind"] else 0,
        "replay_paused": row["paused"],
        "conflicts": row["conflicts"] or 0,
    }


def problems(result, given):
    limit, found = given["max_lag_mib"] << 20, []
    for s in result["standbys"]:
        if s["replay_lag_bytes"] > limit:
            found.append("standby %s is %s behind in replay" % (s["name"], human(s["replay_lag_bytes"])))
    for s in result["slots"]:
        if s["status"] == "lost":
            found.append("slot %s is lost: what uses it must be made again from a copy" % s["name"])
        elif s["retained_bytes"] > limit:
            found.append("slot %s (%s) retains %s of WAL" % (s["name"], "active" if s["active"] else "not active", human(s["retained_bytes"])))
    if result["archiver"]["mode"] != "off" and result["archiver"]["failing"]:
        found.append("archiving of WAL fails: see archive_command and the server's log")
    found += of_receiver(result["receiver"], given)
    return found


def of_receiver(state, given):
    found = []
    if state and state["status"] == "not running":
        found.append("this standby receives no WAL")
    if state and state["replay_paused"]:
        found.append("replay is paused")
    if state and state["replay_delay_seconds"] > given["max_delay"]:
        found.append("replay is %d s late" % state["replay_delay_seconds"])
    return found


def show(result):
    print("standby" if result["standby"] else "primary")
    if result["standbys"]:
        table(
            [(s["name"], s["client"], s["state"], s["sync"], human(s["sent_lag_bytes"]), "?" if s["replay_lag_bytes"] < 0 else human(s["replay_lag_bytes"]), s["replay_lag_seconds"]) for s in result["standbys"]],
            ("STANDBY", "CLIENT", "STATE", "SYNC", "SEND LAG", "REPLAY LAG", "SECONDS"), right=(4, 5, 6),
        )  # fmt: skip
    if result["slots"]:
        table(
            [(s["name"], s["type"], s["database"] or "-", "yes" if s["active"] else "no", human(s["retained_bytes"]), s["status"] or "-") for s in result["slots"]],
            ("SLOT", "TYPE", "DATABASE", "ACTIVE", "RETAINED", "STATUS"), right=(4,),
        )  # fmt: skip
    archiver = result["archiver"]
    print("archiver: %s, %d archived, %d failed%s" % (archiver["mode"], archiver["archived"], archiver["failed"], ", FAILING" if archiver["failing"] else ""))
    state = result["receiver"]
    if state:
        print("receiver: %s from %s; %s to replay, %s s late%s; %d conflicts" % (
            state["status"], state["source"] or "?", human(state["replay_behind_bytes"]), state["replay_delay_seconds"], ", PAUSED" if state["replay_paused"] else "", state["conflicts"],
        ))  # fmt: skip
    for problem in result["problems"]:
        print("PROBLEM: " + problem)


main(action)
