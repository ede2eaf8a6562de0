//! Tests of `postgres` on a server of the installed PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action, skip};
use crate::servers::{Server, as_account, wait_for};
use crate::service;

/// In place of psql: answers from files, and what has become of the session from the file `after` once it was signalled.
const PSQL: &str = "cd \"$(dirname \"$0\")\"\n\
    case $(cat) in\n\
    *server_version_num*) echo '[{\"version\": 150000}]' ;;\n\
    *pg_cancel_backend*|*pg_terminate_backend*) cat sent; cp after session ;;\n\
    *pg_ls_waldir*) echo '[{\"bytes\": 1, \"since\": null}]' ;;\n\
    *pg_total_relation_size*|*pg_stats*) cat tables ;;\n\
    *pg_stat_user_indexes*) cat indexes ;;\n\
    *pg_database*) cat databases ;;\n\
    *pg_stat_activity*) cat session ;;\n\
    *) echo unexpected >&2; exit 3 ;;\n\
    esac\n";

/// Server on a Unix socket in its directory.
struct Postgres {
    // Before the directory, so that the server has ended when the directory is removed.
    _server: Server,
    top: TempDir,
}

/// Returns the directory of the installed server's programs; otherwise prints that the test is skipped.
fn programs(test: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("postgres").exists()).max();
    if found.is_none() {
        skip(test, "postgresql is not installed");
    }
    found
}

impl Postgres {
    fn start(bin: &Path) -> Postgres {
        let top = TempDir::new().unwrap();
        let data = top.path().join("data");
        let mut initdb = as_account("postgres", &bin.join("initdb"), top.path());
        let made = initdb.args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"]).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Postgres::serve(bin, top, &data)
    }

    fn serve(bin: &Path, top: TempDir, data: &Path) -> Postgres {
        let mut command = as_account("postgres", &bin.join("postgres"), top.path());
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum=off", "-D"]).arg(data);
        command.arg("-k").arg(top.path());
        let server = Server::start(command).says("ready to accept");
        Postgres { _server: server, top }
    }

    /// Starts a standby of it with a slot.
    fn standby(&self, bin: &Path) -> Postgres {
        let top = TempDir::new().unwrap();
        let data = top.path().join("data");
        let mut copy = as_account("postgres", &bin.join("pg_basebackup"), top.path());
        copy.args(["--no-sync", "-c", "fast", "-R", "-C", "-S", "copy", "-U", "postgres", "-h"]);
        let made = copy.arg(self.top.path()).arg("-D").arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Postgres::serve(bin, top, &data)
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        action(&format!("postgres.{name}"), parameters).config(json!({"host": self.top.path()}))
    }

    fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-h"]).arg(self.top.path());
        command
    }

    fn sql(&self, text: &str) {
        let output = self.psql().args(["-c", text]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Session that has carried out a statement and stays open.
    fn session(&self, statement: &str) -> Server {
        let mut session = Server::start(self.psql());
        session.write(&format!("{statement}; SELECT 'do' || 'ne';"));
        session.says("done")
    }

    /// Identity of the only session whose state begins with this text.
    fn identity(&self, state: &str) -> (u64, String) {
        let ended = self.run("sessions", json!({"older_than": 0})).go().well();
        let rows = ended.result["sessions"].as_array().unwrap();
        let row = rows.iter().find(|r| r["state"].as_str().unwrap().starts_with(state)).unwrap();
        (row["pid"].as_u64().unwrap(), row["backend_start"].as_str().unwrap().to_owned())
    }
}

#[test]
fn a_session_that_blocks_others_is_named_and_ended_by_its_identity() {
    let Some(bin) = programs("a_session_that_blocks_others_is_named_and_ended_by_its_identity") else { return };
    let postgres = Postgres::start(&bin);
    postgres.sql("CREATE TABLE t AS SELECT 1 AS a");
    let first = postgres.session("BEGIN; UPDATE t SET a = 2");
    let mut second = postgres.session("SELECT 1");
    second.write("UPDATE t SET a = 3; SELECT 'fin' || 'ished';");
    let locks = |more: Value| postgres.run("locks", more).go();
    let waiting = wait_for("a wait for a lock", || {
        let ended = locks(json!({"queries": true})).well();
        (ended.result["waiting"] == 1).then_some(ended)
    });
    assert_eq!(locks(json!({"fail": true})).status, Some(1));
    let (pid, start) = postgres.identity("idle in transaction");
    let blocker = &waiting.result["blockers"][0];
    assert_eq!(
        (&blocker["pid"], &blocker["backend_start"], &blocker["blocks"]),
        (&json!(pid), &json!(start), &json!(1))
    );
    assert!(waiting.result["waiters"][0]["query"].as_str().unwrap().contains("SET a = 3"));
    assert!(locks(json!({})).result["waiters"][0].get("query").is_none(), "texts are shown only on request");

    let end = |more: Value| {
        let mut parameters = json!({"pid": pid, "backend_start": start});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        postgres.run("cancel_backend", parameters)
    };
    end(json!({"backend_start": "2020-01-01T00:00:00Z"})).go().error(2, "there is no session");
    end(json!({})).go().error(2, "terminate=true");
    let protected = json!({"host": postgres.top.path(), "protected_users": ["post*"]});
    end(json!({"terminate": true})).config(protected).go().error(2, "are protected by protected_users");
    let planned = end(json!({"terminate": true})).noop().go().well();
    assert_eq!(planned.result["outcome"], "would_terminate");
    assert_eq!(locks(json!({})).well().result["waiting"], 1, "a dry run ends nothing");
    assert_eq!(end(json!({"terminate": true})).go().well().result["outcome"], "terminated");
    second.line("finished");
    drop(first);
}

#[test]
fn a_statement_is_cancelled_and_its_session_stays() {
    let Some(bin) = programs("a_statement_is_cancelled_and_its_session_stays") else { return };
    let postgres = Postgres::start(&bin);
    let mut session = postgres.session("SELECT 1");
    session.write("SELECT pg_sleep(1000);");
    let (pid, start) = wait_for("a statement", || {
        let ended = postgres.run("sessions", json!({"older_than": 0})).go().well();
        (ended.result["states"]["active"] == 1).then(|| postgres.identity("active"))
    });
    let ended = postgres.run("cancel_backend", json!({"pid": pid, "backend_start": start})).go().well();
    assert_eq!((&ended.result["outcome"], &ended.result["state"]), (&json!("cancelled"), &json!("active")));
    session.line("canceling statement due to user request");
    session.write("SELECT 'still ' || 'here';");
    session.line("still here");
}

#[test]
fn a_statement_or_session_that_ended_meanwhile_is_not_called_cancelled() {
    let bin = service::programs(&[("psql", PSQL)]);
    let set = |name: &str, value: Value| std::fs::write(bin.path().join(name), value.to_string()).unwrap();
    let session = |query: &str| {
        json!([{"pid": 77, "backend_start": "2026-11-29T10:00:00.1+00:00", "datname": "shop", "usename": "web", "application_name": "",
            "state": "active", "backend_type": "client backend", "query_start": query, "transaction_seconds": 1.5}])
    };
    let end = |terminate: bool, sent: Value, after: Value| {
        set("session", session("2026-11-29T11:00:00+00:00"));
        set("sent", sent);
        set("after", after);
        let parameters =
            json!({"pid": 77, "backend_start": "2026-11-29T10:00:00.1+00:00", "terminate": terminate, "wait": 0});
        action("postgres.cancel_backend", parameters).programs(bin.path()).go()
    };
    for (terminate, sent, after) in [
        (false, json!([]), session("2026-11-29T11:00:05+00:00")),
        (false, json!([]), json!([])),
        (true, json!([]), json!([])),
        (true, json!([{"sent": false}]), json!([])),
    ] {
        let ended = end(terminate, sent, after).well();
        assert_eq!(ended.result["outcome"], "ended_meanwhile");
        assert!(ended.stdout.contains("nothing was sent"), "{}", ended.stdout);
    }
    let still = || session("2026-11-29T11:00:00+00:00");
    end(false, json!([{"sent": false}]), still()).error(1, "did not signal session 77");
    assert_eq!(end(false, json!([{"sent": true}]), json!([])).well().result["outcome"], "cancelled");
}

#[test]
fn a_role_that_does_not_exist_is_not_taken_for_a_database_of_its_name() {
    let psql = |what: &str| {
        let text = format!("psql: error: connection to server failed: FATAL:  {what} \"postgres\" does not exist");
        let bin = service::programs(&[("psql", &format!("echo '{text}' >&2; exit 2\n"))]);
        action("postgres.sizes", json!({})).programs(bin.path()).go()
    };
    psql("role").error(3, "as postgres: psql: error: connection to server failed: FATAL:  role");
    psql("database").error(2, "there is no database postgres");
}

#[test]
fn transaction_ids_that_run_out_are_a_problem_whatever_the_setting() {
    let settings = |age: u64, limit: u64| {
        let row = json!([{"standby": false, "max_connections": 100, "reserved": 3, "freeze_age": limit, "transaction_id_age": age}]);
        let psql = format!(
            "case $(cat) in\n*server_version_num*) echo '[{{\"version\": 150000}}]' ;;\n*datfrozenxid*) echo '{row}' ;;\n*) echo '[]' ;;\nesac\n"
        );
        let bin = service::programs(&[("psql", &psql)]);
        action("postgres.sessions", json!({"fail": true})).programs(bin.path()).go()
    };
    for (age, limit, status) in [
        (300_000_000, 200_000_000, 0),
        (500_000_000, 200_000_000, 1),
        (1_500_000_000, 1_200_000_000, 0),
        (1_700_000_000, 1_200_000_000, 1),
    ] {
        assert_eq!(settings(age, limit).status, Some(status), "{age} of {limit}");
    }
}

#[test]
fn tables_that_are_dropped_meanwhile_are_left_out() {
    let bin = service::programs(&[("psql", PSQL)]);
    let set = |name: &str, value: Value| std::fs::write(bin.path().join(name), value.to_string()).unwrap();
    // Their sizes are NULL.
    set(
        "tables",
        json!([
        {"name": "24601", "total": null, "heap": null, "indexes": null, "rows": 7, "live": null, "dead": null, "vacuumed": null,
            "analyzed": null, "autovacuum_off": false, "wasted": 0},
        {"name": "public.kept", "total": 30, "heap": 20, "indexes": 5, "rows": 7, "live": 7, "dead": 0, "vacuumed": null,
            "analyzed": null, "autovacuum_off": false, "wasted": 10}]),
    );
    set(
        "indexes",
        json!([{"name": "24602", "of": "24601", "bytes": null}, {"name": "public.i", "of": "public.kept", "bytes": 5}]),
    );
    set("databases", json!([{"datname": "shop", "bytes": 60}]));
    let ended = action("postgres.sizes", json!({})).programs(bin.path()).go().well();
    assert_eq!(
        (ended.result["tables"].as_array().unwrap().len(), &ended.result["tables"][0]["table"]),
        (1, &json!("public.kept"))
    );
    assert_eq!(ended.result["unused_indexes"], json!([{"index": "public.i", "table": "public.kept", "bytes": 5}]));
    let ended = action("postgres.bloat", json!({})).programs(bin.path()).go().well();
    assert_eq!(
        (&ended.result["tables_examined"], &ended.result["tables"][0]["wasted_percent"]),
        (&json!(1), &json!(50))
    );
}

#[test]
fn sizes_and_wasted_space_are_estimated() {
    let Some(bin) = programs("sizes_and_wasted_space_are_estimated") else { return };
    let postgres = Postgres::start(&bin);
    postgres.sql("CREATE TABLE half AS SELECT i, md5(i::text) AS text FROM generate_series(1, 40000) i");
    postgres.sql("CREATE INDEX never_used ON half (text)");
    postgres.sql("DELETE FROM half WHERE i % 2 = 0");
    postgres.sql("VACUUM ANALYZE half");
    let ended = postgres.run("sizes", json!({})).go().well();
    let table = &ended.result["tables"][0];
    assert_eq!(table["table"], "public.half", "{table}");
    let number = |key: &str| table[key].as_u64().unwrap();
    assert_eq!(number("total_bytes"), number("heap_bytes") + number("index_bytes") + number("toast_bytes"));
    assert_eq!(ended.result["unused_indexes"][0]["index"], "public.never_used");
    let ended = postgres.run("bloat", json!({"min_mib": 0})).go().well();
    let table = &ended.result["tables"][0];
    assert_eq!(table["table"], "public.half");
    let percent = table["wasted_percent"].as_u64().unwrap();
    assert!((40..=60).contains(&percent), "half of the rows are deleted: {table}");
    postgres.run("bloat", json!({"database": "none"})).go().error(2, "there is no database none");
    let closed = action("postgres.sessions", json!({})).config(json!({"host": postgres.top.path(), "port": 1}));
    closed.go().error(3, "cannot connect to PostgreSQL");
}

#[test]
fn a_standby_its_slot_and_its_lag_are_seen_from_both_sides() {
    let Some(bin) = programs("a_standby_its_slot_and_its_lag_are_seen_from_both_sides") else { return };
    let primary = Postgres::start(&bin);
    let standby = primary.standby(&bin);
    let seen = wait_for("streaming", || {
        let ended = primary.run("replication", json!({})).go().well();
        (ended.result["standbys"][0]["state"] == "streaming").then_some(ended)
    });
    assert_eq!((&seen.result["slots"][0]["name"], &seen.result["slots"][0]["active"]), (&json!("copy"), &json!(true)));
    let ended = standby.run("replication", json!({})).go().well();
    assert_eq!((&ended.result["standby"], &ended.result["receiver"]["status"]), (&json!(true), &json!("streaming")));
    drop(standby);
    primary.sql("CREATE TABLE more AS SELECT generate_series(1, 100000)");
    let ended = wait_for("the end of the standby", || {
        let ended = primary.run("replication", json!({"max_lag_mib": 1})).go();
        (ended.result["slots"][0]["active"] == false).then_some(ended)
    });
    ended.refused(1, "").result["problems"].as_array().unwrap().iter().for_each(|p| {
        assert!(p.as_str().unwrap().starts_with("slot copy (not active) retains "), "{p}");
    });
}
