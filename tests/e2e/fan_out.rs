//! Runs over a simulated fleet: each instance has exactly one outcome, and it is the right one for what is wrong there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bolt_client::local::binary;
use bolt_tests::fleet::{ACTION, Fault, Fleet, Latency, Setup};
use serde_json::Value;

const INSTANCES: u32 = 300;
/// Maximum memory of the client, of which 16 huge answers are up to 8 MiB each while they are read.
const MOST_KB: u64 = 192 << 10;

/// Report of a run, and the client's peak memory in kB.
struct Reported {
    text: String,
    report: Value,
    peak_kb: u64,
}

impl Reported {
    /// Returns the outcome of each instance; fails if one has two.
    fn outcomes(&self) -> BTreeMap<String, String> {
        let entries = self.report["instances"].as_array().unwrap();
        let name = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        let outcomes: BTreeMap<_, _> =
            entries.iter().map(|entry| (name(entry, "instance"), name(entry, "state"))).collect();
        assert_eq!(outcomes.len(), entries.len(), "an instance has two outcomes");
        outcomes
    }

    fn run(&self) -> &str {
        self.report["run"].as_str().unwrap()
    }

    fn entry(&self, id: &str) -> &Value {
        self.report["instances"].as_array().unwrap().iter().find(|entry| entry["instance"] == id).unwrap()
    }
}

fn run(fleet: &Fleet, directory: &Path) -> Reported {
    let figure = directory.join("peak");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bolt-peak"));
    command.env("XDG_STATE_HOME", directory.join("state"));
    command.arg(&figure).arg(binary("bolt").unwrap()).arg("--config").arg(fleet.client_config());
    command.args(["run", ACTION, "--everywhere", "--at-once", "--max-failures", "100%", "--parallel", "200", "--json"]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8(output.stderr)));
    Reported { text, report, peak_kb: std::fs::read_to_string(figure).unwrap().parse().unwrap() }
}

fn setup() -> Setup {
    let seed = std::env::var("BOLT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    let latency = Latency { median_ms: 20, tail_percent: 2, tail_ms: 400 };
    println!("seed {seed}");
    Setup { faulty_percent: 60, latency, seed, ..Setup::healthy(INSTANCES) }
}

#[test]
fn every_instance_of_a_faulty_fleet_has_the_outcome_of_its_fault() {
    bolt_tests::binaries();
    let directory = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(setup(), directory.path());
    let reported = run(&fleet, directory.path());
    let (outcomes, ledger, faults) = (reported.outcomes(), fleet.ledger(), fleet.faults());
    assert_eq!(outcomes.len(), INSTANCES as usize);

    // Of each fault, the instances with another outcome or another number of starts.
    let mut wrong = Vec::new();
    for (id, fault) in &faults {
        let starts = ledger.instances[id].starts.get(reported.run()).copied().unwrap_or_default();
        if outcomes[id] != fault.outcome() || starts != fault.starts() {
            wrong.push(format!("{id} {fault:?}: {}, {starts} starts: {}", outcomes[id], reported.entry(id)["error"]));
        }
    }
    assert!(wrong.is_empty(), "{} instances:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(ledger.totals().repeated_starts, 0);
    assert!(ledger.instances.values().all(|seen| seen.starts.values().sum::<u32>() <= 1));

    let of = |fault| faults.iter().filter(move |(_, has)| *has == fault).map(|(id, _)| id);
    for id in of(Fault::EndlessOutput) {
        assert_eq!(reported.entry(id)["output_truncated"], true, "{id}");
    }
    let nothing_sent = [Fault::Dead, Fault::SilentAfterAccept];
    assert!(nothing_sent.into_iter().flat_map(of).all(|id| reported.entry(id)["may_run"] == false));
    let perhaps = [Fault::ResetsAfterRequest, Fault::ResetsInAnswer, Fault::HugeAnswer, Fault::AnswersHtml];
    assert!(perhaps.into_iter().flat_map(of).all(|id| reported.entry(id)["may_run"] == true));
    assert!(!reported.text.contains(['\u{1b}', '\u{9b}', '\u{7}']), "control characters are printed as they are");
    println!("{} kB at most, {:?}", reported.peak_kb, ledger.totals());
    assert!(reported.peak_kb <= MOST_KB, "{} kB", reported.peak_kb);
}

#[test]
fn a_seed_decides_all_outcomes() {
    bolt_tests::binaries();
    let outcomes = || {
        let directory = tempfile::tempdir().unwrap();
        let fleet = Fleet::start(Setup { instances: 80, ..setup() }, directory.path());
        run(&fleet, directory.path()).outcomes()
    };
    assert_eq!(outcomes(), outcomes());
}

#[test]
fn a_detached_run_of_a_large_fleet_is_listed_killed_and_waited_for() {
    bolt_tests::binaries();
    let directory = tempfile::tempdir().unwrap();
    let latency = Latency { median_ms: 600_000, tail_percent: 0, tail_ms: 0 };
    let fleet = Fleet::start(Setup { latency, ..Setup::healthy(200) }, directory.path());
    let bolt = fleet.bolt();
    let (code, started) = bolt.json(["run", ACTION, "--everywhere", "--at-once", "--detach"]);
    assert_eq!(code, 0, "{started}");
    let run = started["run"].as_str().unwrap();
    let states = |state: &str| {
        let (_, listed) = bolt.json(["ps", "--run", run, "--state", state, "--limit", "500"]);
        listed["executions"].as_array().unwrap().len()
    };
    assert_eq!((states("running"), states("killed")), (200, 0));
    let killed = bolt.run(["kill", "--run", run, "--yes"]);
    assert_eq!(killed.code, 0, "{killed:?}");
    // The run did not succeed.
    let waited = bolt.run(["wait", "--run", run]);
    assert_eq!(waited.code, 1, "{waited:?}");
    assert_eq!((states("running"), states("killed")), (0, 200));
    let totals = fleet.ledger().totals();
    assert_eq!((totals.starts, totals.repeated_starts), (200, 0));
}
