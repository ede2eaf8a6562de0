//! The audit log: who did, or was refused, what. Verified with the command that an administrator uses.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bolt_client::local::{AgentSpec, LocalAgent, OPERATOR};
use bolt_tests::http::{Call, send};
use bolt_tests::{Bolt, PackSource, World, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution, Health, Page};
use serde_json::{Value, json};

use crate::calls::{caller, refused, run, until};
use crate::recovery::disk::within;
use crate::restarts::child;

fn allowing(id: &str) -> AgentSpec {
    let verbs = "[\"read\", \"run\", \"kill\", \"sync\", \"push\"]";
    let grants = format!("[[grant]]\nprincipal = \"{OPERATOR}\"\nverbs = {verbs}\nactions = [\"*\"]\n");
    AgentSpec { grants: Some(grants), ..spec(id).set("dev", "push", true) }
}

fn directory(agent: &LocalAgent) -> PathBuf {
    agent.state().join("audit")
}

/// The newest file of a chain.
fn newest(directory: &Path, chain: &str) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(chain)).max().unwrap()
}

/// Entries as `bolt audit show --json` prints them.
fn shown(bolt: &Bolt, directory: &Path, more: &[&str]) -> Vec<Value> {
    let arguments = ["audit", "show", directory.to_str().unwrap(), "--json"];
    let said = bolt.run(arguments.iter().chain(more));
    assert!(said.code <= 1 && said.stderr.len() < 2_000, "{said:?}");
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The head of the chain of changes, of a log that is whole.
fn verified(bolt: &Bolt, directory: &Path, more: &[&str]) -> String {
    let arguments = ["audit", "verify", directory.to_str().unwrap()];
    let (code, reports) = bolt.json(arguments.iter().chain(more));
    assert_eq!(code, 0, "{reports}");
    let changes = reports.as_array().unwrap().iter().find(|report| report["chain"] == "changes").unwrap();
    changes["head"].as_str().unwrap().to_owned()
}

/// Collects what is sent to a socket, until nothing came for a minute.
fn collect(received: UnixDatagram) -> Arc<Mutex<String>> {
    received.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let copies = Arc::new(Mutex::new(String::new()));
    let kept = copies.clone();
    std::thread::spawn(move || {
        let mut datagram = vec![0; 1 << 16];
        while let Ok(length) = received.recv(&mut datagram) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&datagram[..length]));
        }
    });
    copies
}

fn find<'a>(entries: &'a [Value], verb: &str, outcome: &str) -> Vec<&'a Value> {
    entries.iter().filter(|entry| entry["verb"] == verb && entry["outcome"] == outcome).collect()
}

#[tokio::test]
async fn every_change_and_every_refusal_has_an_entry_and_a_changed_one_is_found() {
    let world = World::with_probe();
    let journal = world.scratch("journal").join("socket");
    let received = UnixDatagram::bind(&journal).unwrap();
    fs::set_permissions(&journal, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let copies = collect(received);
    let agent = world.start(&allowing("i-1").set("audit", "journal_socket", journal.to_str().unwrap()));
    let (operator, bolt, log) = (world.operator(&agent), world.bolt(&[&agent]), directory(&agent));
    // Changes.
    let hello = operator.run("probe.hello", json!({})).await;
    let sleep = operator.start("probe.sleep", json!({"seconds": 600})).await;
    let path = format!("/v1/executions/{}/kill", sleep.id);
    let note = json!({"note": "too\nlong\u{1b}[2J"}).to_string();
    let killing = Call::post(&path, note.into_bytes()).header("content-type", "application/json");
    assert!(operator.send(killing).await.status.is_success());
    assert_eq!(operator.send(Call::post("/v1/packs/sync", Vec::new())).await.status, 202);
    let pack = PackSource::probe().version("1.0.1").write(&world.scratch("pushed"));
    assert_eq!(bolt.run(["pack", "push", pack.to_str().unwrap(), "--to", "i-1"]).code, 0);
    assert_eq!(bolt.run(["pack", "unpush", "probe", "--from", "i-1"]).code, 0);
    // Refusals: without a grant, of a change that does not fit, of a read; and a miss, which is none.
    let stranger = caller(&world, "stranger");
    for _ in 0..50 {
        let answer =
            send(agent.address(), Some(&stranger), Call::post("/v1/executions", run("probe.hello", json!({}))));
        refused(&answer.await.unwrap(), Code::Forbidden, "stranger");
    }
    send(agent.address(), Some(&stranger), Call::get("/v1/packs")).await.unwrap();
    let wrong = operator.submit("probe.hello", json!({"nothing": 1})).await;
    refused(&wrong, Code::InvalidParameters, "nothing");
    operator.send(Call::get("/v1/packs/unknown")).await;
    // A change of the grants.
    let grants = agent.directory().join("etc/grants.toml");
    fs::write(&grants, fs::read_to_string(&grants).unwrap() + "# changed\n").unwrap();
    until("the change of the grants", async || !find(&shown(&bolt, &log, &[]), "reload", "done").is_empty()).await;

    let entries = shown(&bolt, &log, &[]);
    let started = find(&entries, "run", "accepted");
    let of = |execution: &Execution| {
        started.iter().find(|entry| entry["execution"] == execution.id.as_str()).copied().cloned().unwrap()
    };
    for execution in [&hello, &sleep] {
        let entry = of(execution);
        assert_eq!((&entry["principal"], &entry["chain"]), (&json!(OPERATOR), &json!("changes")), "{entry}");
        assert_eq!(entry["action"], json!(execution.action.as_str()));
        assert_eq!(entry["at_ms"], json!(execution.created_at_ms));
    }
    assert_eq!(of(&sleep)["parameters"]["names"], json!(["seconds"]));
    let killed = find(&entries, "kill", "accepted");
    assert_eq!(killed.len(), 1, "{entries:?}");
    assert_eq!(killed[0]["note"], json!("too\\nlong\\u{1b}[2J"));
    assert_eq!(find(&entries, "sync", "accepted").len(), 1);
    for verb in ["push", "unpush"] {
        for outcome in ["accepted", "done"] {
            assert_eq!(find(&entries, verb, outcome)[0]["action"], json!("probe.*"), "{verb} {outcome}");
        }
    }
    let refusals = shown(&bolt, &log, &["--refused"]);
    let codes = |principal: &str, verb: &str| {
        let of = |entry: &&Value| {
            let who = entry["principal"].as_str().unwrap_or_default();
            entry["verb"] == verb && who.ends_with(principal) && entry["count"].is_null()
        };
        refusals.iter().filter(of).map(|entry| entry["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(codes("stranger", "run"), ["forbidden"], "the others are counted: {refusals:?}");
    assert_eq!(codes("stranger", "read"), ["forbidden"]);
    assert_eq!(codes("operator", "run"), ["invalid_parameters"], "{refusals:?}");
    assert_eq!(codes("operator", "read"), Vec::<String>::new(), "a miss is no refusal");
    assert_eq!(find(&entries, "start", "done").len(), 1);
    assert!(find(&entries, "load", "done").iter().any(|entry| entry["detail"].as_str().unwrap().contains("grants")));

    until("the copies in the journal", async || {
        let text = copies.lock().unwrap();
        let all = [sleep.id.as_str(), "BOLT_VERB=kill\n", "SYSLOG_IDENTIFIER=bolt-audit\n"];
        all.iter().all(|part| text.contains(part))
    })
    .await;

    // A restart writes the counts, and the chain goes on.
    let head = verified(&bolt, &log, &[]);
    let api = child(agent.launcher_pid().unwrap(), "api").unwrap();
    kill(Pid::from_raw(api), Signal::SIGTERM).unwrap();
    until("another start", async || find(&shown(&bolt, &log, &[]), "start", "done").len() == 2).await;
    let counted = shown(&bolt, &log, &["--refused", "--verb", "run"]);
    assert!(counted.iter().any(|entry| entry["count"] == json!(49)), "{counted:?}");
    let later = verified(&bolt, &log, &["--head", &head]);
    assert_ne!(later, head);

    // Edited.
    let file = newest(&log, "changes");
    let text = fs::read_to_string(&file).unwrap();
    let line = text.lines().position(|line| line.contains("\"kill\"")).unwrap() + 1;
    fs::write(&file, text.replacen(OPERATOR, "spiffe://bolt.local/innocent", 1)).unwrap();
    let said = bolt.run(["audit", "verify", log.to_str().unwrap()]);
    assert!(
        said.code == 1 && said.stdout.contains("BROKEN at entry") && said.stdout.contains("was changed"),
        "{said:?}"
    );
    // Cut off: only the head tells.
    let kept: String = text.split_inclusive('\n').take(line - 1).collect();
    fs::write(&file, kept).unwrap();
    verified(&bolt, &log, &[]);
    let said = bolt.run(["audit", "verify", log.to_str().unwrap(), "--head", &later]);
    assert!(said.code == 1 && said.stdout.contains("removed from the end"), "{said:?}");
    // A head is never left out: nothing of the other chain's file could be held against it.
    let said = bolt.run(["audit", "verify", newest(&log, "refusals").to_str().unwrap(), "--head", &later]);
    assert!(said.code == 2 && said.stderr.contains("it is of the chain of changes"), "{said:?}");
}

#[tokio::test]
async fn an_api_that_is_killed_loses_no_entry_and_doubles_none() {
    let world = World::with_probe();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let limits = spec("i-1").set("api", "listen", free.to_string()).set("execution", "max_queued", 500);
    let agent = world.start(&limits);
    let (operator, bolt, log) = (world.operator(&agent), world.bolt(&[&agent]), directory(&agent));
    let launcher = agent.launcher_pid().unwrap();
    for round in 0..4 {
        let starts = (0..12).map(|_| operator.submit("probe.hello", json!({})));
        // Between the commit of some of them and the write of their entries.
        let answered = futures_util::future::join_all(starts).await;
        assert!(answered.iter().all(|answer| answer.status == 202), "round {round}");
        let api = child(launcher, "api").unwrap();
        kill(Pid::from_raw(api), Signal::SIGKILL).unwrap();
        until("another api", async || child(launcher, "api").is_some_and(|next| next != api)).await;
        until("its answer", async || {
            let health = send(agent.address(), Some(&world.site.operator()), Call::get("/v1/health")).await;
            health.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }
    let listed: Page<Execution> = operator.send(Call::get("/v1/executions?limit=500")).await.json();
    assert_eq!(listed.items.len(), 48);
    let entries = shown(&bolt, &log, &["--verb", "run"]);
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for entry in &entries {
        *counts.entry(entry["execution"].as_str().unwrap()).or_default() += 1;
    }
    for execution in &listed.items {
        assert_eq!(counts.get(execution.id.as_str()), Some(&1), "{}", execution.id);
    }
    assert_eq!(counts.len(), 48);
    verified(&bolt, &log, &[]);
}

#[tokio::test]
async fn a_full_disk_refuses_changes_but_for_kills_which_are_recorded_later() {
    if !within("audit::a_full_disk_refuses_changes_but_for_kills_which_are_recorded_later") {
        return;
    }
    let world = World::with_probe();
    let mut agent = LocalAgent::prepare(&world.site, &spec("i-1")).unwrap();
    let log = directory(&agent);
    let owner = world.site.accounts().unwrap().api;
    fs::create_dir(agent.state()).unwrap();
    fs::create_dir(&log).unwrap();
    for directory in [agent.state(), log.clone()] {
        std::os::unix::fs::chown(&directory, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    let options = format!("size=512k,mode=0700,uid={owner},gid={owner}");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&log).status();
    assert!(mounted.unwrap().success());
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    let (operator, bolt) = (world.operator(&agent), world.bolt(&[&agent]));
    let running = operator.start("probe.sleep", json!({"seconds": 600})).await;
    let filler = log.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    for chunk in [4096, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; chunk]).is_ok() {}
    }
    drop(file);
    // Until a write fails, what fits into the last block is recorded.
    until("a refusal", async || {
        let answer = operator.send(Call::post("/v1/packs/sync", Vec::new())).await;
        answer.status == 507
    })
    .await;
    let answer = operator.send(Call::post("/v1/packs/sync", Vec::new())).await;
    refused(&answer, Code::AuditUnavailable, "audit log");
    let before = fs::read_dir(agent.state().join("exec")).unwrap().count();
    refused(&operator.submit("probe.hello", json!({})).await, Code::AuditUnavailable, "nothing was changed");
    assert_eq!(fs::read_dir(agent.state().join("exec")).unwrap().count(), before);
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    assert!(health.degraded && health.reasons.iter().any(|reason| reason.code == "audit_unavailable"), "{health:?}");
    let path = format!("/v1/executions/{}/kill", running.id);
    assert!(operator.send(Call::post(&path, Vec::new())).await.status.is_success());
    assert_eq!(operator.wait(&running).await.state, State::Killed);

    fs::remove_file(&filler).unwrap();
    until("space", async || operator.submit("probe.hello", json!({})).await.status.is_success()).await;
    until("the kill", async || {
        find(&shown(&bolt, &log, &[]), "kill", "accepted").iter().any(|e| e["execution"] == running.id.as_str())
    })
    .await;
    verified(&bolt, &log, &[]);
    drop(agent);
    assert!(Command::new("umount").arg(&log).status().unwrap().success());
}
