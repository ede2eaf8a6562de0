//! Names of a source that meet, and names that are no text.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::stackstorm::{Pack, command, script};
use super::*;

#[test]
fn names_that_meet_block_the_second_action_and_name_both() {
    let pack = Pack::new(&[
        ("actions/A.yaml", &command("Check", "'echo one'", "")),
        ("actions/b.yaml", &command("check", "'echo two'", "")),
        ("actions/c.yaml", &command("x.y", "'echo one'", "")),
        ("actions/d.yaml", &command("x_y", "'echo two'", "")),
        ("actions/upper.yaml", &script("Run", "  x: {}\n")),
        ("actions/Run.sh", "#!/bin/sh\n"),
        ("actions/lower.yaml", &script("run_it", "  x: {}\n").replace("run_it.sh", "run.sh")),
        ("actions/run.sh", "#!/bin/sh\n"),
    ]);
    let report = pack.import().unwrap();
    for (file, words) in [
        (
            "actions/b.yaml",
            "the action Check of actions/A.yaml and the action check of actions/b.yaml would have one name",
        ),
        ("actions/d.yaml", "the action x_y of actions/c.yaml and the action x_y of actions/d.yaml would have one name"),
        ("actions/lower.yaml", "the entry point actions/run.sh differs from actions/Run.sh in case only"),
    ] {
        let action = report.actions.iter().find(|action| action.file == file).unwrap();
        let said = action.deciding().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert_eq!(action.verdict(), Verdict::CannotRun, "{file}: {said}");
        assert!(said.contains(words), "{file}: {said}");
    }
    let at = |path: &str| pack.temp.path().join("pack").join(path);
    assert!(at("actions/Check.yaml").exists() && !at("actions/check.yaml").exists());
    let text = fs::read_to_string(at("actions/bolt_st2/commands/x_y.sh")).unwrap();
    assert!(text.ends_with("echo one\n"), "{text}");
}

/// Writes these files in a new directory, and imports it.
fn imported(files: &[(String, String)]) -> (tempfile::TempDir, Report) {
    let temp = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = temp.path().join("from").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let report = import(&temp.path().join("from"), &temp.path().join("pack")).unwrap();
    (temp, report)
}

/// Names that no shell and no file system likes, and that say nothing about a job.
const HOSTILE: [&str; 12] = [
    "$x.yaml",
    "$(id).yaml",
    "-rf.yaml",
    "{{ x }}.yaml",
    "a;b.yaml",
    "a b.yaml",
    "é.yaml",
    "x..y.yaml",
    "\n.yaml",
    "%2e.yml",
    "$x.yml",
    "$x.json",
];

#[test]
fn any_number_of_jobs_of_one_name_are_imported_whatever_their_files_are_called() {
    let job = "- {name: Check, sequence: {commands: [{exec: echo one}]}}\n";
    let grouped = "- {name: Check, group: $x/../-g, sequence: {commands: [{exec: echo two}]}}\n";
    let json = "[{\"name\": \"Check\",\n\"sequence\": {\"commands\": [{\"exec\": \"echo three\"}]}}]";
    let text = |path: &str| if path.ends_with(".json") { json.to_owned() } else { format!("{job}{grouped}{job}") };
    let mut files: Vec<(String, String)> = HOSTILE.iter().map(|path| ((*path).to_owned(), text(path))).collect();
    files.extend(HOSTILE.iter().map(|path| (format!("$d/{path}"), text(path))));
    let (temp, report) = imported(&files);
    files.reverse();
    assert_eq!(imported(&files).1, report, "in whatever order the files were made");
    assert_eq!(report.actions.len(), 2 * (11 * 3 + 1));
    let names: std::collections::BTreeSet<&str> = report.actions.iter().map(|action| action.name.as_str()).collect();
    assert_eq!(names.len(), report.actions.len(), "{names:?}");
    for action in &report.actions {
        let said = action.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert_ne!(action.verdict(), Verdict::CannotRun, "{}: {said}", action.name);
        assert_eq!(
            said.contains("[renamed]"),
            !["Check", "x_g_Check"].contains(&&*action.name),
            "{}: {said}",
            action.name
        );
    }
    assert!(["Check_yaml", "Check_id", "Check_2"].iter().all(|name| names.contains(name)), "{names:?}");
    assert!(lint(&temp.path().join("pack")).unwrap().builds());
}

#[test]
fn a_file_that_cannot_be_read_takes_no_name_of_a_job() {
    let job = "- {name: Check, sequence: {commands: [{exec: echo one}]}}\n".to_owned();
    let broken = format!("{job}  x: [\n");
    let files = ["$.yaml", "Check.yml", "a/$.yml", "a/Check.yml"].map(|path| (path.to_owned(), broken.clone()));
    let (_temp, report) = imported(&[&files[..], &[("b.yaml".to_owned(), job)]].concat());
    let names: Vec<&str> = report.actions.iter().map(|action| action.name.as_str()).collect();
    assert_eq!(names, ["unreadable", "Check", "unreadable_yml", "Check_yml", "Check_yaml"]);
    assert_ne!(report.actions[4].verdict(), Verdict::CannotRun);
    assert!(report.actions[..4].iter().all(|action| action.findings.len() == 1), "{:?}", report.actions);
}

#[test]
fn documents_below_directories_of_any_name_are_imported() {
    let document =
        "schemaVersion: '2.2'\nmainSteps:\n- {action: 'aws:runShellScript', name: a, inputs: {runCommand: [id]}}\n";
    let mut files: Vec<(String, String)> =
        HOSTILE.iter().map(|name| (format!("{name}/Check.yaml"), document.to_owned())).collect();
    let (temp, report) = imported(&files);
    files.reverse();
    assert_eq!(imported(&files).1, report, "in whatever order the files were made");
    assert_eq!(verdicts(&report)[&Verdict::RunsUnchanged].len(), HOSTILE.len());
    assert!(lint(&temp.path().join("pack")).unwrap().builds());
}

#[test]
fn no_name_of_a_file_becomes_a_line_of_the_pack() {
    let job = "- {name: Check, sequence: {commands: [{exec: echo one}]}}\n";
    let (temp, _) = imported(&[("x\nenabled: false\n.yaml".to_owned(), job.to_owned())]);
    let text = fs::read_to_string(temp.path().join("pack/actions/Check.yaml")).unwrap();
    assert!(text.starts_with("# Imported from Rundeck: x\u{fffd}enabled: false\u{fffd}.yaml\nname: Check\n"), "{text}");
}

#[test]
fn two_sources_of_one_pack_are_named() {
    let pack = Pack::new(&[]);
    let root = pack.temp.path().join("all");
    for (directory, name) in [("one", "Same"), ("two", "same"), ("three", "other")] {
        copy(&pack.at(""), &root.join(directory));
        fs::write(root.join(directory).join("pack.yaml"), format!("name: {name}\nversion: 1.0.0\n")).unwrap();
    }
    let sources = import_all(&root, &pack.temp.path().join("to"), None).unwrap().sources;
    let failed: Vec<String> = sources.iter().filter_map(|one| Some(one.outcome.as_ref().err()?.to_string())).collect();
    assert_eq!(failed, ["two of the source is refused: it and one would both be the pack same; rename one of them"]);
}

#[test]
fn a_name_that_is_not_utf8_is_named() {
    let pack = Pack::new(&[]);
    fs::write(pack.at("actions").join(OsStr::from_bytes(b"caf\xe9\x1b[1m.sh")), "x").unwrap();
    let said = pack.import().unwrap_err().to_string();
    assert_eq!(
        said, "actions/caf\\xe9\\x1b[1m.sh of the source is refused: its name is not UTF-8; rename it",
        "escaped, and with its directory"
    );
    let document = pack.temp.path().join(OsStr::from_bytes(b"job\xff.yaml"));
    fs::write(&document, "- name: x\n").unwrap();
    let said = import(&document, &pack.temp.path().join("other")).unwrap_err().to_string();
    assert!(said.starts_with("job\\xff.yaml of the source is refused"), "{said}");
}
