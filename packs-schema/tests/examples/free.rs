//! Tests of `linux.free_disk_space`.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Ended, Run, action, can_be_alone};

/// Log directory that the site allows, beside one that it does not.
struct Site {
    top: TempDir,
}

impl Site {
    fn new() -> Site {
        let top = TempDir::new().unwrap();
        fs::create_dir_all(top.path().join("log/app")).unwrap();
        fs::create_dir(top.path().join("outside")).unwrap();
        Site { top }
    }

    fn logs(&self) -> PathBuf {
        self.top.path().join("log")
    }

    /// Creates a file of `kib` KiB, last modified `days` ago.
    fn file(&self, path: &str, kib: usize, days: u64) -> PathBuf {
        let path = self.top.path().join(path);
        fs::write(&path, vec![b'x'; kib << 10]).unwrap();
        let then = SystemTime::now() - Duration::from_secs(days * 86_400 + 60);
        File::open(&path).unwrap().set_modified(then).unwrap();
        path
    }

    fn free(&self, parameters: Value) -> Run {
        action("linux.free_disk_space", parameters).config(json!({"log_directories": [self.logs()]}))
    }
}

fn reclaimed(ended: &Ended) -> u64 {
    ended.result["bytes_reclaimed"].as_u64().unwrap()
}

fn length(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|m| m.len())
}

/// Returns "removed", or "truncated" if the test's account cannot read the open files of all processes.
fn gone(path: &Path) -> bool {
    length(path).is_none_or(|l| l == 0)
}

#[test]
fn only_old_logs_are_removed() {
    let site = Site::new();
    let old = site.file("log/app/x.log.1", 64, 30);
    let young = site.file("log/app/x.log", 64, 1);
    let other = site.file("log/app/data.db", 64, 30);
    let logins = site.file("log/wtmp", 64, 30);
    let ended = site.free(json!({"patterns": ["*.log*", "wtmp"]})).go().well();
    assert!(gone(&old) && !gone(&young) && !gone(&other) && !gone(&logins));
    assert!((64 << 10..100 << 10).contains(&reclaimed(&ended)), "{}", ended.result);
}

#[test]
fn files_are_removed_if_all_processes_are_visible() {
    if !can_be_alone("files_are_removed_if_all_processes_are_visible") {
        return;
    }
    let site = Site::new();
    let old = site.file("log/app/x.log.1", 64, 30);
    let second = site.file("log/second.log", 64, 30);
    fs::hard_link(&second, site.top.path().join("outside/second")).unwrap();
    let planned = site.free(json!({})).alone().noop().go().well();
    assert!(old.exists() && second.exists());
    let done = site.free(json!({})).alone().go().well();
    assert!(!old.exists() && !second.exists());
    assert_eq!(length(&site.top.path().join("outside/second")), Some(64 << 10));
    for ended in [planned, done] {
        assert_eq!(
            (ended.result["removed"].as_u64(), ended.result["processes_not_readable"].as_u64()),
            (Some(2), Some(0))
        );
        assert!((64 << 10..100 << 10).contains(&reclaimed(&ended)), "a second name keeps its bytes: {}", ended.result);
    }
}

#[test]
fn open_files_are_detected_if_all_processes_are_visible() {
    if !can_be_alone("open_files_are_detected_if_all_processes_are_visible") {
        return;
    }
    let site = Site::new();
    let (held, free) = (site.file("log/held.log", 64, 30), site.file("log/free.log", 64, 30));
    let ended = site.free(json!({})).beside_holder(&held).go().well();
    assert_eq!((length(&held), length(&free)), (Some(0), None));
    assert_eq!((ended.result["truncated_files"].as_u64(), ended.result["removed"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn a_dry_run_changes_nothing_and_predicts_the_result() {
    let site = Site::new();
    let old = site.file("log/a.log", 64, 30);
    let held = site.file("log/b.log", 64, 30);
    let holder = File::open(&held).unwrap();
    let planned = site.free(json!({})).noop().go().well();
    assert_eq!((length(&old), length(&held)), (Some(64 << 10), Some(64 << 10)));
    let done = site.free(json!({})).go().well();
    for key in ["candidates", "removed", "truncated_files", "bytes_reclaimed"] {
        assert_eq!(planned.result[key], done.result[key], "{key}");
    }
    assert!(planned.stdout.starts_with("noop: would free "), "{}", planned.stdout);
    drop(holder);
}

#[test]
fn an_open_log_is_truncated_in_place() {
    let site = Site::new();
    let path = site.file("log/app/server.log", 256, 30);
    let holder = File::open(&path).unwrap();
    let ended = site.free(json!({})).go().well();
    assert_eq!(holder.metadata().unwrap().len(), 0, "the very file that is open was emptied");
    assert_eq!(length(&path), Some(0));
    assert_eq!((ended.result["truncated_files"].as_u64(), ended.result["removed"].as_u64()), (Some(1), Some(0)));
    assert!(reclaimed(&ended) >= 256 << 10);
}

#[test]
fn links_are_neither_followed_nor_touched() {
    let site = Site::new();
    let precious = site.file("outside/precious.log", 64, 99);
    symlink(&precious, site.logs().join("file.log")).unwrap();
    symlink(site.top.path().join("outside"), site.logs().join("directory")).unwrap();
    let ended = site.free(json!({"older_than_days": 0})).go().well();
    assert_eq!(length(&precious), Some(64 << 10));
    assert!(site.logs().join("file.log").is_symlink() && site.logs().join("directory").is_symlink());
    assert_eq!(ended.result["candidates"], 0);
}

#[test]
fn a_path_through_a_link_is_not_entered() {
    let site = Site::new();
    let precious = site.file("outside/precious.log", 64, 99);
    symlink(site.top.path().join("outside"), site.logs().join("way")).unwrap();
    let ended = site.free(json!({"directories": [site.logs().join("way")]})).go();
    let ended = ended.refused(1, "none of the directories could be entered");
    assert_eq!(length(&precious), Some(64 << 10));
    assert!(ended.result["skipped"][0]["reason"].as_str().unwrap().contains("link"), "{}", ended.result);
}

#[test]
fn a_file_with_several_links_is_never_truncated() {
    let site = Site::new();
    // A user who may write to a log directory could prepare this: an open "log" that is another user's file.
    let precious = site.file("outside/shadow", 64, 99);
    fs::hard_link(&precious, site.logs().join("trap.log")).unwrap();
    let holder = File::open(&precious).unwrap();
    let ended = site.free(json!({})).go().well();
    assert_eq!(length(&precious), Some(64 << 10));
    assert!(ended.result["skipped"][0]["reason"].as_str().unwrap().contains("2 links"), "{}", ended.result);
    assert_eq!(reclaimed(&ended), 0);
    drop(holder);
}

#[test]
fn only_directories_in_log_directories_are_allowed() {
    let site = Site::new();
    let precious = site.file("outside/precious.log", 64, 99);
    let outside = site.top.path().join("outside");
    let dotted = format!("{}/../outside", site.logs().display());
    let beside = format!("{}-not", site.logs().display());
    for (path, why) in [
        (outside.to_str().unwrap(), "is not allowed on this site"),
        (dotted.as_str(), "without '..'"),
        (beside.as_str(), "is not allowed on this site"),
    ] {
        site.free(json!({"directories": [path]})).go().refused(2, why);
    }
    assert_eq!(length(&precious), Some(64 << 10));
}

#[test]
fn excluded_directories_are_not_entered() {
    let site = Site::new();
    fs::create_dir(site.logs().join("journal")).unwrap();
    let journal = site.file("log/journal/system.log", 64, 99);
    site.free(json!({})).go().well();
    assert_eq!(length(&journal), Some(64 << 10));
    site.free(json!({"directories": [site.logs().join("journal")]})).go().refused(2, "is excluded on this site");
}

#[test]
fn it_stops_when_enough_is_reclaimed_oldest_first() {
    let site = Site::new();
    let older = site.file("log/a.log", 1024, 40);
    let old = site.file("log/b.log", 1024, 30);
    site.free(json!({"reclaim_mib": 1})).go().well();
    assert!(gone(&older) && !gone(&old));
}

#[test]
fn a_large_active_log_is_truncated_only_on_request() {
    let site = Site::new();
    let active = site.file("log/active.log", 2048, 0);
    let holder = File::open(&active).unwrap();
    site.free(json!({})).go().well();
    assert_eq!(length(&active), Some(2048 << 10));
    site.free(json!({"truncate_active_over_mib": 2000})).go().well();
    assert_eq!(length(&active), Some(2048 << 10));
    site.free(json!({"truncate_active_over_mib": 1})).go().well();
    assert_eq!(length(&active), Some(0));
    drop(holder);
}
