#!/usr/bin/env python3
"""Estimates wasted space of tables: pages that the heap has, less pages that its rows need according to pg_stats."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import Deadline, config, finish, human, main, parameters, table  # noqa: E402
from lib.sql import Server, text  # noqa: E402

# A row needs its header (23 bytes, and a bitmap if it has NULLs, aligned to 8), its data aligned to 8, and a line pointer (4).
# A page has a header of 24 bytes and is filled up to fillfactor.
ESTIMATE = """
SELECT t.oid::regclass::text AS name, t.heap, t.live, t.dead, t.vacuumed, t.analyzed, t.autovacuum_off,
       CASE WHEN t.columns > t.known OR t.reltuples < 0 THEN -1
            ELSE greatest(t.heap - ceil(t.reltuples * t.row_bytes / ((t.block - 24) * t.fill / 100.0)) * t.block, 0) END::bigint AS wasted
FROM (
  SELECT c.oid, c.reltuples, pg_relation_size(c.oid) AS heap, current_setting('block_size')::int AS block,
         coalesce(substring(array_to_string(c.reloptions, ',') FROM 'fillfactor=([0-9]+)')::int, 100) AS fill,
         coalesce(array_to_string(c.reloptions, ',') ~ 'autovacuum_enabled=(false|off)', false) AS autovacuum_off,
         s.n_live_tup AS live, s.n_dead_tup AS dead, greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed,
         greatest(s.last_analyze, s.last_autoanalyze) AS analyzed,
         count(a.attname) AS columns, count(p.avg_width) AS known,
         4 + 8 * ceil((23 + CASE WHEN bool_or(p.null_frac > 0) THEN (count(a.attname) + 7) / 8 ELSE 0 END) / 8.0)
           + 8 * ceil(coalesce(sum((1 - p.null_frac) * p.avg_width), 0) / 8.0) AS row_bytes
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_stats p ON p.schemaname = n.nspname AND p.tablename = c.relname AND p.attname = a.attname AND NOT p.inherited
  LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
  WHERE c.relkind IN ('r', 'm') AND c.relpages >= 128 * :'mib'::bigint
  GROUP BY c.oid, c.reltuples, c.reloptions, s.n_live_tup, s.n_dead_tup, 9, 10
) t ORDER BY wasted DESC"""


def action():
    given = parameters()
    server = Server(Deadline(160.0), given.get("database"), statement_seconds=120)
    tables = [
        {
            "table": text(row["name"]),
            "heap_bytes": row["heap"],
            "wasted_bytes": row["wasted"],
            "wasted_percent": -1 if row["wasted"] < 0 else row["wasted"] * 100 // row["heap"] if row["heap"] else 0,
            "live_rows": row["live"] or 0,
            "dead_rows": row["dead"] or 0,
            "last_vacuum": text(row["vacuumed"]),
            "last_analyze": text(row["analyzed"]),
            "autovacuum_off": row["autovacuum_off"],
        }
        for row in server.rows(ESTIMATE, mib=given["min_mib"])
        if row["heap"] is not None  # Otherwise dropped meanwhile.
    ]
    result = {
        "database": given.get("database") or config().get("database", "postgres"),
        "tables_examined": len(tables),
        "wasted_bytes": sum(max(t["wasted_bytes"], 0) for t in tables),
        "tables": tables[: given["top"]],
    }
    print("%d tables of %s, about %s wasted" % (len(tables), result["database"], human(result["wasted_bytes"])))
    table(
        [(human(t["heap_bytes"]), "?" if t["wasted_bytes"] < 0 else human(t["wasted_bytes"]), "?" if t["wasted_bytes"] < 0 else t["wasted_percent"], t["live_rows"], t["dead_rows"], t["last_vacuum"][:19] or "never", t["table"] + (" (autovacuum is off)" if t["autovacuum_off"] else "")) for t in result["tables"]],
        ("HEAP", "WASTED", "%", "LIVE ROWS", "DEAD ROWS", "LAST VACUUM", "TABLE"), right=(0, 1, 2, 3, 4),
    )  # fmt: skip
    finish(result)


main(action)
