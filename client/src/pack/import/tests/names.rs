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
