//! Tests of `cassandra.clear_snapshots` and `list_snapshots` on generated data directories.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Ended, Run, action};

const TABLE: &str = "events-0123456789abcdef0123456789abcdef";

/// Data directory.
struct Data {
    top: TempDir,
}

impl Data {
    fn new() -> Data {
        let top = TempDir::new().unwrap();
        fs::create_dir(top.path().join("data")).unwrap();
        Data { top }
    }

    fn path(&self) -> PathBuf {
        self.top.path().join("data")
    }

    fn table(&self, keyspace: &str) -> PathBuf {
        let path = self.path().join(keyspace).join(TABLE);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Creates a snapshot with one file of its own and one that is shared with the live table.
    fn snapshot(&self, keyspace: &str, tag: &str, days: u64) -> PathBuf {
        let table = self.table(keyspace);
        let path = table.join("snapshots").join(tag);
        fs::create_dir_all(path.join(".index")).unwrap();
        fs::write(path.join("nb-1-big-Data.db"), vec![1; 8192]).unwrap();
        fs::write(path.join(".index/nb-1-big-Data.db"), vec![1; 4096]).unwrap();
        let live = table.join("nb-2-big-Data.db");
        if !live.exists() {
            fs::write(&live, vec![2; 16384]).unwrap();
        }
        fs::hard_link(&live, path.join("nb-2-big-Data.db")).unwrap();
        age(&path, days);
        path
    }

    fn clear(&self, parameters: Value) -> Run {
        action("cassandra.clear_snapshots", parameters).config(json!({"data_directories": [self.path()]}))
    }
}

fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400 + 60);
    fs::File::open(path).unwrap().set_modified(then).unwrap();
}

fn totals(ended: &Ended) -> (u64, u64) {
    (ended.result["snapshots"].as_u64().unwrap(), ended.result["files"].as_u64().unwrap())
}

/// Returns all paths below a directory, with inode, length and modification time.
fn picture(path: &Path) -> Vec<(PathBuf, u64, u64, i64)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        all.push((path.clone(), meta.ino(), meta.len(), meta.mtime()));
        if meta.is_dir() {
            all.extend(picture(&path));
        }
    }
    all.sort();
    all
}

#[test]
fn a_dry_run_changes_nothing_and_predicts_the_result() {
    let data = Data::new();
    data.snapshot("users", "old", 30);
    data.snapshot("users", "older", 40);
    data.snapshot("orders", "new", 1);
    let before = picture(&data.path());
    let planned = data.clear(json!({})).noop().go().well();
    assert_eq!(picture(&data.path()), before);
    let done = data.clear(json!({})).go().well();
    assert_eq!(totals(&planned), (2, 6));
    for key in ["snapshots", "files", "bytes_reclaimed", "bytes_shared", "kept", "keyspaces"] {
        assert_eq!(planned.result[key], done.result[key], "{key}");
    }
    assert_eq!((planned.result["noop"].clone(), done.result["noop"].clone()), (json!(true), json!(false)));
    assert!(planned.stdout.starts_with("noop: would remove 2 snapshots, 6 files and free "), "{}", planned.stdout);
    assert!(done.stdout.starts_with("removed 2 snapshots, 6 files and freed "), "{}", done.stdout);
    assert!(done.stdout.contains("; 1 newer snapshot kept\n") && done.stdout.contains(" FREED "), "{}", done.stdout);
}

#[test]
fn only_old_snapshots_are_removed() {
    let data = Data::new();
    let old = data.snapshot("users", "old", 8);
    let new = data.snapshot("users", "new", 6);
    let live = data.table("users").join("nb-2-big-Data.db");
    let ended = data.clear(json!({})).go().well();
    assert!(!old.exists() && new.join("nb-1-big-Data.db").exists());
    assert_eq!(fs::read(&live).unwrap(), vec![2; 16384]);
    assert_eq!((totals(&ended), ended.result["kept"].as_u64()), ((1, 3), Some(1)));
    let users = &ended.result["keyspaces"]["users"];
    assert!(users["bytes_reclaimed"].as_u64().unwrap() >= 12288, "{users}");
    assert!(users["bytes_shared"].as_u64().unwrap() >= 16384, "{users}");
    let all = data.clear(json!({"older_than_days": 0})).go().well();
    assert_eq!(totals(&all), (1, 3));
    assert!(!new.exists());
}

#[test]
fn removing_the_last_link_frees_the_bytes() {
    let data = Data::new();
    data.snapshot("users", "a", 9);
    data.snapshot("users", "b", 9);
    // Compacted meanwhile: only the snapshots have the file, and only removing the second one frees it.
    fs::remove_file(data.table("users").join("nb-2-big-Data.db")).unwrap();
    let planned = data.clear(json!({})).noop().go().well();
    let done = data.clear(json!({})).go().well();
    for ended in [planned, done] {
        let reclaimed = ended.result["bytes_reclaimed"].as_u64().unwrap();
        assert!(reclaimed >= 2 * 12288 + 16384, "{}", ended.result);
    }
}

#[test]
fn keyspace_and_tag_select_snapshots() {
    let data = Data::new();
    let users = data.snapshot("users", "nightly", 9);
    let orders = data.snapshot("orders", "nightly", 9);
    let upgrade = data.snapshot("orders", "pre-upgrade-3", 9);
    let ended = data.clear(json!({"keyspace": "orders", "tag": "pre-*"})).go().well();
    assert_eq!(totals(&ended), (1, 3));
    assert!(users.exists() && orders.exists() && !upgrade.exists());
    data.clear(json!({"keyspace": "orders"})).go().well();
    assert!(users.exists() && !orders.exists());
    let none = data.clear(json!({"keyspace": "nowhere"})).go().well();
    assert_eq!(totals(&none), (0, 0));
}

#[test]
fn links_are_never_followed() {
    let data = Data::new();
    let outside = data.top.path().join("outside");
    fs::create_dir_all(outside.join(TABLE).join("snapshots/old")).unwrap();
    for place in ["precious", &format!("{TABLE}/snapshots/old/precious")] {
        fs::write(outside.join(place), b"keep me").unwrap();
    }
    for directory in [outside.clone(), outside.join(TABLE).join("snapshots/old")] {
        age(&directory, 99);
    }
    // A symbolic link at each level: keyspace, table, snapshots, tag, and inside a snapshot.
    symlink(&outside, data.path().join("keyspace_link")).unwrap();
    fs::create_dir(data.path().join("tables")).unwrap();
    symlink(outside.join(TABLE), data.path().join("tables").join("link-1")).unwrap();
    fs::create_dir(data.path().join("tables/events-2")).unwrap();
    symlink(outside.join(TABLE).join("snapshots"), data.path().join("tables/events-2/snapshots")).unwrap();
    fs::create_dir_all(data.path().join("tables/events-3/snapshots")).unwrap();
    symlink(&outside, data.path().join("tables/events-3/snapshots/old")).unwrap();
    let inside = data.snapshot("users", "old", 9);
    symlink(&outside, inside.join("directory")).unwrap();
    symlink(outside.join("precious"), inside.join("file")).unwrap();
    age(&inside, 9);
    let before = picture(&outside);
    let ended = data.clear(json!({})).go().well();
    assert_eq!(picture(&outside), before);
    assert!(!inside.exists(), "links inside a snapshot are removed themselves");
    let skipped: Vec<&str> =
        ended.result["skipped"].as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
    assert_eq!(skipped.len(), 4, "{skipped:?}");
}

#[test]
fn nothing_outside_a_snapshot_is_touched() {
    let data = Data::new();
    let table = data.table("users");
    fs::create_dir_all(table.join("backups/old")).unwrap();
    fs::write(table.join("backups/old/x"), b"x").unwrap();
    fs::create_dir_all(table.join("snapshots")).unwrap();
    fs::write(table.join("snapshots/stray"), b"x").unwrap();
    fs::write(data.path().join("stray"), b"x").unwrap();
    age(&table.join("backups/old"), 99);
    let before = picture(&data.path());
    let ended = data.clear(json!({"older_than_days": 0})).go().well();
    assert_eq!((totals(&ended), picture(&data.path())), ((0, 0), before));
}

#[test]
fn the_snapshot_of_a_running_repair_is_left() {
    let data = Data::new();
    let repair = data.snapshot("users", "repair", 9);
    fs::write(repair.join("ephemeral.snapshot"), b"").unwrap();
    age(&repair, 9);
    let ended = data.clear(json!({})).go().well();
    assert!(repair.join("nb-1-big-Data.db").exists());
    assert_eq!(ended.result["ephemeral"], 1);
}

#[test]
fn an_exceeded_deadline_stops_the_action_and_is_reported() {
    let data = Data::new();
    let old = data.snapshot("users", "old", 9);
    let ended = data.clear(json!({})).deadline(1).go();
    assert_eq!((ended.status, ended.result["complete"].clone()), (Some(1), json!(false)));
    assert!(old.exists() && ended.stdout.contains("INCOMPLETE"));
}

#[test]
fn names_cannot_forge_output() {
    let data = Data::new();
    data.snapshot("evil\u{1b}[2J\nusers 999", "old", 9);
    let ended = data.clear(json!({})).go().well();
    assert!(ended.stdout.contains("evil\\x1b[2J\\x0ausers 999"), "{}", ended.stdout);
}

#[test]
fn a_missing_data_directory_is_an_error_that_names_the_setting() {
    let missing = json!({"data_directories": ["/nonexistent/cassandra"]});
    for name in ["cassandra.clear_snapshots", "cassandra.list_snapshots"] {
        let ended = action(name, json!({})).config(missing.clone()).go().refused(3, "/etc/bolt/packs/cassandra.yaml");
        // A result without any snapshot would be wrong.
        assert_eq!(ended.result["snapshots"].as_u64().unwrap_or(0), 0);
    }
}

#[test]
fn the_listing_shows_age_and_size() {
    let data = Data::new();
    data.table("users");
    let none = action("cassandra.list_snapshots", json!({})).config(json!({"data_directories": [data.path()]}));
    assert_eq!(none.go().well().stdout, "no snapshots\n");
    data.snapshot("users", "old", 30);
    data.snapshot("orders", "old", 3);
    let before = picture(&data.path());
    let listed = action("cassandra.list_snapshots", json!({})).config(json!({"data_directories": [data.path()]}));
    let ended = listed.go().well();
    let tags = ended.result["tags"].as_array().unwrap();
    let ages: Vec<(&str, u64)> =
        tags.iter().map(|t| (t["keyspace"].as_str().unwrap(), t["age_days"].as_u64().unwrap())).collect();
    assert_eq!(ages.len(), 2);
    assert!(ages.contains(&("users", 30)) && ages.contains(&("orders", 3)), "{ages:?}");
    assert!(tags.iter().all(|t| t["bytes_reclaimable"].as_u64().unwrap() >= 12288));
    assert_eq!(picture(&data.path()), before);
}
