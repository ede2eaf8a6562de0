//! Real clients of a simulated fleet whose record fails, is taken over, or is read while a run goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bolt_tests::fleet::{ACTION, Fleet, Latency, Setup};
use bolt_tests::proxy::Fault;
use bolt_tests::{Bucket, CommandOutput, Proxy};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::at;
use crate::recovery::disk::within;

/// Fleet with a record in a place of its own.
struct Ground {
    fleet: Fleet,
    /// Value of `--run-store`; empty for the state directory.
    store: String,
    _directory: tempfile::TempDir,
}

impl Ground {
    fn new(setup: Setup, store: String) -> Ground {
        let directory = tempfile::tempdir().unwrap();
        Ground { fleet: Fleet::start(setup, directory.path()), store, _directory: directory }
    }

    /// A fleet whose executions take a quarter of a second or so.
    fn slow(instances: u32, store: String) -> Ground {
        let latency = Latency { median_ms: 250, tail_percent: 0, tail_ms: 0 };
        Ground::new(Setup { latency, ..Setup::healthy(instances) }, store)
    }

    /// Returns a command with the record at `store`: the same one, reached in another way.
    fn command(&self, arguments: &[&str], store: &str) -> Command {
        let mut command = self.fleet.bolt().command(arguments);
        if !store.is_empty() {
            command.args(["--run-store", store]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn bolt(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::from(self.command(arguments, &self.store).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let said = self.bolt(&[arguments, &["--json"]].concat());
        (said.code, serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")))
    }

    fn listed(&self, run: &str) -> Option<Value> {
        let (_, runs) = self.json(&["runs"]);
        runs["runs"].as_array().unwrap().iter().find(|known| known["run"] == run).cloned()
    }

    /// Waits until `count` instances of a run have a recorded end.
    fn wait_for_ends(&self, run: &str, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.listed(run).is_none_or(|known| known["summary"]["succeeded"].as_u64().unwrap_or(0) < count) {
            assert!(Instant::now() < deadline, "no {count} instances of {run} ended");
        }
    }

    fn starts(&self, run: &str) -> Vec<u32> {
        self.fleet.ledger().instances.values().map(|seen| seen.starts.get(run).copied().unwrap_or(0)).collect()
    }
}

fn ended(child: Child) -> CommandOutput {
    CommandOutput::from(child.wait_with_output().unwrap())
}

const CANNOT_BE_RESUMED: &str = "cannot be resumed from here on";

#[test]
fn a_run_goes_on_when_the_disk_of_its_record_fills_up() {
    if !within("run_store::clients::a_run_goes_on_when_the_disk_of_its_record_fills_up") {
        return;
    }
    const INSTANCES: u32 = 24;
    let ground = Ground::slow(INSTANCES, String::new());
    let state: PathBuf = ground.fleet.client_config().with_extension("state");
    fs::create_dir(&state).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "none"]).arg(&state).status();
    assert!(mount.unwrap().success());
    let mut child = ground.command(&["run", ACTION, "--everywhere", "--run-id", "r-full"], "").spawn().unwrap();
    ground.wait_for_ends("r-full", 2);
    let filler = state.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    // Also the space of a write that failed and was taken back.
    while child.try_wait().unwrap().is_none() {
        while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    }
    let said = ended(child);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("No space left on device"), "{}", said.stderr);
    assert_eq!(said.stderr.matches(CANNOT_BE_RESUMED).count(), 1, "{}", said.stderr);
    assert_eq!(ground.starts("r-full"), [1; INSTANCES as usize]);
    assert_eq!(ground.listed("r-full").unwrap()["state"], "interrupted");
    // A new run cannot be recorded, and starts nothing.
    let refused = ground.bolt(&["run", ACTION, "--everywhere", "--run-id", "r-none"]);
    assert!(refused.code == 5 && refused.stderr.contains("nothing was started"), "{refused:?}");
    assert_eq!(ground.starts("r-none"), [0; INSTANCES as usize]);
    drop(file);
    fs::remove_file(&filler).unwrap();
    let resumed = ground.bolt(&["resume", "r-full"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert_eq!(ground.starts("r-full"), [1; INSTANCES as usize], "asked again, and started once");
    assert_eq!(ground.listed("r-full").unwrap()["state"], "succeeded");
    assert!(Command::new("umount").arg(&state).status().unwrap().success());
}

#[test]
fn a_run_goes_on_when_the_bucket_of_its_record_goes_away() {
    const INSTANCES: u32 = 12;
    let bucket = Bucket::start();
    let proxy = Proxy::before(bucket.address());
    let ground = Ground::slow(INSTANCES, at(&bucket.endpoint()));
    let through = at(&proxy.endpoint());
    for comes_back in [true, false] {
        proxy.heal();
        let run = format!("r-{comes_back}");
        let mut child = ground.command(&["run", ACTION, "--everywhere", "--run-id", &run], &through).spawn().unwrap();
        ground.wait_for_ends(&run, 2);
        proxy.fail("", 100_000, Fault::Status(403, "AccessDenied"));
        if comes_back {
            // Refused at least once, while the run goes on.
            let deadline = Instant::now() + Duration::from_secs(60);
            while !proxy.passed().iter().any(|passed| passed.path.contains("/progress/") && passed.fault.is_some()) {
                assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline);
                std::thread::yield_now();
            }
            proxy.heal();
        }
        let said = ended(child);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stderr.contains("access is denied"), "{}", said.stderr);
        assert_eq!(said.stderr.matches(CANNOT_BE_RESUMED).count(), 1, "{}", said.stderr);
        assert!(!said.stderr.contains("canary"), "{}", said.stderr);
        let listed = ground.listed(&run).unwrap();
        if comes_back {
            assert_eq!(listed["state"], "succeeded", "all was recorded in the end: {listed}");
        } else {
            assert_ne!(listed["state"], "succeeded", "{listed}");
        }
        let resumed = ground.bolt(&["resume", &run]);
        assert_eq!(resumed.code, 0, "{resumed:?}");
        assert_eq!(ground.starts(&run), [1; INSTANCES as usize]);
    }
}

#[test]
fn a_client_that_was_paused_stops_once_another_one_has_taken_over_its_run() {
    const INSTANCES: u32 = 12;
    let bucket = Bucket::start();
    let ground = Ground::slow(INSTANCES, at(&bucket.endpoint()));
    let paused = ground.command(&["run", ACTION, "--everywhere", "--run-id", "r-one"], &ground.store).spawn().unwrap();
    ground.wait_for_ends("r-one", 2);
    // While it carries out its run, another client is told so, soon.
    let busy = ground.bolt(&["resume", "r-one"]);
    assert!(busy.code == 2 && busy.stderr.contains("carried out by another client (process "), "{busy:?}");
    let pid = Pid::from_raw(paused.id().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    let resumed = ground.bolt(&["resume", "r-one"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(resumed.stderr.contains("was not given up by its last client: watching for 1s"), "{}", resumed.stderr);
    let recorded = bucket.keys("ops/runs/runs/r-one/progress/");
    kill(pid, Signal::SIGCONT).unwrap();
    let paused = ended(paused);
    assert_eq!(paused.code, 1, "{paused:?}");
    assert!(paused.stderr.contains("has been taken over by another client"), "{}", paused.stderr);
    assert!(paused.stderr.contains("nothing more is started from here"), "{}", paused.stderr);
    assert!(!paused.stderr.contains("bolt resume"), "{}", paused.stderr);
    assert_eq!(ground.starts("r-one"), [1; INSTANCES as usize]);
    assert_eq!(ground.listed("r-one").unwrap()["state"], "succeeded");
    assert_eq!(bucket.keys("ops/runs/runs/r-one/progress/"), recorded, "it has recorded nothing more");
}

/// Stops a client of the run `r-one` after the first of its two batches.
fn paused_between_batches(ground: &Ground) -> (Child, Pid) {
    let batches = ["run", ACTION, "--everywhere", "--batch", "2", "--pause", "2s", "--run-id", "r-one"];
    let client = ground.command(&batches, &ground.store).spawn().unwrap();
    ground.wait_for_ends("r-one", 2);
    let pid = Pid::from_raw(client.id().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    (client, pid)
}

/// The first client wakes up when the next batch is due, before it can know that it has lost the run.
#[test]
fn a_client_that_was_paused_between_batches_starts_none_of_the_next_one() {
    let bucket = Bucket::start();
    let ground = Ground::new(Setup::healthy(4), at(&bucket.endpoint()));
    let (paused, pid) = paused_between_batches(&ground);
    let resumed = ground.bolt(&["resume", "r-one"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    kill(pid, Signal::SIGCONT).unwrap();
    let paused = ended(paused);
    assert!(paused.code == 1 && paused.stderr.contains("has been taken over by another client"), "{paused:?}");
    assert!(paused.stderr.contains("nothing more is started from here"), "{paused:?}");
    assert!(paused.stdout.contains("2 not_started, 2 succeeded; interrupted"), "{paused:?}");
    assert_eq!(ground.starts("r-one"), [1; 4]);
}

#[test]
fn a_resume_that_is_refused_takes_no_run_over() {
    let bucket = Bucket::start();
    let ground = Ground::new(Setup::healthy(4), at(&bucket.endpoint()));
    let (paused, pid) = paused_between_batches(&ground);
    let refused = ground.bolt(&["resume", "r-one", "token=@/dev/null"]);
    assert!(refused.code == 2 && refused.stderr.contains("secret"), "{refused:?}");
    kill(pid, Signal::SIGCONT).unwrap();
    let paused = ended(paused);
    assert!(paused.code == 0 && !paused.stderr.contains("taken over"), "{paused:?}");
}

/// Reads requests of the list by their paths: it must not grow with the progress of the runs.
#[test]
fn a_list_of_runs_reads_one_group_of_each() {
    let bucket = Bucket::start();
    let ground = Ground::new(Setup::healthy(8), at(&bucket.endpoint()));
    for run in ["r-1", "r-2", "r-3"] {
        assert_eq!(ground.bolt(&["run", ACTION, "--everywhere", "--run-id", run]).code, 0);
    }
    assert!(bucket.keys("ops/runs/runs/r-1/progress/").len() > 1);
    let mark = bucket.mark();
    let (_, runs) = ground.json(&["runs", "--limit", "2"]);
    let listed: Vec<&str> = runs["runs"].as_array().unwrap().iter().filter_map(|run| run["run"].as_str()).collect();
    assert_eq!((listed, runs["more"].as_u64()), (vec!["r-3", "r-2"], Some(1)));
    let requests = bucket.since(mark).requests;
    // The list of the heads; and for each run its head, its lease, the name of its newest group, and that group.
    assert_eq!(requests.len(), 1 + 2 * 4, "{requests:#?}");
    assert!(!requests.iter().any(|asked| asked.path.contains("plan-")), "{requests:#?}");
}

#[test]
fn show_and_wait_use_the_record_and_do_without_it() {
    let bucket = Bucket::start();
    for store in [String::new(), at(&bucket.endpoint())] {
        let ground = Ground::slow(6, store);
        let child = ground
            .command(
                &["run", ACTION, "--everywhere", "--batch", "3", "--pause", "2s", "--run-id", "r-one"],
                &ground.store,
            )
            .spawn()
            .unwrap();
        ground.wait_for_ends("r-one", 3);
        // In the pause between the batches: the others are still to be started.
        let (_, shown) = ground.json(&["show", "r-one"]);
        let own = format!("process {}", child.id());
        assert_eq!(shown["record"]["state"], "running", "{shown}");
        assert!(shown["record"]["holder"].as_str().unwrap().contains(&own), "{shown}");
        assert_eq!(shown["record"]["without"][0]["state"], "not_started");
        let text = ground.bolt(&["show", "r-one"]);
        assert!(text.stdout.contains(&format!("carried out  by {own}")), "{}", text.stdout);
        assert!(text.stdout.contains("not_started (the run goes on): i-"), "{}", text.stdout);
        let (code, waited) = ground.json(&["wait", "r-one"]);
        assert_eq!((code, waited["executions"].as_array().unwrap().len()), (0, 6), "{waited}");
        assert_eq!(ended(child).code, 0);
        let (_, shown) = ground.json(&["show", "r-one", "--exclude", "i-00000,i-00001"]);
        assert_eq!(shown["executions"].as_array().unwrap().len(), 4, "{shown}");
        // Without the record, the instances know the executions.
        let gone = ground._directory.path().join("gone").display().to_string();
        let rebuilt = CommandOutput::from(ground.command(&["show", "r-one"], &gone).output().unwrap());
        assert_eq!(rebuilt.code, 0, "{rebuilt:?}");
        assert!(rebuilt.stdout.contains("6 succeeded") && !rebuilt.stdout.contains("planned"), "{}", rebuilt.stdout);
        // A record that cannot be used is reported, and done without.
        if ground.store.is_empty() {
            let head = ground.fleet.client_config().with_extension("state").join("bolt/runs/r-one/head.json");
            fs::set_permissions(&head, fs::Permissions::from_mode(0o666)).unwrap();
        } else {
            bucket.put("ops/runs/heads/r-one.json", "{");
        }
        let shown = ground.bolt(&["show", "r-one"]);
        assert!(shown.code == 0 && shown.stdout.contains("6 succeeded"), "{shown:?}");
        assert!(shown.stderr.contains("the instances are asked without the record"), "{}", shown.stderr);
        let refused = ground.bolt(&["resume", "r-one"]);
        assert_eq!(refused.code, 5, "{refused:?}");
        assert_eq!(ground.starts("r-one"), [1; 6]);
    }
    let faulty = Setup { faulty_percent: 60, seed: 3, ..Setup::healthy(20) };
    let ground = Ground::new(faulty, String::new());
    assert_eq!(ground.bolt(&["run", ACTION, "--everywhere", "--run-id", "r-stopped"]).code, 1);
    let (_, shown) = ground.json(&["show", "r-stopped"]);
    assert_eq!(shown["record"]["state"], "stopped", "{shown}");
    let text = ground.bolt(&["show", "r-stopped"]);
    assert!(text.stdout.contains("not_started (more instances "), "{}", text.stdout);
    let waited = ground.bolt(&["wait", "r-stopped"]);
    assert!(waited.code == 1 && waited.stdout.contains("not_started (more instances "), "{waited:?}");
}

#[test]
fn ids_of_recorded_runs_are_completed() {
    let bucket = Bucket::start();
    for store in [String::new(), at(&bucket.endpoint())] {
        let ground = Ground::new(Setup::healthy(2), store);
        assert_eq!(ground.bolt(&["run", ACTION, "--everywhere", "--run-id", "r-abc"]).code, 0);
        let complete = |words: &[&str]| {
            let mut command = Command::new(bolt_client::local::binary("bolt").unwrap());
            let config = ground.fleet.client_config();
            command.args(["--", "bolt"]).args(words).env("BOLT_CLIENT_CONFIG", &config);
            command.env("BOLT_COMPLETE", "bash").env("_CLAP_IFS", "\n").envs(bolt_tests::bucket::credentials());
            command.env("_CLAP_COMPLETE_INDEX", words.len().to_string()).env("BOLT_RUN_STORE", &ground.store);
            command.env("XDG_STATE_HOME", config.with_extension("state"));
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        for words in [
            &["resume", "r-a"][..],
            &["retry", ""],
            &["show", "r-"],
            &["wait", "r-"],
            &["logs", "r-"],
            &["kill", "--run", ""],
            &["instances", "--from", ""],
        ] {
            let said = complete(words);
            assert!(said.lines().any(|line| line == "r-abc"), "{words:?}: {said:?}");
        }
        assert!(!complete(&["resume", "r-x"]).contains("r-abc"));
    }
}
