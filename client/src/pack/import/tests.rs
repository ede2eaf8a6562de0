//! Imports of small packs in the shapes that published ones have: `tests/fixtures/stackstorm`.

mod any_command;
mod computed;
mod executed;
mod hostile;
mod mutated;
mod names;
mod programs;
mod puppet;
mod rundeck;
mod silent;
mod sources;
mod ssm;
mod stackstorm;
mod stopped;
mod trials;
mod wheels;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::pack::lint;

/// The pack `shapes`.
fn shapes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/stackstorm/shapes")
}

/// Copies a directory, so that a test may change it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn verdicts(report: &Report) -> BTreeMap<Verdict, Vec<&str>> {
    let mut verdicts: BTreeMap<Verdict, Vec<&str>> = BTreeMap::new();
    for action in &report.actions {
        verdicts.entry(action.verdict()).or_default().push(&action.name);
    }
    verdicts
}

#[test]
fn every_action_has_a_verdict_and_the_pack_builds() {
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("pack");
    let report = import(&shapes(), &to).unwrap();
    let verdicts = verdicts(&report);
    assert_eq!(
        verdicts[&Verdict::CannotRun],
        [
            "cmd_filter",
            "cmd_statement",
            "duplicate_key",
            "http",
            "py2_lib",
            "py2_print",
            "py_missing",
            "py_no_class",
            "py_server",
            "sh_secret",
        ]
    );
    assert_eq!(
        verdicts[&Verdict::MadeSafer],
        [
            "cmd_any",
            "cmd_any_program",
            "cmd_arithmetic",
            "cmd_boolean",
            "cmd_computed",
            "cmd_condition",
            "cmd_eval",
            "cmd_filters",
            "cmd_loop",
            "cmd_number",
            "cmd_program",
            "cmd_raw",
            "cmd_sed",
            "cmd_single",
            "cmd_value",
            "cmd_words",
            "sh_env",
        ]
    );
    assert_eq!(verdicts[&Verdict::RarelyUseful], ["py_client"]);
    let linted = lint(&to).unwrap();
    assert!(linted.builds(), "{:?}", linted.findings);
    let unused: Vec<_> = linted.findings.iter().filter(|finding| finding.code == "unused_parameter").collect();
    assert!(unused.is_empty(), "{unused:?}");
    assert_eq!(report.version, "0.4.0");
}

#[test]
fn reasons_name_file_line_and_remedy() {
    let temp = tempfile::tempdir().unwrap();
    let report = import(&shapes(), &temp.path().join("pack")).unwrap();
    let why = |name: &str| {
        let action = report.actions.iter().find(|action| action.name == name).unwrap();
        action.deciding().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (name, words) in [
        ("py2_print", "actions/py2_print.yaml:5: actions/py2_print.py:6: Python 3 cannot read it"),
        ("py2_lib", "actions/lib/old.py:1: imports urlparse, a module of Python 2; port it"),
        ("py_server", "imports st2client.client, which needs StackStorm's server"),
        ("py_missing", "the entry point \"py_missing.py\" is not in the pack"),
        ("py_no_class", "has no class"),
        ("sh_secret", "/proc shows to every account"),
        ("cmd_any", "callers would give any command with cmd; the action is disabled"),
        ("cmd_any_program", "callers would choose any program with tool; the action is disabled"),
        ("cmd_eval", "bash would run the value of message as code; it may be letters, digits and _.:@%+,=/- now"),
        ("cmd_sed", "sed would run the value of message as code; it may be letters, digits and _.:@%+- now"),
        ("cmd_arithmetic", "arithmetic would run the value of count as code; it may be a number now"),
        ("cmd_filter", "the filter regex_replace"),
        ("cmd_statement", "the statement \"for\""),
        ("duplicate_key", "duplicate key \"name\""),
        ("http", "the runner http-request is not imported"),
        ("cmd_value", "callers could replace the whole command; it is fixed now"),
        ("cmd_value", "they are quoted variables of a script now"),
        ("sh_env", "the variable \"LD_PRELOAD\" is not set"),
        ("cmd_program", "tool, or options that run one; it is immutable now"),
    ] {
        assert!(why(name).contains(words), "{name}: {}", why(name));
    }
}

#[test]
fn what_is_no_part_of_a_pack_is_listed_and_the_licence_travels() {
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("pack");
    let report = import(&shapes(), &to).unwrap();
    let left: Vec<&str> = report.left_out.iter().map(|left| left.file.as_str()).collect();
    for file in [
        ".circleci",
        "aliases",
        "sensors",
        "triggers",
        "policies",
        "tests",
        "docs",
        "actions/workflows",
        "actions/chains",
        "actions/flow.yaml",
        "actions/chain.yaml",
        "actions/mistral.yaml",
    ] {
        assert!(left.contains(&file), "{file} is not in {left:?}");
        assert!(!to.join(file).exists(), "{file}");
    }
    assert_eq!(report.left_out.iter().filter(|left| left.why.contains("run in an orchestrator")).count(), 5);
    for file in ["LICENSE", "stackstorm/rules/full.yaml", "actions/lib/base.py", "lib/shapes_common.py"] {
        assert!(to.join(file).exists(), "{file}");
    }
    // Importing again changes nothing, and what exists is never written over.
    assert!(matches!(import(&shapes(), &to), Err(ImportError::Pack(PackError::Exists(_)))));
}

#[test]
fn a_collection_is_imported_whole_with_the_licence_above_its_packs() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("from"), temp.path().join("to"));
    for (name, reference) in [("packs/one", "one"), ("packs/two", "two"), ("packs/three", "../x")] {
        let actions = from.join(name).join("actions");
        fs::create_dir_all(&actions).unwrap();
        fs::write(from.join(name).join("pack.yaml"), format!("name: x\nref: {reference}\nversion: 1.0.0\n")).unwrap();
        let action = "name: a\nrunner_type: local-shell-cmd\nparameters: {cmd: {default: 'true', immutable: true}}\n";
        fs::write(actions.join("a.yaml"), action).unwrap();
    }
    fs::write(from.join("LICENSE"), "terms").unwrap();
    let sources = import_all(&from, &to, None).unwrap().sources;
    let failed: Vec<&PathBuf> = sources.iter().filter(|s| s.outcome.is_err()).map(|s| &s.directory).collect();
    assert_eq!(failed, [Path::new("packs/three")]);
    for pack in ["one", "two"] {
        assert_eq!(fs::read_to_string(to.join(pack).join("LICENSE")).unwrap(), "terms");
    }
    assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
}

#[test]
fn a_long_name_is_shortened_and_stays_unique() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("from"), temp.path().join("to"));
    fs::create_dir_all(from.join("actions")).unwrap();
    fs::write(from.join("pack.yaml"), "name: long\nversion: 1.0.0\n").unwrap();
    let long = "a".repeat(70);
    for name in [format!("{long}b"), format!("{long}c")] {
        let action = format!("name: {name}\nrunner_type: local-shell-cmd\nparameters: {{cmd: {{default: 'true'}}}}\n");
        fs::write(from.join(format!("actions/{name}.yaml")), action).unwrap();
    }
    let report = import(&from, &to).unwrap();
    let names: Vec<&str> = report.actions.iter().map(|action| action.name.as_str()).collect();
    assert!(names[0] != names[1] && names.iter().all(|name| name.len() <= 64), "{names:?}");
}

#[test]
fn a_source_without_actions_and_a_missing_directory_are_told_with_a_remedy() {
    let temp = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        fs::create_dir_all(temp.path().join(file).parent().unwrap()).unwrap();
        fs::write(temp.path().join(file), text).unwrap();
    };
    write("st2/pack.yaml", "name: x\nversion: 1.0.0\n");
    write("st2/actions/readme.txt", "x");
    write("ssm/a.yaml", "schemaVersion: '0.3'\nmainSteps: []\n");
    write("ssm/new.json", "{\"schemaVersion\": \"9.9\", \"mainSteps\": []}");
    write("jobs/a.yaml", "- name: a\n  description: without a sequence of commands\n");
    let said = |name: &str| import(&temp.path().join(name), &temp.path().join("to")).unwrap_err().to_string();
    for (name, words) in [
        ("st2", "no file in actions/ describes an action"),
        ("ssm", "no document is a Command document of schema version 1.2, 2.0 or 2.2\n"),
        ("ssm", "\n  a.yaml: not imported: an Automation document"),
        ("ssm/new.json", "no document is a Command document"),
        ("jobs", "no job has steps"),
    ] {
        assert!(said(name).contains("so nothing is written:\n"), "{name}: {}", said(name));
        assert!(said(name).contains(words), "{name}: {}", said(name));
    }
    let error = import(&shapes(), &temp.path().join("no/where/x")).unwrap_err().to_string();
    assert!(error.contains("no/where; make it first, or choose another place"), "{error}");
    assert!(!temp.path().join("no").exists());
    // A file that is too large to be a document is named, also where nothing else is found.
    fs::create_dir(temp.path().join("large")).unwrap();
    fs::File::create(temp.path().join("large/x.xml")).unwrap().set_len(300_000).unwrap();
    let error = import_all(&temp.path().join("large"), &temp.path().join("to"), None).unwrap_err().to_string();
    assert!(error.contains("not looked at: x.xml (it has 300000 bytes"), "{error}");
    write("large/a.yaml", "- name: a\n  sequence: {commands: [{exec: echo}]}\n");
    let report = import(&temp.path().join("large"), &temp.path().join("pack")).unwrap();
    assert_eq!(report.left_out.iter().map(|left| left.file.as_str()).collect::<Vec<_>>(), ["x.xml"]);
}
