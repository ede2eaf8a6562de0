//! Imported actions that are stopped while a step runs: no further script starts.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// Runs the action `s` of the imported pack, ends it as a time-out does when its first step says so, and returns what it
/// printed after that, and its exit status.
fn stopped(file: &str, text: &str) -> (String, Option<i32>) {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("from")).unwrap();
    fs::write(temp.path().join("from").join(file), text).unwrap();
    import(&temp.path().join("from"), &temp.path().join("pack")).unwrap();
    fs::write(temp.path().join("parameters"), "{}").unwrap();
    let mut child = Command::new("python3")
        .arg(temp.path().join("pack/actions/bolt_steps/run_steps.py"))
        .env("BOLT_ACTION", "p.s")
        .stdin(fs::File::open(temp.path().join("parameters")).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut printed = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    printed.read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    printed.read_to_string(&mut rest).unwrap();
    (rest, child.wait().unwrap().code())
}

/// Steps that end by the signal, and steps that handle it and succeed, fail or stop the document.
const FIRST: [&str; 4] = [
    "echo started; exec sleep 600",
    "trap 'exit 0' TERM; echo started; while :; do :; done",
    "trap 'exit 3' TERM; echo started; while :; do :; done",
    "trap 'exit 168' TERM; echo started; while :; do :; done",
];

#[test]
fn no_step_of_a_document_starts_after_a_stop() {
    for first in FIRST {
        let text = format!(
            "schemaVersion: '2.2'\nmainSteps:\n\
             - {{action: 'aws:runShellScript', name: one, inputs: {{runCommand: [\"{first}\"]}}}}\n\
             - {{action: 'aws:runShellScript', name: two, inputs: {{runCommand: [echo two]}}}}\n\
             - {{action: 'aws:runShellScript', name: last, inputs: {{runCommand: [echo last], finallyStep: true}}}}\n"
        );
        assert_eq!(stopped("s.yaml", &text), (String::new(), Some(143)), "{first}");
    }
}

#[test]
fn no_step_and_no_handler_of_a_job_starts_after_a_stop() {
    for first in FIRST {
        for keepgoing in [true, false] {
            let text = format!(
                "- name: s\n  sequence:\n    keepgoing: {keepgoing}\n    commands:\n    \
                 - {{script: \"{first}\", errorhandler: {{exec: echo handler, keepgoingOnSuccess: true}}}}\n    \
                 - exec: echo two\n"
            );
            assert_eq!(stopped("jobs.yaml", &text), (String::new(), Some(143)), "{first}");
        }
    }
}
