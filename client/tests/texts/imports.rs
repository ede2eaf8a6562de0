//! Reports of `bolt pack import`: every finding about the sources that tests import, by code, file, line and words, the table of
//! a collection, and the same as JSON.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::errors::session;

/// Copies a directory of `tests/fixtures` into the home directory.
fn copy(source: &str, home: &Path, name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(source);
    let copied = Command::new("cp").arg("-r").arg(source).arg(home.join(name)).status().unwrap();
    assert!(copied.success());
}

/// Imports a source of `tests/fixtures` and returns the report.
fn report(source: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    copy(source, home.path(), "source");
    session(home.path(), &["bolt pack import source --to pack"])
}

#[test]
fn a_pack_of_stackstorm() {
    insta::assert_snapshot!(report("stackstorm/shapes"));
}

#[test]
fn a_module_of_puppet() {
    insta::assert_snapshot!(report("puppet/modules/shapes"));
}

#[test]
fn documents_of_systems_manager() {
    insta::assert_snapshot!(report("ssm/shapes"));
}

#[test]
fn jobs_of_rundeck() {
    insta::assert_snapshot!(report("rundeck/shapes"));
}

/// One source of each kind that a collection may have: imported, without an action that can run, and unreadable.
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
