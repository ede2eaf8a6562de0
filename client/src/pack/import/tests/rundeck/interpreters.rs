//! Steps with an interpreter of their own: what they run, as whom, and which are refused.

use serde_json::{Value, json};

use super::super::executed::said;
use super::super::*;
use super::{jobs, run_action, stderr, stdout};

/// Imports jobs of YAML as a pack.
pub(super) fn imported(text: &str) -> (tempfile::TempDir, Report) {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("from")).unwrap();
    fs::write(temp.path().join("from/jobs.yaml"), text).unwrap();
    fs::write(temp.path().join("from/tool.sh"), "curl -u x:$RD_OPTION_PASS y\n").unwrap();
    let report = match import(&temp.path().join("from"), &temp.path().join("pack")) {
        Ok(report) => report,
        Err(ImportError::NothingRuns { report, .. }) => *report,
        Err(error) => panic!("{error}"),
    };
    (temp, report)
}

/// A job `x` with an option `text` and one step.
fn job(step: &str) -> String {
    format!("- name: x\n  options: [{{name: text, value: a b}}]\n  sequence: {{commands: [{{{step}}}]}}\n")
}

pub(super) fn findings(report: &Report) -> String {
    report.actions[0].findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

const PYTHON: &str = r#""import os, sys\nprint(sys.argv[1:], os.environ['RD_OPTION_TEXT'], os.environ.get('A'))""#;
const SHELL: &str = r##""echo $# \"$1\" \"$2\" \"$RD_OPTION_TEXT\" \"$A\"""##;

#[test]
fn steps_are_run_by_their_interpreters_with_values_in_the_environment() {
    for (script, interpreter, more) in [
        (PYTHON, "python3", "args: '1 ${option.text}'"),
        (PYTHON, "/usr/bin/env python3 -B", "args: '${option.text} x'"),
        (PYTHON, "env A=b nice -n 5 python3", "args: x"),
        (SHELL, "env A=b bash -eu", "args: 'x ${option.text}'"),
        (SHELL, "bash -c", "args: 'x \"y z\"', interpreterArgsQuoted: true"),
        (SHELL, "sudo -n -E bash", "args: 'x ${option.text}'"),
    ] {
        let text = job(&format!("script: {script}, scriptInterpreter: '{interpreter}', {more}"));
        let (temp, report) = imported(&text);
        assert_ne!(report.actions[0].verdict(), Verdict::CannotRun, "{interpreter}: {}", findings(&report));
        let all: Vec<Value> = packs_schema::base::document::yaml::parse(&text.replace("sudo -n -E ", "")).unwrap();
        let Some(outcome) = run_action(&temp.path().join("pack"), "x", &["text=c d"]) else { return };
        let asked = json!({"job": all[0], "options": {"text": "c d"}, "directory": "/"});
        let wanted = said(&jobs().parent().unwrap().join("reference.py"), &asked, None);
        let told = format!("{interpreter}: {outcome:?} {}", stderr(&outcome));
        assert_eq!(stdout(&outcome), wanted["stdout"].as_str().unwrap(), "{told}");
        assert!(stdout(&outcome).contains("c d"), "{told}");
    }
    // Rundeck's node splits a value here; it is one argument of the script, whatever it holds.
    let text = job(&format!(
        "script: {SHELL}, scriptInterpreter: bash -c, args: 'x ${{option.text}}', interpreterArgsQuoted: true"
    ));
    let (temp, _) = imported(&text);
    let Some(outcome) = run_action(&temp.path().join("pack"), "x", &["text=c'; echo hurt; '"]) else { return };
    assert_eq!(stdout(&outcome), "2 x c'; echo hurt; ' c'; echo hurt; ' \n", "{}", stderr(&outcome));
}

#[test]
fn a_script_for_another_interpreter_keeps_its_text() {
    for interpreter in ["perl -w", "ruby", "node", "/opt/x/python", "/usr/bin/env python3", "bash -e", "awk -f"] {
        let (temp, report) = imported(&job(&format!("script: 'exit', scriptInterpreter: '{interpreter}'")));
        let script = fs::read_to_string(temp.path().join("pack/actions/bolt_steps/scripts/x/1_step1")).unwrap();
        assert_eq!(script, "exit\n", "{interpreter}: {}", findings(&report));
        let registry = fs::read_to_string(temp.path().join("pack/actions/bolt_steps/steps.json")).unwrap();
        let registry: Value = serde_json::from_str(&registry).unwrap();
        let words: Vec<&str> = interpreter.split(' ').collect();
        assert_eq!(registry["actions"]["x"]["steps"][0]["interpreter"], json!(words));
    }
}

#[test]
fn places_and_values_that_an_interpreter_would_read_are_refused_by_name() {
    for (step, words) in [
        ("script: 'print(\"@option.text@\")', scriptInterpreter: python3", "put into the text of a python3 program"),
        ("script: 'print(\"@option.text@\")', scriptInterpreter: env ruby", "put into the text of a ruby program"),
        ("script: 'print ${option.text}', scriptInterpreter: /opt/x/perl", "put into the text of a perl program"),
        ("script: 'x', scriptInterpreter: '${option.text}'", "callers would choose the program"),
        ("script: 'x', scriptInterpreter: psql -f, args: '${option.text}'", "gives the value of text to psql -f"),
        ("script: 'x', scriptInterpreter: bash -c, args: '${option.text}'", "gives the value of text to bash -c"),
        ("script: 'echo $RD_OPTION_TEXT', scriptInterpreter: flock /tmp/x", "and flock is none"),
        ("script: \"#!/bin/bash\\neval $RD_OPTION_TEXT\", scriptInterpreter: perl", "perl is to run a script whose"),
        ("script: \"#!/usr/bin/env -i bash\\necho\"", "starts it without its environment"),
        ("script: \"#!/usr/bin/env -S -u X bash\\necho\"", "starts it without its environment"),
        ("script: \"#!/usr/bin/sudo bash\\necho\"", "starts it without its environment"),
        ("script: 'x', scriptInterpreter: env -i bash", "step 1 is not run by \"env -i bash\": env -i clears"),
        ("script: 'x', scriptInterpreter: su - app -c, interpreterArgsQuoted: true", "do not reach it behind su"),
        ("script: 'x', scriptInterpreter: sudo -u app, interpreterArgsQuoted: true", "only a shell with -c"),
    ] {
        let (temp, report) = imported(&job(step));
        assert_eq!(report.actions[0].verdict(), Verdict::CannotRun, "{step}: {}", findings(&report));
        assert!(findings(&report).contains(words), "{step}: {}", findings(&report));
        assert!(!temp.path().join("pack").exists());
    }
}

#[test]
fn sudo_becomes_the_account_of_the_action() {
    let file = |temp: &tempfile::TempDir| fs::read_to_string(temp.path().join("pack/actions/x.yaml")).unwrap();
    let (temp, report) = imported(&job("script: 'echo', scriptInterpreter: sudo -u app bash"));
    assert!(file(&temp).contains("run_as: app"), "{}", file(&temp));
    assert!(findings(&report).contains("runs as app, as with sudo in Rundeck"), "{}", findings(&report));
    let (temp, report) = imported(&job("script: 'echo', scriptInterpreter: sudo"));
    assert!(file(&temp).contains("run_as: root"), "{}", file(&temp));
    assert!(findings(&report).contains("[runs_as_root]"), "{}", findings(&report));
    for other in ["{exec: echo}", "{script: echo, scriptInterpreter: sudo -u app bash}"] {
        let handled = format!("script: echo, scriptInterpreter: sudo bash, errorhandler: {other}");
        let apart = format!("script: echo, scriptInterpreter: sudo bash}}, {}", &other[..other.len() - 1]);
        for step in [handled, apart] {
            let (temp, report) = imported(&job(&step));
            assert!(findings(&report).contains("an action has one account"), "{step}: {}", findings(&report));
            assert!(!temp.path().join("pack").exists());
        }
    }
}

#[test]
fn values_in_arguments_that_a_script_would_run_are_refused() {
    let step = |script: &str| job(&format!("script: {script}, args: 'a ${{option.text}}'"));
    let (_temp, report) = imported(&step(r#""eval \"$2\"""#));
    assert!(findings(&report).contains("text names a program, by an argument of the script"), "{}", findings(&report));
    assert_eq!(report.actions[0].verdict(), Verdict::CannotRun);
    let (_temp, report) = imported(&step(r#""grep \"$1\" x\necho \"$2\"""#));
    assert_ne!(report.actions[0].verdict(), Verdict::CannotRun, "{}", findings(&report));
}
