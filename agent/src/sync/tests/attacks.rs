//! The attacks that TUF is there for, one test each (those through delegated roles are in `delegates`). Whatever is done to
//! the repository, demo 1.0.0 stays active and untouched, and one line of the status says why nothing else is.

use super::repository::Key;
use super::*;

const ROOT: usize = 0;
const TARGETS: usize = 1;
const SNAPSHOT: usize = 2;
const TIMESTAMP: usize = 3;

impl Bench {
    /// With demo 1.0.0 active, and 1.1.0 offered but not yet published.
    fn offered() -> Bench {
        let mut bench = Bench::active();
        bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
        bench
    }

    /// With 1.1.0 published and signed as it should be, and not yet seen.
    fn published() -> Bench {
        let mut bench = Bench::offered();
        bench.repository.publish();
        bench
    }

    fn metadata_file(&self, name: &str) -> PathBuf {
        self.repository.metadata().join(name)
    }

    /// The repository as it is now, to be shown again later.
    fn remember(&self) -> Vec<(PathBuf, Vec<u8>)> {
        tree(&self.repository.metadata())
    }

    /// Shows the repository as it was, and nothing that came later.
    fn replay(&self, state: &[(PathBuf, Vec<u8>)]) {
        fs::remove_dir_all(self.repository.metadata()).unwrap();
        fs::create_dir(self.repository.metadata()).unwrap();
        for (path, bytes) in state {
            fs::write(path, bytes).unwrap();
        }
    }

    /// Nothing that the attack left behind keeps the right state from being taken.
    fn recovers(&mut self, version: &str) {
        self.offer("demo", version, &pack("demo", version));
        self.repository.publish();
        self.poll().unwrap();
        assert_eq!(self.current("demo").as_deref(), Some(version), "{:?}", self.status());
        assert!(self.status().failure.is_none() && self.status().failed.is_empty());
    }
}

#[test]
fn arbitrary_software_in_place_of_the_archive() {
    let mut bench = Bench::published();
    let file = bench.repository.target_file("packs/demo/1.1.0.tar.gz");
    let right = fs::read(&file).unwrap();
    let mut other = archive(&pack("demo", "1.1.0"));
    other.resize(right.len(), 0);
    *other.last_mut().unwrap() ^= 1;
    fs::write(&file, other).unwrap();
    bench.expect_failure("fetch", "Hash mismatch");
    bench.recovers("1.2.0");
}

#[test]
fn arbitrary_software_signed_by_a_wrong_key() {
    for role in [TARGETS, SNAPSHOT, TIMESTAMP] {
        let mut bench = Bench::offered();
        let right = std::mem::replace(&mut bench.repository.keys[role], vec![Key::new()]);
        bench.repository.publish();
        let error = bench.expect_poll_failure("cannot verify the repository's metadata");
        assert!(error::chain(&error).contains("threshold"), "{}", error::chain(&error));
        bench.repository.keys[role] = right;
        bench.recovers("1.2.0");
    }
}

#[test]
fn a_root_that_only_its_own_key_vouches_for() {
    let mut bench = Bench::offered();
    let right = std::mem::replace(&mut bench.repository.keys, [(); 4].map(|()| vec![Key::new()]));
    bench.repository.versions[ROOT] = 2;
    bench.repository.write_root(&[]);
    bench.repository.publish();
    bench.expect_poll_failure("root");
    fs::remove_file(bench.metadata_file("2.root.json")).unwrap();
    (bench.repository.keys, bench.repository.versions[ROOT]) = (right, 1);
    bench.recovers("1.2.0");
}

#[test]
fn signatures_below_the_threshold() {
    let mut bench = Bench::offered();
    let both = vec![Key::new(), Key::new()];
    let vouching = bench.repository.keys[ROOT].clone();
    bench.repository.keys[TARGETS] = both.clone();
    (bench.repository.thresholds[TARGETS], bench.repository.versions[ROOT]) = (2, 2);
    bench.repository.write_root(&vouching);
    bench.repository.keys[TARGETS].truncate(1);
    bench.repository.publish();
    bench.expect_poll_failure("threshold of 2");
    // Two signatures of one key count once.
    bench.repository.keys[TARGETS] = vec![both[0].clone(), both[0].clone()];
    bench.repository.publish();
    bench.expect_poll_failure("Duplicate key");
    bench.repository.keys[TARGETS] = both;
    bench.recovers("1.2.0");
}

#[test]
fn a_key_that_a_new_root_revoked() {
    for role in [TARGETS, SNAPSHOT, TIMESTAMP] {
        let mut bench = Bench::offered();
        let revoked = bench.repository.replace_key(role);
        let right = std::mem::replace(&mut bench.repository.keys[role], revoked);
        bench.repository.publish();
        bench.expect_poll_failure("cannot verify");
        bench.repository.keys[role] = right;
        bench.recovers("1.2.0");
    }
}

#[test]
fn rollback_of_the_timestamp() {
    let mut bench = Bench::active();
    let old = bench.remember();
    bench.repository.publish();
    bench.poll().unwrap();
    bench.replay(&old);
    bench.expect_poll_failure("Found version 1 of timestamp metadata when we had previously fetched version 2");
    bench.recovers("1.2.0");
}

#[test]
fn rollback_of_the_snapshot_by_whoever_has_the_timestamp_key() {
    let mut bench = Bench::active();
    let old = fs::read(bench.metadata_file("1.snapshot.json")).unwrap();
    bench.repository.publish();
    bench.poll().unwrap();
    bench.repository.versions[TIMESTAMP] += 1;
    bench.repository.write_timestamp(bench.repository.versions[TIMESTAMP], 1, &old);
    bench.expect_poll_failure("Snapshot version 1 in timestamp 3 is less than 2");
    bench.recovers("1.2.0");
}

#[test]
fn rollback_of_the_targets_by_whoever_has_the_online_keys() {
    let mut bench = Bench::active();
    bench.repository.publish();
    bench.poll().unwrap();
    bench.repository.versions[TARGETS] = 1;
    bench.repository.versions[SNAPSHOT] += 1;
    bench.repository.versions[TIMESTAMP] += 1;
    bench.repository.write();
    bench.expect_poll_failure("targets");
    bench.repository.versions[TARGETS] = 2;
    bench.recovers("1.2.0");
}

#[test]
fn rollback_without_the_librarys_memory_is_seen_by_our_own() {
    // The library's files are gone, as after a crash that it did not survive: the marks are not.
    for role in [TARGETS, SNAPSHOT, TIMESTAMP] {
        let mut bench = Bench::active();
        bench.repository.publish();
        bench.repository.publish();
        bench.poll().unwrap();
        for name in ["timestamp.json", "snapshot.json", "targets.json"] {
            fs::remove_file(bench.store().join(".tuf").join(name)).unwrap();
        }
        for version in &mut bench.repository.versions[1..] {
            *version += 5;
        }
        bench.repository.versions[role] = 2;
        bench.repository.write();
        let error = bench.expect_poll_failure("an attacker may be replaying an old state");
        assert!(matches!(error, SyncError::Older { found: 2, seen: 3, .. }), "{error:?}");
    }
}

#[test]
fn rollback_of_the_root() {
    let mut bench = Bench::active();
    let old = bench.remember();
    bench.repository.replace_key(TARGETS);
    bench.repository.publish();
    bench.poll().unwrap();
    // The chain is shown up to the root before, whose targets key was revoked since.
    bench.replay(&old);
    bench.expect_poll_failure("version");
    let kept = fs::read(bench.store().join(".tuf/marks.json")).unwrap();
    fs::remove_file(bench.store().join(".tuf/timestamp.json")).unwrap();
    fs::remove_file(bench.store().join(".tuf/snapshot.json")).unwrap();
    let error = bench.expect_poll_failure("root metadata are version 1, but version 2 was seen");
    assert!(matches!(error, SyncError::Older { .. }), "{error:?}");
    assert_eq!(fs::read(bench.store().join(".tuf/marks.json")).unwrap(), kept);
}

/// Remaining protection when the agent's high-water marks are lost, or restored from an old disk.
#[test]
fn rollback_after_the_agents_memory_is_lost_or_that_of_an_old_disk() {
    for lost in [true, false] {
        let mut bench = Bench::active();
        let root = bench.temp.path().join("root.json");
        fs::copy(bench.repository.root(), &root).unwrap();
        bench.config.repository.root = root;
        let memory = tree(&bench.store().join(".tuf"));
        bench.offer("demo", "1.0.1", &pack("demo", "1.0.1"));
        bench.repository.publish();
        let old = bench.remember();
        bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
        bench.repository.publish();
        bench.poll().unwrap();
        assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
        let forget = |bench: &Bench| {
            fs::remove_dir_all(bench.store().join(".tuf")).unwrap();
            fs::create_dir(bench.store().join(".tuf")).unwrap();
            for (path, bytes) in memory.iter().filter(|_| !lost) {
                fs::write(path, bytes).unwrap();
            }
        };
        // Detected: the active version is newer, and its withdrawal is not signed.
        forget(&bench);
        bench.replay(&old);
        bench.expect_failure("choose", "1.1.0 is active and newer");
        // Detected: the old state has expired meanwhile.
        forget(&bench);
        bench.repository.timestamp_expires = -1;
        bench.repository.publish();
        bench.expect_poll_failure("have expired");
        // Detected: another root.
        forget(&bench);
        let mut other = Repository::new(&bench.temp.path().join("other"));
        other.publish();
        bench.replay(&[]);
        for (path, bytes) in tree(&other.metadata()) {
            fs::write(bench.metadata_file(path.file_name().unwrap().to_str().unwrap()), bytes).unwrap();
        }
        bench.expect_poll_failure("cannot verify");
    }
}

/// Not detected: a signed rollback, replayed before it expires to an agent that has lost the marks of what followed.
#[test]
fn a_signed_rollback_is_accepted_again_after_the_marks_are_lost() {
    let mut bench = Bench::published();
    bench.poll().unwrap();
    bench.back("1.0.0", &["1.1.0"]);
    bench.repository.publish();
    bench.poll().unwrap();
    let old = bench.remember();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    bench.poll().unwrap();
    bench.replay(&old);
    bench.poll().unwrap_err();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"), "while it remembers");
    fs::remove_dir_all(bench.store().join(".tuf")).unwrap();
    bench.poll().unwrap();
    assert_eq!(
        bench.current("demo").as_deref(),
        Some("1.0.0"),
        "a version that was right once, for as long as its expiry"
    );
}

#[test]
fn freeze_by_metadata_that_have_expired() {
    for role in ["timestamp", "snapshot", "targets"] {
        let mut bench = Bench::offered();
        match role {
            "timestamp" => bench.repository.timestamp_expires = -1,
            "snapshot" => bench.repository.snapshot_expires = -1,
            _ => bench.repository.targets_expires = -1,
        }
        bench.repository.publish();
        let error = bench.expect_poll_failure(&format!("{role} metadata have expired"));
        assert!(matches!(error, SyncError::Expired { .. }), "{error:?}");
        assert!(bench.status().expired);
        let Repository { timestamp_expires, snapshot_expires, targets_expires, .. } = &mut bench.repository;
        (*timestamp_expires, *snapshot_expires, *targets_expires) = (3600, 3600, 3600);
        bench.recovers("1.2.0");
    }
}

#[test]
fn fast_forward_and_the_way_back_by_another_key() {
    let mut bench = Bench::offered();
    // An attacker with the keys of timestamp and snapshot raises the versions to the maximum.
    bench.repository.versions = [1, 2, u64::MAX, u64::MAX];
    bench.repository.write();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
    bench.repository.versions = [1, 3, 3, 3];
    bench.repository.write();
    bench.expect_poll_failure("version");
    // A root with other keys for both resets their marks.
    bench.repository.replace_key(SNAPSHOT);
    bench.repository.replace_key(TIMESTAMP);
    bench.recovers("1.2.0");
    assert_eq!(bench.repository.versions[TIMESTAMP], 4);
}

#[test]
fn mix_and_match_of_what_was_signed_at_different_times() {
    for name in ["snapshot", "targets"] {
        let mut bench = Bench::published();
        // All of it signed by the right keys, but not to go together.
        fs::copy(bench.metadata_file(&format!("1.{name}.json")), bench.metadata_file(&format!("2.{name}.json")))
            .unwrap();
        bench.expect_poll_failure("cannot verify");
        bench.recovers("1.2.0");
    }
    // A snapshot that names a version of the targets that was never signed together with it.
    let mut bench = Bench::published();
    fs::remove_file(bench.metadata_file("2.targets.json")).unwrap();
    bench.expect_poll_failure("2.targets.json");
    bench.recovers("1.2.0");
}

/// A file with no end in sight that takes no room.
fn endless(file: &Path) {
    fs::File::create(file).unwrap().set_len(1 << 42).unwrap();
}

#[test]
fn a_fifo_or_a_device_in_place_of_metadata() {
    let fifo = |file: &Path| nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let device = |file: &Path| std::os::unix::fs::symlink("/dev/zero", file).unwrap();
    // A newer root that cannot be fetched is as good as none.
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        for put in [&fifo as &dyn Fn(&Path), &device] {
            let mut bench = Bench::published();
            let file = bench.metadata_file(name);
            drop(fs::remove_file(&file));
            put(&file);
            bench.expect_poll_failure("not a regular file");
            fs::remove_file(&file).unwrap();
            bench.recovers("1.2.0");
        }
    }
}

#[test]
fn endless_data_in_place_of_metadata() {
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json", "2.root.json"] {
        let mut bench = Bench::published();
        let file = bench.metadata_file(name);
        drop(fs::remove_file(&file));
        endless(&file);
        bench.expect_poll_failure("aximum size");
        let peak_kb = super::process::peak_kb().unwrap();
        assert!(peak_kb < 512 << 10, "{peak_kb} kB");
        fs::remove_file(&file).unwrap();
        bench.recovers("1.2.0");
    }
}

#[test]
fn endless_data_in_place_of_an_archive_or_of_a_channel() {
    for (name, step) in [("packs/demo/1.1.0.tar.gz", "fetch"), ("channels/prod/demo.json", "choose")] {
        let mut bench = Bench::published();
        let file = bench.repository.target_file(name);
        fs::remove_file(&file).unwrap();
        endless(&file);
        bench.expect_failure(step, "aximum size");
        fs::remove_file(&file).unwrap();
        // Opening a FIFO would block until its writer opens it.
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        bench.expect_failure(step, "not a regular file");
        fs::remove_file(&file).unwrap();
        bench.recovers("1.2.0");
    }
}

#[test]
fn more_data_than_was_signed() {
    for name in ["2.snapshot.json", "2.targets.json"] {
        let mut bench = Bench::published();
        let file = bench.metadata_file(name);
        let longer = [fs::read(&file).unwrap(), b" ".repeat(10)].concat();
        fs::write(&file, longer).unwrap();
        bench.expect_poll_failure("aximum size");
        bench.recovers("1.2.0");
    }
}

impl Bench {
    /// Has the channel hold `version`, with these withdrawn.
    fn back(&mut self, version: &str, withdrawn: &[&str]) {
        self.serial += 1;
        let text = serde_json::json!({
            "format": 1, "serial": self.serial, "pack": "demo", "rules": [{"version": version}], "withdrawn": withdrawn
        });
        self.repository.set("channels/prod/demo.json", text.to_string());
    }
}

#[test]
fn a_channel_goes_back_by_a_signed_rollback_only() {
    let mut bench = Bench::published();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
    bench.back("1.0.0", &[]);
    bench.repository.publish();
    bench.expect_failure("choose", "1.1.0 is active and newer");
    bench.back("1.0.0", &["1.2.0"]);
    bench.repository.publish();
    bench.expect_failure("choose", "1.1.0 is active and newer");
    bench.back("1.0.0", &["1.1.0"]);
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"), "{:?}", bench.status());
    bench.recovers("1.2.0");
}

/// A withdrawn version loses its definitions, whether it was active or replaced before; one that is activated again has them.
#[test]
fn the_definitions_of_what_was_withdrawn_go_at_once() {
    let mut bench = Bench::published();
    bench.poll().unwrap();
    bench.recovers("1.2.0");
    let home = bench.config.paths.packs.join("demo");
    let version = |number: &str| {
        let entries = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path());
        let wanted = format!("{number}-");
        entries.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&wanted)).unwrap()
    };
    let defined = |number: &str| version(number).join(".bolt/pack.json").exists();
    assert!(defined("1.0.0") && defined("1.1.0") && defined("1.2.0"));
    bench.back("1.0.0", &["1.1.0", "1.2.0"]);
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"), "{:?}", bench.status());
    assert!(defined("1.0.0") && !defined("1.1.0") && !defined("1.2.0"));
    let files = fs::metadata(version("1.2.0").join("actions")).unwrap();
    bench.back("1.2.0", &["1.1.0"]);
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.2.0"), "{:?}", bench.status());
    assert!(defined("1.2.0") && !version("1.2.0").join(".bolt.withdrawn").exists());
    let same = |a: &fs::Metadata, b: &fs::Metadata| {
        use std::os::unix::fs::MetadataExt;
        a.ino() == b.ino()
    };
    assert!(same(&files, &fs::metadata(version("1.2.0").join("actions")).unwrap()), "what runs in it keeps its files");
}

#[test]
fn rollback_of_a_channels_serial() {
    let mut bench = Bench::published();
    bench.poll().unwrap();
    // Targets of a higher version with a previous channel file: by mistake, or by an attacker with the targets key.
    bench.serial = 0;
    bench.back("1.0.0", &["1.1.0"]);
    bench.repository.publish();
    bench.expect_failure("choose", "channel prod of demo is at serial 1, but serial 2 was seen before");
    bench.serial = 2;
    bench.recovers("1.2.0");
}

#[test]
fn an_old_channel_file_shown_again_by_whoever_has_the_online_keys() {
    let mut bench = Bench::published();
    let old = fs::read(bench.repository.target_file("channels/prod/demo.json")).unwrap();
    bench.poll().unwrap();
    bench.offer("demo", "1.2.0", &pack("demo", "1.2.0"));
    bench.repository.publish();
    bench.poll().unwrap();
    // The file itself: it is not the one that was signed.
    bench.offer("demo", "1.3.0", &pack("demo", "1.3.0"));
    bench.repository.publish();
    fs::write(bench.repository.target_file("channels/prod/demo.json"), old).unwrap();
    bench.expect_failure("choose", "cannot read channels/prod/demo.json");
    // The targets that named it: they are older than what was seen.
    bench.repository.versions[TARGETS] = 2;
    bench.repository.versions[SNAPSHOT] += 1;
    bench.repository.versions[TIMESTAMP] += 1;
    bench.repository.write();
    bench.expect_poll_failure("targets");
}

#[test]
fn a_repository_whose_root_is_not_trusted_here() {
    let mut bench = Bench::active();
    let mut other = Repository::new(&bench.temp.path().join("other"));
    other.publish();
    bench.config.repository.url = format!("file://{}", bench.temp.path().join("other").display());
    bench.expect_poll_failure("cannot verify");
}
