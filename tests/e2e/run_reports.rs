//! Results of a run over many instances: a report of about a screen, files, CSV, and events for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Stdio;

use bolt_tests::fleet::{ACTION, Fleet, Latency, Setup};
use bolt_tests::{Bolt, CommandOutput};
use serde_json::Value;

fn fleet(instances: u32, faulty_percent: u32) -> (Fleet, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let latency = Latency { median_ms: 20, tail_percent: 0, tail_ms: 0 };
    (Fleet::start(Setup { faulty_percent, latency, seed: 5, ..Setup::healthy(instances) }, directory.path()), directory)
}

fn run(bolt: &Bolt, more: &[&str]) -> CommandOutput {
    bolt.run(["run", ACTION, "--everywhere", "--at-once", "--max-failures", "100%"].iter().chain(more))
}

fn read_index(directory: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(directory.join("index.json")).unwrap()).unwrap()
}

#[test]
fn hundreds_of_different_outputs_are_about_a_screen_and_one_group_when_normalized() {
    let directory = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(Setup { distinct: true, ..Setup::healthy(300) }, directory.path());
    let bolt = fleet.bolt();
    let said = run(&bolt, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.lines().count() <= 60, "{}", said.stdout);
    assert!(
        said.stdout.contains(" more groups of ") && said.stdout.contains("-- --normalize would make 1 of 300 groups"),
        "{}",
        said.stdout
    );
    let normal = run(&bolt, &["--normalize"]).stdout;
    assert!(
        normal.starts_with("-- 300 instances succeeded: i-00000, ")
            && normal.contains("\n[of i-00000; the others differ"),
        "{normal}"
    );
    assert!(normal.lines().count() < 8, "{normal}");
    let all = run(&bolt, &["--lines", "all"]).stdout;
    assert!(!all.contains("more group"), "{all}");
}

#[test]
fn each_instance_has_files_and_an_entry_of_the_index() {
    let (fleet, directory) = fleet(60, 40);
    let bolt = fleet.bolt();
    let files = directory.path().join("files");
    let files_arg = files.to_str().unwrap();
    let said = run(&bolt, &["--output-dir", files_arg, "--run-id", "r-files"]);
    assert_eq!(said.code, 1, "{said:?}");
    let index = read_index(&files);
    assert_eq!((index["run"].as_str(), index["complete"].as_bool()), (Some("r-files"), Some(true)));
    let entries = index["instances"].as_array().unwrap();
    assert_eq!(entries.len(), 60);
    let mut named = BTreeSet::from(["index.json".to_owned()]);
    for entry in entries {
        let of_entry = entry["files"].as_object().into_iter().flat_map(|files| files.values());
        named.extend(of_entry.map(|file| file.as_str().unwrap().to_owned()));
    }
    let there: BTreeSet<String> =
        std::fs::read_dir(&files).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, named);
    let healthy = entries.iter().find(|entry| entry["state"] == "succeeded").unwrap();
    let text = std::fs::read_to_string(files.join(healthy["files"]["stdout"].as_str().unwrap())).unwrap();
    assert!(text.starts_with("load: "), "{text}");

    // Another run is refused; with --force, a link in the place of a file is replaced and not followed.
    let refused = run(&bolt, &["--output-dir", files_arg]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("is not empty, and has no output of run r-") && refused.stderr.contains("--force"),
        "{refused:?}"
    );
    let (id, outside) = (healthy["instance"].as_str().unwrap(), directory.path().join("outside"));
    let link = files.join(format!("{id}.stdout"));
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    run(&bolt, &["--output-dir", files_arg, "--force"]);
    assert!(!outside.exists() && link.symlink_metadata().unwrap().is_file());
    // The same run goes on in it, and keeps what is there.
    let resumed = bolt.run(["resume", read_index(&files)["run"].as_str().unwrap(), "--output-dir", files_arg]);
    assert_eq!(resumed.code, 1, "{resumed:?}");
    assert_eq!(read_index(&files)["instances"].as_array().unwrap().len(), 60);
}

#[test]
fn a_file_that_cannot_be_written_is_said_once_and_the_run_goes_on() {
    let (fleet, directory) = fleet(5, 0);
    let files = directory.path().join("files");
    for id in ["i-00001", "i-00003"] {
        std::fs::create_dir_all(files.join(format!("{id}.stdout/in-the-way"))).unwrap();
    }
    let said = run(&fleet.bolt(), &["--output-dir", files.to_str().unwrap(), "--force"]);
    assert_eq!(said.code, 5, "{said:?}");
    assert_eq!(said.stderr.matches("bolt: cannot write ").count(), 1, "{said:?}");
    assert!(said.stderr.contains("bolt: 2 files of the run could not be written to "), "{said:?}");
    assert!(said.stdout.contains("-- 5 instances in "), "{said:?}");
    let missing = read_index(&files)["instances"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["files"]["stdout"].is_null())
        .count();
    assert_eq!(missing, 2);
    assert!(
        std::fs::read_dir(&files).unwrap().all(|file| !file.unwrap().file_name().to_str().unwrap().starts_with('.'))
    );
}

#[test]
fn results_are_csv_with_a_row_for_each_instance() {
    let (fleet, _directory) = fleet(20, 30);
    let said = run(&fleet.bolt(), &["--result=csv"]);
    let rows: Vec<&str> = said.stdout.lines().collect();
    assert!(rows[0].starts_with("instance,state"), "{said:?}");
    assert_eq!(rows.len(), 21, "the summary is not among the rows: {said:?}");
    assert!(said.stderr.contains("-- 20 instances in "), "{said:?}");
    let wrong = run(&fleet.bolt(), &["--result=json", "--select", ".a"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

/// Names of the fields of each event, besides `event` and `time`, as client/README.md lists them.
fn documented() -> BTreeMap<String, String> {
    let paper = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/README.md")).unwrap();
    let (_, table) = paper.split_once("### Events").unwrap();
    let mut events = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let (names, fields) = row.trim_start_matches("| ").split_once(" | ").unwrap();
        events.extend(names.split(", ").map(|name| (name.trim_matches('`').to_owned(), fields.to_owned())));
    }
    events
}

#[test]
fn events_are_lines_of_json_and_every_one_is_documented() {
    let (fleet, _directory) = fleet(40, 40);
    let (bolt, documented) = (fleet.bolt(), documented());
    let order = ["run", ACTION, "--everywhere", "--batch", "20", "--max-failures", "3", "--pause", "10ms", "--ndjson"];
    let said = bolt.run(order);
    let events: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((named("run_started"), named("report"), named("budget_exceeded")), (1, 1, 1), "{said:?}");
    assert_eq!(named("starting"), named("ended"));
    assert_eq!(events.last().unwrap()["event"], "report");
    for event in &events {
        let (name, fields) = (event["event"].as_str().unwrap(), event.as_object().unwrap());
        let known = documented.get(name).unwrap_or_else(|| panic!("{name} is not documented"));
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
        // The fields of `ended` and `report` are those of `--json`.
        if !matches!(name, "ended" | "report") {
            let of_all = ["event", "time"];
            let unknown: Vec<&String> = fields
                .keys()
                .filter(|field| !of_all.contains(&field.as_str()) && !known.contains(&format!("`{field}`")))
                .collect();
            assert!(unknown.is_empty(), "{name}: {unknown:?}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_stops_events_with_a_word_and_leaves_other_runs_alone() {
    let (fleet, _directory) = fleet(30, 0);
    let bolt = fleet.bolt();
    // Progress lines without a reader: the run ends all the same.
    let mut command = bolt.command(["run", ACTION, "--everywhere"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let mut report = String::new();
    child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert_eq!((child.wait().unwrap().code(), report.contains("-- 30 instances in ")), (Some(0), true), "{report}");

    let before = fleet.ledger().totals().starts;
    let mut command = bolt.command(["run", ACTION, "--everywhere", "--ndjson"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"ended\"")));
    drop(lines);
    let output = CommandOutput::from(child.wait_with_output().unwrap());
    assert!(output.stderr.contains("bolt: standard output is closed: no further instance starts"), "{output:?}");
    assert!(fleet.ledger().totals().starts - before < 30, "the run has stopped");
}
