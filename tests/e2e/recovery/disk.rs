//! A full disk. The state directory is a small tmpfs in a mount namespace of the test's own, in a process of its own.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{PackSource, World, is_root, skip, spec};
use packs_schema::rest::{Code, Execution};
use packs_schema::run::State;
use serde_json::json;

use super::{directory, shown};
use crate::calls::{done, ended, has_output, operator, refused, start, started, until};

const TEST: &str = "recovery::disk::a_full_disk_refuses_what_is_new_and_loses_nothing";
/// Set in the process that is in the namespace.
const INSIDE: &str = "BOLT_TEST_INSIDE";

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for chunk in [vec![0; 1 << 20], vec![0; 4096], vec![0; 1]] {
        while file.write_all(&chunk).is_ok() {}
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_loses_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        return inside().await;
    }
    if !is_root() {
        return skip(TEST, "mounts of one's own need root");
    }
    let probe = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip(TEST, "no mount namespace can be made here (unshare -m)");
    }
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private"]).arg(own).args(["--exact", TEST, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

async fn inside() {
    let world = World::empty();
    let go = world.scratch("go").join("now");
    let script = format!("#!/bin/sh\necho begun\nwhile [ ! -e {} ]; do sleep 0.05; done\necho ended\n", go.display());
    world.publish(&PackSource::probe().action("patient", "bolt: {class: diagnostic}", &script));
    let mut agent = LocalAgent::prepare(&world.site, &spec("i-1")).unwrap();
    let state = agent.state();
    fs::create_dir(&state).unwrap();
    let owner = world.site.accounts().unwrap().api;
    let options = format!("size=12m,mode=0700,uid={owner},gid={owner}");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&state).status().unwrap();
    assert!(mounted.success());
    agent.launch().unwrap();
    agent.wait_ready().unwrap();

    let running = started(&world, &agent, "probe.patient", json!({})).await;
    has_output(&world, &agent, &running).await;
    let filler = state.join("filler");
    fill(&filler);
    let before = fs::read_dir(state.join("exec")).unwrap().count();
    for _ in 0..3 {
        refused(&start(&world, &agent, "probe.hello", json!({})).await, Code::InsufficientStorage, "full");
    }
    assert_eq!(fs::read_dir(state.join("exec")).unwrap().count(), before, "a refused one leaves nothing");
    let health = operator(&world, &agent, Call::get("/v1/health")).await;
    assert!(health.status.is_success() || health.status == 503, "{}", health.text());

    // It ends while there is no room for its end.
    fs::write(&go, "").unwrap();
    let tried = directory(&agent, &running);
    until("its last words", async || !super::processes("bolt-shim", &tried).is_empty()).await;
    assert_eq!(shown(&world, &agent, &running).await.state, State::Running);
    fs::remove_file(&filler).unwrap();
    let end: Execution = ended(&world, &agent, &running).await;
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    assert_eq!(done(&world, &agent, "probe.hello", json!({})).await.state, State::Succeeded);
    drop(agent);
    let unmounted = Command::new("umount").arg(&state).status().unwrap();
    assert!(unmounted.success());
}
