//! Runs that are interrupted, resumed and repeated: on a simulated fleet, whose ledger says what was started.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use bolt_tests::CommandOutput;
use bolt_tests::fleet::{ACTION, Fleet, Latency, Setup};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const INSTANCES: u32 = 6;

/// Starts a fleet whose executions take half a second to one and a half.
fn fleet(directory: &std::path::Path) -> Fleet {
    let latency = Latency { median_ms: 1_000, tail_percent: 0, tail_ms: 0 };
    Fleet::start(Setup { latency, ..Setup::healthy(INSTANCES) }, directory)
}

fn spawn(fleet: &Fleet, arguments: &[&str]) -> Child {
    let mut command = fleet.bolt().command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the record has `count` instances with an end. Bounded.
fn wait_for_ends(fleet: &Fleet, run: &str, count: u64) {
    for _ in 0..600 {
        let runs = fleet.bolt().json(["runs"]).1;
        let known = runs["runs"].as_array().unwrap().iter().find(|known| known["run"] == run);
        if known.is_some_and(|known| known["summary"]["succeeded"].as_u64().unwrap_or(0) >= count) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("no {count} instances of {run} ended");
}

fn starts(fleet: &Fleet, run: &str) -> Vec<u32> {
    fleet.ledger().instances.values().map(|seen| seen.starts.get(run).copied().unwrap_or(0)).collect()
}

fn state(fleet: &Fleet, run: &str) -> String {
    let runs = fleet.bolt().json(["runs"]).1;
    let known = runs["runs"].as_array().unwrap().iter().find(|known| known["run"] == run).unwrap();
    known["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_that_was_interrupted_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let fleet = fleet(directory.path());
    let child = spawn(&fleet, &["run", ACTION, "--everywhere", "--run-id", "r-one"]);
    wait_for_ends(&fleet, "r-one", 2);
    // Another client must not go on with it meanwhile.
    let busy = fleet.bolt().run(["resume", "r-one"]);
    assert_eq!(busy.code, 2, "{busy:?}");
    assert!(busy.stderr.contains("being carried out by another client (process "), "{}", busy.stderr);
    assert_eq!(state(&fleet, "r-one"), "running");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let interrupted = CommandOutput::from(child.wait_with_output().unwrap());
    assert_eq!(interrupted.code, 130, "{interrupted:?}");
    assert!(interrupted.stderr.contains("bolt resume r-one"), "{}", interrupted.stderr);
    assert_eq!(state(&fleet, "r-one"), "interrupted");
    let before: u32 = starts(&fleet, "r-one").iter().sum();
    assert!((2..INSTANCES).contains(&before), "{before} started");

    let resumed = fleet.bolt().run(["resume", "r-one"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(resumed.stderr.contains(&format!("{} not started", INSTANCES - before)), "{}", resumed.stderr);
    assert!(resumed.stdout.contains(&format!("-- {INSTANCES} instances")), "{}", resumed.stdout);
    assert_eq!(starts(&fleet, "r-one"), [1; INSTANCES as usize]);
    assert_eq!(state(&fleet, "r-one"), "succeeded");

    // Nothing is left: the same report again, and nothing starts.
    let again = fleet.bolt().json(["resume", "r-one"]);
    assert_eq!((again.0, again.1["summary"]["succeeded"].as_u64()), (0, Some(u64::from(INSTANCES))));
    assert_eq!(starts(&fleet, "r-one"), [1; INSTANCES as usize]);
    // An id is used once.
    let taken = fleet.bolt().run(["run", ACTION, "--everywhere", "--run-id", "r-one"]);
    assert_eq!((taken.code, taken.stderr.contains("bolt resume r-one")), (2, true), "{taken:?}");
    let unknown = fleet.bolt().run(["resume", "r-none"]);
    assert_eq!((unknown.code, unknown.stderr.contains("not in the record of runs")), (2, true), "{unknown:?}");
}

#[test]
fn a_run_is_repeated_where_it_did_not_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let latency = Latency { median_ms: 5, tail_percent: 0, tail_ms: 0 };
    let setup = Setup { latency, faulty_percent: 50, seed: 5, ..Setup::healthy(40) };
    let fleet = Fleet::start(setup, directory.path());
    let all = ["run", ACTION, "--everywhere", "--at-once", "--max-failures", "100%", "--run-id", "r-all"];
    let (_, report) = fleet.bolt().json(all);
    let failed: Vec<&Value> =
        report["instances"].as_array().unwrap().iter().filter(|entry| entry["state"] != "succeeded").collect();
    assert!(!failed.is_empty() && state(&fleet, "r-all") == "failed");
    let (_, repeated) = fleet.bolt().json(["retry", "r-all", "--unreachable"]);
    let entries = repeated["instances"].as_array().unwrap();
    let ids =
        |entries: &[&Value]| -> Vec<String> { entries.iter().map(|entry| entry["instance"].to_string()).collect() };
    assert_eq!(ids(&entries.iter().collect::<Vec<_>>()), ids(&failed));
    assert_ne!(repeated["run"], "r-all");

    // The same instances, for another command.
    let chosen = fleet.bolt().json(["instances", "--from", "r-all", "--on", "@failed,@unreachable"]).1;
    let mut chosen: Vec<String> =
        chosen["instances"].as_array().unwrap().iter().map(|entry| entry["facts"]["id"].to_string()).collect();
    let mut wanted = ids(&failed);
    chosen.sort();
    wanted.sort();
    assert_eq!(chosen, wanted);
    for (options, problem) in [
        (&["--from", "r-all", "--on", "@not_started"][..], "run r-all has no such instance"),
        (&["--on", "@failed"], "--from"),
        (&["--from", "r-all", "--on", "@faild"], "@failed, @unreachable"),
        (&["--from", "r-none"], "not in the record of runs"),
    ] {
        let refused = fleet.bolt().run(["instances"].iter().chain(options));
        assert!(refused.code == 2 && refused.stderr.contains(problem), "{options:?}: {refused:?}");
    }
}

#[test]
fn a_run_that_cannot_be_recorded_starts_nothing_unless_asked_to() {
    let directory = tempfile::tempdir().unwrap();
    let fleet = fleet(directory.path());
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let run = |options: &[&str]| {
        let mut command = fleet.bolt().command(["run", ACTION, "--everywhere", "--at-once", "--run-id", "r-x"]);
        CommandOutput::from(command.env("XDG_STATE_HOME", &file).args(options).output().unwrap())
    };
    let refused = run(&[]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused.stderr.contains("nothing was started") && refused.stderr.contains("--unrecorded"),
        "{}",
        refused.stderr
    );
    assert_eq!(starts(&fleet, "r-x"), [0; INSTANCES as usize]);
    assert_eq!(run(&["--unrecorded"]).code, 0);
    assert_eq!(starts(&fleet, "r-x"), [1; INSTANCES as usize]);
}
