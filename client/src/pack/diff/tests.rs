use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::pack;

const ACTION: &str = "name: clean\ndescription: Removes old files\nrunner_type: local-shell-script\nentry_point: clean.sh\n\
parameters:\n  days: {type: integer, default: 7}\n  path: {type: string, required: true}\n\
bolt: {class: diagnostic, timeout: 1m}\n";

/// Writes a pack with one action.
fn source(parent: &Path, name: &str, version: &str, action: &str, script: &str) -> PathBuf {
    let dir = parent.join(name);
    fs::create_dir_all(dir.join("actions")).unwrap();
    let pack = format!(
        "ref: demo\nname: demo\nversion: {version}\ndescription: A demo\nauthor: A\nemail: a@example.org\nkeywords: []\n"
    );
    fs::write(dir.join("pack.yaml"), pack).unwrap();
    fs::write(dir.join("actions/clean.yaml"), action).unwrap();
    let path = dir.join("actions/clean.sh");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

fn side(directory: &Path) -> Side {
    let built = pack::build(directory).unwrap();
    Side { label: built.pack.version.to_string(), archive: built.archive }
}

#[test]
fn actions_differ_in_words_and_scripts_line_by_line() {
    let temp = tempfile::tempdir().unwrap();
    let old = source(temp.path(), "old", "1.0.0", ACTION, "#!/bin/sh\necho one\n");
    let changed = ACTION
        .replace("default: 7", "default: 14")
        .replace("  path: {type: string, required: true}\n", "  keep: {type: boolean, required: true}\n")
        .replace("class: diagnostic, timeout: 1m", "class: remediation, timeout: 5m, limits: {memory: 1GiB}");
    let new = source(temp.path(), "new", "1.1.0", &changed, "#!/bin/sh\necho two\n");
    fs::write(new.join("notes.bin"), [0, 159, 146]).unwrap();
    let diff = diff(&side(&old), &side(&new)).unwrap();
    assert_eq!((diff.from.unwrap().to_string(), diff.to.unwrap().to_string()), ("1.0.0".into(), "1.1.0".into()));
    let [action] = &diff.actions[..] else { panic!("{:?}", diff.actions) };
    assert_eq!((action.action.as_str(), action.change), ("clean", Change::Changed));
    for line in [
        "class: diagnostic -> remediation",
        "parameter days: default: 7 -> 14",
        "parameter keep added (boolean, required)",
        "parameter path removed",
    ] {
        assert!(action.changes.iter().any(|change| change == line), "{line}: {:?}", action.changes);
    }
    assert!(action.changes.iter().any(|change| change.starts_with("limits.memory: ")), "{:?}", action.changes);
    assert!(action.changes.iter().any(|change| change.starts_with("timeout: ")), "{:?}", action.changes);
    let paths: Vec<(&str, Change)> = diff.files.iter().map(|file| (file.path.as_str(), file.change)).collect();
    assert_eq!(
        paths,
        [
            ("actions/clean.sh", Change::Changed),
            ("actions/clean.yaml", Change::Changed),
            ("notes.bin", Change::Added),
            ("pack.yaml", Change::Changed),
        ]
    );
    let script = diff.files[0].diff.as_ref().unwrap();
    assert!(script.contains("-echo one\n+echo two\n") && script.contains("actions/clean.sh  1.0.0"), "{script}");
    assert_eq!(diff.files[2].diff, None, "it is not text");
}

#[test]
fn the_same_files_do_not_differ_and_a_new_or_removed_action_does() {
    let temp = tempfile::tempdir().unwrap();
    let old = source(temp.path(), "old", "1.0.0", ACTION, "#!/bin/sh\n");
    let same = source(temp.path(), "same", "1.0.0", ACTION, "#!/bin/sh\n");
    assert!(diff(&side(&old), &side(&same)).unwrap().is_empty());
    fs::write(same.join("actions/second.yaml"), ACTION.replace("name: clean", "name: second")).unwrap();
    let grown = diff(&side(&old), &side(&same)).unwrap();
    assert_eq!((grown.actions[0].action.as_str(), grown.actions[0].change), ("second", Change::Added));
    assert!(grown.actions[0].changes.contains(&"parameter path added (string, required)".to_owned()), "{grown:?}");
    let shrunk = diff(&side(&same), &side(&old)).unwrap();
    assert_eq!(shrunk.actions[0].change, Change::Removed);
}

#[test]
fn diffs_end_with_their_budget_of_bytes_and_time() {
    let texts = ("one\n".to_owned(), "two\n".to_owned());
    let later = Instant::now() + Duration::from_secs(3600);
    let mut budget = Budget { ends: later, left: 1, omitted: 0 };
    assert!(budget.unified(&texts, ("a", "b"), "x").is_some_and(|text| text.contains("-one\n+two\n")));
    assert_eq!((budget.unified(&texts, ("a", "b"), "y"), budget.omitted), (None, 1));
    let mut budget = Budget { ends: Instant::now(), left: MAX_DIFFS, omitted: 0 };
    assert_eq!((budget.unified(&texts, ("a", "b"), "x"), budget.omitted), (None, 1));
}
