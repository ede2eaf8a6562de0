#!/usr/bin/env python3
"""Shows sizes of databases, WAL, tables and indexes."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import Deadline, config, finish, human, main, parameters, table  # noqa: E402
from lib.sql import Server, text  # noqa: E402

DATABASES = """
SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'MEMBER')
       THEN coalesce(pg_database_size(oid), 0) ELSE 0 END AS bytes
FROM pg_database ORDER BY bytes DESC LIMIT 200"""
WAL = """
SELECT CASE WHEN has_function_privilege('pg_ls_waldir()', 'EXECUTE') THEN (SELECT sum(size)::bigint FROM pg_ls_waldir()) ELSE -1 END AS bytes,
       (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()) AS since"""
# Ordered by pages, which the catalogue knows, so that files are measured for the largest only. Of a table or index that was dropped
# meanwhile, the size is NULL.
TABLES = """
SELECT oid::regclass::text AS name, pg_total_relation_size(oid) AS total, pg_relation_size(oid) AS heap, pg_indexes_size(oid) AS indexes,
       greatest(reltuples, 0)::bigint AS rows
FROM (SELECT c.oid, c.reltuples FROM pg_class c
      WHERE c.relkind IN ('r', 'm') ORDER BY c.relpages + coalesce((SELECT sum(i.relpages) FROM pg_class i JOIN pg_index x ON x.indexrelid = i.oid
        WHERE x.indrelid = c.oid), 0) + coalesce((SELECT t.relpages FROM pg_class t WHERE t.oid = c.reltoastrelid), 0) DESC LIMIT 1000) c
ORDER BY total DESC NULLS LAST LIMIT :'top'::int"""
UNUSED = """
SELECT s.indexrelid::regclass::text AS name, s.relid::regclass::text AS of, pg_relation_size(s.indexrelid) AS bytes
FROM pg_stat_user_indexes s JOIN pg_index i ON i.indexrelid = s.indexrelid JOIN pg_class c ON c.oid = s.indexrelid
WHERE s.idx_scan = 0 AND NOT i.indisunique AND c.relpages >= 128
  AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = s.indexrelid)
ORDER BY bytes DESC NULLS LAST LIMIT :'top'::int"""


def action():
    given = parameters()
    server = Server(Deadline(160.0), given.get("database"), statement_seconds=60)
    wal = server.one(WAL)
    result = {
        "database": given.get("database") or config().get("database", "postgres"),
        "databases": {text(row["datname"], 64): row["bytes"] for row in server.rows(DATABASES)},
        "wal_bytes": wal["bytes"],
        "statistics_since": text(wal["since"]),
        "tables": [
            {
                "table": text(row["name"]),
                "total_bytes": row["total"],
                "heap_bytes": row["heap"],
                "index_bytes": row["indexes"],
                "toast_bytes": max(row["total"] - row["heap"] - row["indexes"], 0),
                "rows": row["rows"],
            }
            for row in server.rows(TABLES, top=given["top"])
            if None not in (row["total"], row["heap"], row["indexes"])
        ],
        "unused_indexes": [
            {"index": text(row["name"]), "table": text(row["of"]), "bytes": row["bytes"]}
            for row in server.rows(UNUSED, top=given["top"])
            if row["bytes"] is not None
        ],
    }
    show(result)
    finish(result)


def show(result):
    print("WAL: %s" % ("unknown" if result["wal_bytes"] < 0 else human(result["wal_bytes"])))
    table([(human(n), name) for name, n in result["databases"].items()], ("SIZE", "DATABASE"), right=(0,))
    print("\nTables of %s" % result["database"])
    table(
        [(human(t["total_bytes"]), human(t["heap_bytes"]), human(t["index_bytes"]), human(t["toast_bytes"]), t["rows"], t["table"]) for t in result["tables"]],
        ("TOTAL", "HEAP", "INDEXES", "TOAST", "ROWS", "TABLE"), right=(0, 1, 2, 3, 4),
    )  # fmt: skip
    if result["unused_indexes"]:
        print("\nIndexes not used since %s" % (result["statistics_since"] or "the server was made"))
        table([(human(i["bytes"]), i["index"], i["table"]) for i in result["unused_indexes"]], ("SIZE", "INDEX", "TABLE"), right=(0,))


main(action)
