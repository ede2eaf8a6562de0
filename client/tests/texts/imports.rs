//! Reports of `bolt pack import`: every finding about the sources that tests import, by code, file, line and words, the table of
//! a collection, and the same as JSON.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::session::session;

/// Copies a directory of `tests/fixtures` into the home directory.
fn copy(source: &str, home: &Path, name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(source);
    let copied = Command::new("cp").arg("-r").arg(source).arg(home.join(name)).status().unwrap();
    assert!(copied.success());
}

/// Imports a source of `tests/fixtures` and returns the report, without what Python says of a source that it cannot read: each
/// version has words of its own.
fn report(source: &str) -> String {
    const PYTHON: &str = "Python 3 cannot read it (";
    let home = tempfile::tempdir().unwrap();
    copy(source, home.path(), "source");
    let line = |line: &str| match line.split_once(PYTHON) {
        Some((before, after)) => {
            let rest = after.rsplit_once("); ").map_or("", |(_, rest)| rest);
            format!("{before}{PYTHON}…); {rest}\n")
        }
        None => format!("{line}\n"),
    };
    session(home.path(), &["bolt pack import source --to pack"]).lines().map(line).collect()
}

/// True if the command finds Python, whose view of scripts is in reports; otherwise prints that the test is skipped.
fn has_python(test: &str) -> bool {
    let found = Path::new("/usr/bin/python3").exists();
    if !found {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: there is no /usr/bin/python3");
    }
    found
}

#[test]
fn a_pack_of_stackstorm() {
    if has_python("a_pack_of_stackstorm") {
        insta::assert_snapshot!(report("stackstorm/shapes"));
    }
}

#[test]
fn a_module_of_puppet() {
    if has_python("a_module_of_puppet") {
        insta::assert_snapshot!(report("puppet/modules/shapes"));
    }
}

#[test]
fn documents_of_systems_manager() {
    insta::assert_snapshot!(report("ssm/shapes"));
}

#[test]
fn jobs_of_rundeck() {
    insta::assert_snapshot!(report("rundeck/shapes"));
}

/// Imports a collection with a source of each kind: importable, without an action that can run, unreadable, too large.
#[test]
fn a_collection() {
    let home = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = home.path().join("collection").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let document = |step: &str| format!("schemaVersion: '2.2'\nmainSteps:\n- action: {step}\n  name: one\n");
    let script = document("aws:runShellScript").replace("one\n", "one\n  inputs: {runCommand: ['uptime']}\n");
    write("good/uptime.yaml", &script);
    write("good/LICENSE", "Licence\n");
    write("windows/script.yaml", &document("aws:runPowerShellScript"));
    write("pack/pack.yaml", "name: small\nversion: 1.0.0\n");
    let rule = "name: hello\nrunner_type: local-shell-cmd\nparameters: {cmd: {default: echo hello}}\n";
    write("pack/actions/hello.yaml", rule);
    write("pack/rules/on_boot.yaml", "name: on_boot\n");
    write("broken/pack.yaml", "name: [\n");
    write("broken/actions/hello.yaml", rule);
    write("large/notes.yaml", "x");
    fs::File::options()
        .append(true)
        .open(home.path().join("collection/large/notes.yaml"))
        .unwrap()
        .set_len(9 << 20)
        .unwrap();
    let lines = [
        "bolt pack import --all collection --to packs",
        "bolt pack import --all collection --to others --json",
        "bolt pack import collection/windows --to none",
        "bolt pack import --all collection --to packs",
    ];
    insta::assert_snapshot!(session(home.path(), &lines));
    assert!(!home.path().join("none").exists() && !home.path().join("packs/script").exists());
}
