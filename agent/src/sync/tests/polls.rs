//! Polls with nothing new, after failures, and with a wrong clock.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::Digest as _;

use super::archive::{archive, file, pack};
use super::*;
use crate::sync::clock::{self, Clock};
use crate::sync::poll::poll_at;

/// Everything that a write anywhere below `directory` would change.
fn inodes(directory: &Path) -> Vec<(PathBuf, [i64; 6])> {
    let mut found = Vec::new();
    let mut look = |path: &Path| {
        let meta = path.symlink_metadata().unwrap();
        let numbers = [
            meta.ino().cast_signed(),
            meta.size().cast_signed(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        ];
        found.push((path.to_owned(), numbers));
        meta.is_dir()
    };
    look(directory);
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if look(&path) {
                directories.push(path);
            }
        }
    }
    found.sort();
    found
}

impl Bench {
    /// Polls because the time has come.
    pub(super) fn due(&self) -> Result<(), SyncError> {
        poll(&self.config, Occasion::Due)
    }

    /// Polls, and expects that nothing was written.
    pub(super) fn idle(&self) {
        let before = inodes(&self.store());
        self.due().unwrap();
        let after = inodes(&self.store());
        assert_eq!(before, after);
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.store().join(name);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut value);
        fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
    }

    /// With demo 1.1.0 offered and its archive damaged; gives the file and what should be in it.
    fn damaged() -> (Bench, PathBuf, Vec<u8>) {
        let mut bench = Bench::active();
        bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
        bench.repository.publish();
        let file = bench.repository.target_file("packs/demo/1.1.0.tar.gz");
        let right = fs::read(&file).unwrap();
        fs::write(&file, &right[1..]).unwrap();
        bench.due().unwrap();
        (bench, file, right)
    }
}

#[test]
fn a_poll_with_nothing_new_writes_nothing() {
    let mut bench = Bench::active();
    bench.idle();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    bench.due().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"), "what is new is seen");
    bench.idle();
    // Neither does one that finds what failed before, nor a configuration that does not fit.
    bench.offer_bytes("bad", "1.0.0", b"no archive".to_vec(), "");
    bench.repository.publish();
    fs::write(bench.temp.path().join("etc/demo.yaml"), "unknown: 1\n").unwrap();
    bench.due().unwrap();
    assert_eq!(bench.status().failed.len(), 2);
    bench.idle();
}

#[test]
fn a_poll_with_nothing_new_sees_what_changed_here() {
    let mut bench = Bench::active();
    let schema = [pack("demo", "1.1.0"), vec![file("config.schema.yaml", "keep: {type: integer, default: 3}\n")]];
    bench.offer("demo", "1.1.0", &schema.concat());
    bench.repository.publish();
    bench.due().unwrap();
    fs::write(bench.temp.path().join("etc/demo.yaml"), "keep: 9\n").unwrap();
    bench.due().unwrap();
    assert_eq!(fs::read_to_string(bench.store().join("demo/config.json")).unwrap(), "{\"keep\":9}");
    // The active version was lost, as was the record of the last verification.
    fs::remove_dir_all(bench.store().join("demo")).unwrap();
    bench.due().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
    fs::write(bench.store().join(".tuf/seen.json"), "{").unwrap();
    bench.due().unwrap();
    bench.idle();
    // Another root, another channel.
    bench.repository.rotate();
    bench.repository.publish();
    bench.due().unwrap();
    bench.config.repository.channel = ChannelName::new("dev").unwrap();
    bench.due().unwrap();
    bench.idle();
}

#[test]
fn a_failed_version_is_not_fetched_again_at_once() {
    let (mut bench, file, right) = Bench::damaged();
    let failed = bench.status().failed[0].1.clone();
    assert_eq!((failed.step.as_str(), failed.attempts), ("fetch", 1), "{failed:?}");
    fs::write(&file, &right).unwrap();
    bench.idle();
    // Nor when something else was published.
    bench.offer("other", "1.0.0", &pack("other", "1.0.0"));
    bench.repository.publish();
    fs::remove_file(&file).unwrap();
    bench.due().unwrap();
    assert_eq!(bench.current("other").as_deref(), Some("1.0.0"));
    assert_eq!(bench.status().failed[0].1, failed, "it was not looked for");
    fs::write(&file, &right).unwrap();
    // But after a while.
    bench.edit(".status.json", |status| status["failed"][0][1]["at_ms"] = (failed.at_ms - 60_000).into());
    bench.due().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
    assert!(bench.status().failed.is_empty());
}

#[test]
fn a_failed_version_is_retried_when_asked_for_or_with_another_digest() {
    let (bench, file, right) = Bench::damaged();
    bench.poll().unwrap();
    assert_eq!(bench.status().failed[0].1.attempts, 2);
    fs::write(&file, &right).unwrap();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));

    let (mut bench, ..) = Bench::damaged();
    bench.offer("demo", "1.2.0", &pack("demo", "1.2.0"));
    bench.repository.publish();
    bench.due().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.2.0"));

    let (bench, file, right) = Bench::damaged();
    fs::write(&file, &right).unwrap();
    bench.edit(".tuf/seen.json", |seen| seen["inputs"] = "those of another version of the agent".into());
    bench.due().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
}

/// This moment, by a clock that is wrong by so many milliseconds.
fn wrong_by(ms: i64) -> Clock {
    let clock = Clock::read().unwrap();
    Clock { wall_ms: clock.wall_ms.saturating_add_signed(ms), ..clock }
}

const DAY: i64 = 24 * 3_600_000;

#[test]
fn a_clock_that_was_ahead_for_one_poll_does_not_block_later_polls() {
    let mut bench = Bench::new();
    bench.repository.timestamp_expires = 90 * 86_400;
    bench.repository.snapshot_expires = 90 * 86_400;
    bench.repository.targets_expires = 90 * 86_400;
    bench.repository.root_expires = 90 * 86_400;
    bench.repository.write_root(&[]);
    bench.repository.published_at_ms = Some(clock::now_ms());
    bench.offer("demo", "1.0.0", &pack("demo", "1.0.0"));
    bench.repository.publish();
    let old = fs::read(bench.repository.metadata().join("timestamp.json")).unwrap();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    for occasion in [Occasion::Due, Occasion::Asked] {
        poll_at(&bench.config, occasion, &wrong_by(29 * DAY)).unwrap();
        // Right again: what is new is taken at the next poll, and what is old is not.
        bench.offer("demo", "1.2.0", &pack("demo", "1.2.0"));
        bench.repository.publish();
        bench.due().unwrap();
        assert_eq!(bench.current("demo").as_deref(), Some("1.2.0"), "{occasion:?}");
    }
    bench.idle();
    fs::write(bench.repository.metadata().join("timestamp.json"), old).unwrap();
    bench.expect_poll_failure("previously fetched version");
}

#[test]
fn a_clock_that_is_behind_the_time_of_this_boot_stops_the_poll_and_is_named() {
    let bench = Bench::active();
    // Known from a bucket's answers, or from what was published.
    bench.edit(".tuf/time.json", |time| time["at_least_ms"] = clock::now_ms().into());
    poll_at(&bench.config, Occasion::Asked, &wrong_by(-60_000)).unwrap();
    let error = poll_at(&bench.config, Occasion::Asked, &wrong_by(-DAY)).unwrap_err();
    assert!(matches!(error, SyncError::Clock { .. }) && error.to_string().contains("set the clock"), "{error}");
    // The failed poll changed nothing, and a right clock needs no repair.
    bench.poll().unwrap();
}

#[test]
fn a_clock_that_is_behind_what_was_published_stops_the_poll_and_is_named() {
    let mut bench = Bench::active();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.published_at_ms = Some(clock::now_ms() + 48 * 3_600_000);
    bench.repository.publish();
    let error = bench.expect_poll_failure("set the clock");
    assert!(matches!(error, SyncError::Clock { .. }), "{error}");
    bench.repository.published_at_ms = Some(clock::now_ms());
    bench.repository.publish();
    bench.poll().unwrap();
}

#[test]
fn a_clock_that_was_far_ahead_for_a_while_does_no_harm_later() {
    let bench = Bench::active();
    // Record of the library, written before it finds everything expired.
    fs::write(bench.store().join(".tuf/latest_known_time.json"), "\"2099-01-01T00:00:00Z\"").unwrap();
    bench.poll().unwrap();
}

#[test]
fn expired_metadata_name_the_clock_and_are_checked_at_each_poll() {
    let mut bench = Bench::active();
    bench.repository.timestamp_expires = -60;
    bench.repository.publish();
    let error = bench.due().unwrap_err();
    assert!(error.to_string().contains("by this host's clock, which says 20"), "{error}");
    assert!(bench.status().expired);
    bench.repository.timestamp_expires = 60;
    bench.repository.publish();
    bench.due().unwrap();
    assert!(!bench.status().expired);
}

#[test]
fn an_idle_poll_that_finds_its_signatures_expired_says_so() {
    let bench = Bench::active();
    bench.edit(".tuf/seen.json", |seen| seen["expires_at_ms"] = seen["verified_at_ms"].clone());
    let before = inodes(&bench.store());
    bench.due().unwrap();
    assert_ne!(inodes(&bench.store()), before, "it went the whole way");
}

#[test]
fn old_versions_go_when_no_execution_can_use_them() {
    let mut bench = Bench::active();
    for version in ["1.1.0", "1.2.0", "1.3.0"] {
        bench.offer_bytes("demo", version, archive(&pack("demo", version)), "");
        bench.repository.publish();
        bench.due().unwrap();
    }
    assert_eq!(versions(&bench), ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
    bench.edit("demo/.versions.json", |record| record["replaced"][2]["boot"] = "the one before".into());
    bench.due().unwrap();
    assert_eq!(versions(&bench), ["1.1.0", "1.2.0", "1.3.0"]);
    bench.idle();
}

#[test]
fn a_channel_without_packs_beside_others_is_reported_until_it_has_one() {
    let mut bench = Bench::new();
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.status().channel_empty, None, "an empty repository is no mistake");
    bench.offer("demo", "1.0.0", &pack("demo", "1.0.0"));
    bench.repository.publish();
    bench.config.repository.channel = ChannelName::new("prdo").unwrap();
    bench.due().unwrap();
    let empty = bench.status().channel_empty.unwrap();
    assert_eq!((empty.channel.as_str(), empty.others.len(), empty.more), ("prdo", 1, 0));
    assert!(empty.to_string().starts_with("channel prdo has no packs; the repository has prod: "), "{empty}");
    assert!(bench.status().failure.is_none() && bench.status().failed.is_empty(), "{:?}", bench.status());
    bench.idle();
    assert_eq!(bench.status().channel_empty, Some(empty), "it is still so");

    let registry = crate::registry::Registry::new(bench.store());
    let health = crate::health::Health::default();
    let instance = packs_schema::base::name::InstanceId::new("i-1").unwrap();
    let report = health.report(&registry, &instance, &|_| crate::health::Detail::All);
    let told = report.reasons.iter().find(|reason| reason.code == "channel_empty").unwrap();
    assert!(report.degraded && told.message.contains("prod"), "{report:?}");

    // Many others are counted, not listed.
    for n in 0..30 {
        bench.repository.set(&format!("channels/other-{n:02}/demo.json"), "{}");
    }
    bench.repository.publish();
    bench.due().unwrap();
    let empty = bench.status().channel_empty.unwrap();
    assert_eq!((empty.others.len(), empty.more), (20, 11));

    bench.config.repository.channel = ChannelName::new("prod").unwrap();
    bench.due().unwrap();
    assert_eq!(bench.status().channel_empty, None);
    assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"));
    // Nor is a channel mistyped whose versions were all withdrawn.
    bench.take_back("1.0.0");
    bench.due().unwrap();
    assert_eq!((bench.current("demo"), bench.status().channel_empty), (None, None));
}

#[test]
fn a_version_on_which_the_sync_ends_holds_up_no_other_pack() {
    let mut bench = Bench::active();
    let bytes = archive(&pack("demo", "1.1.0"));
    let digest: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.offer("other", "1.0.0", &pack("other", "1.0.0"));
    bench.repository.publish();
    let file = bench.ended_on(&format!("demo {digest}"), 2);
    bench.expect_failure("check", "the sync ended in the middle of installing this version");
    assert_eq!(bench.current("other").as_deref(), Some("1.0.0"));
    // The version is tried again, at once when a caller asks for it; a version that is installed leaves nothing.
    assert!(file.exists());
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"), "{:?}", bench.status());
    assert!(!file.exists() && bench.status().failed.is_empty());
}

#[test]
fn a_version_on_which_the_sync_ended_once_is_installed_by_the_next_poll() {
    let mut bench = Bench::active();
    let bytes = archive(&pack("demo", "1.1.0"));
    let digest: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    let file = bench.ended_on(&format!("demo {digest}"), 1);
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"), "{:?}", bench.status());
    assert!(!file.exists());
}
