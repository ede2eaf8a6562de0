//! Whole polls against signed repositories: the way through, and each fault, which leaves what is active as it was.

pub(super) mod archive;
mod attacks;
mod bench;
mod delegates;
mod hostile;
mod packs;
mod polls;
mod push;
mod repository;
mod site;
mod venvs;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use packs_schema::agent::rest::FailedVersion;
use packs_schema::agent::store::{Manifest, StoredPack};
use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::pack::action::Action;
use tar::EntryType;

use super::*;
use archive::{Item, archive, file, pack, script, special};
use bench::{Bench, tree};
use repository::Repository;

#[test]
fn a_pack_goes_from_the_repository_to_active() {
    let bench = Bench::active();
    let current = bench.store().join("demo/current");
    let action: Action = serde_json::from_slice(&fs::read(current.join(".bolt/actions/hello.json")).unwrap()).unwrap();
    assert_eq!(action.reference().as_str(), "demo.hello");
    let manifest: Manifest = serde_json::from_slice(&fs::read(current.join(".bolt/manifest.json")).unwrap()).unwrap();
    let paths: Vec<&str> = manifest.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["actions/hello.sh", "actions/hello.yaml", "pack.yaml"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&current.join("actions/hello.sh")), 0o755);
    assert_eq!(mode(&current.join("pack.yaml")), 0o644);
    for directory in [bench.store(), bench.store().join("demo"), current.clone(), current.join(".bolt/actions")] {
        assert_eq!(mode(&directory), 0o755, "{}", directory.display());
    }
    assert_eq!(mode(&bench.store().join(".status.json")), 0o644);
    let status = bench.status();
    assert!(status.failure.is_none() && status.failed.is_empty() && !status.expired);
    assert_eq!((status.polls, status.failures, status.succeeded_at_ms), (1, 0, Some(status.polled_at_ms)));
    let before = tree(&bench.store().join("demo"));
    bench.poll().unwrap();
    assert_eq!(tree(&bench.store().join("demo")), before);
    assert_eq!(bench.status().polls, 2);
}

#[test]
fn a_higher_version_replaces_and_those_before_it_are_kept_for_their_executions() {
    let mut bench = Bench::active();
    for version in ["1.1.0", "1.2.0", "1.3.0"] {
        bench.offer("demo", version, &pack("demo", version));
        bench.repository.publish();
        bench.poll().unwrap();
        assert_eq!(bench.current("demo").as_deref(), Some(version));
    }
    assert_eq!(versions(&bench), ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
}

/// The versions of demo that are on the disk.
fn versions(bench: &Bench) -> Vec<String> {
    let mut kept: Vec<String> = fs::read_dir(bench.store().join("demo"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| super::store::parse_version_directory(&name).map(|v| v.to_string()))
        .collect();
    kept.sort();
    kept
}

#[test]
fn a_wrong_signature_stops_the_poll() {
    let mut bench = Bench::active();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    let file = bench.repository.metadata().join("timestamp.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"version\": 2", "\"version\": 3")).unwrap();
    let error = bench.expect_poll_failure("timestamp");
    assert!(matches!(error, SyncError::Metadata(_)), "{error:?}");
    assert_eq!(bench.status().failures, 1);
}

#[test]
fn metadata_of_another_repository_stop_the_poll() {
    let mut bench = Bench::active();
    let mut other = Repository::new(&bench.temp.path().join("other"));
    other.publish();
    other.publish();
    fs::copy(other.metadata().join("timestamp.json"), bench.repository.metadata().join("timestamp.json")).unwrap();
    bench.expect_poll_failure("timestamp");
    bench.repository.publish();
    bench.poll().unwrap();
}

#[test]
fn an_archive_that_is_not_the_signed_one_is_refused() {
    type Fault = fn(Vec<u8>) -> Vec<u8>;
    let faults: [(&str, Fault); 3] = [
        ("Hash mismatch", |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("Hash mismatch", |bytes| bytes[..bytes.len() - 1].to_vec()),
        ("Maximum size", |bytes| [bytes, vec![0; 100_000]].concat()),
    ];
    for (words, fault) in faults {
        let mut bench = Bench::active();
        bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
        bench.repository.publish();
        let file = bench.repository.target_file("packs/demo/1.1.0.tar.gz");
        fs::write(&file, fault(fs::read(&file).unwrap())).unwrap();
        let failed = bench.expect_failure("fetch", words);
        assert_eq!(failed.version.unwrap().to_string(), "1.1.0");
        fs::remove_file(&file).unwrap();
        bench.expect_failure("fetch", "cannot fetch packs/demo/1.1.0.tar.gz: No such file");
    }
}

#[test]
fn an_archive_over_the_cap_is_not_fetched() {
    let mut bench = Bench::active();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    bench.config.repository.max_pack = packs_schema::base::quantity::Bytes(100);
    bench.expect_failure("fetch", "repository.max_pack allows 100");
}

#[test]
fn a_lower_version_and_a_changed_one_are_refused() {
    let mut bench = Bench::active();
    bench.offer("demo", "0.9.0", &pack("demo", "0.9.0"));
    bench.repository.publish();
    bench.expect_failure("choose", "1.0.0 is active and newer");
    let mut items = pack("demo", "1.0.0");
    items.push(file("note.txt", "changed"));
    bench.offer("demo", "1.0.0", &items);
    bench.repository.publish();
    bench.expect_failure("choose", "another content");
}

#[test]
fn a_channel_file_that_cannot_be_read_fails_its_pack() {
    let mut bench = Bench::active();
    let head = "\"format\":1,\"serial\":9,\"pack\":\"demo\"";
    for (content, words) in [
        ("{", "cannot read"),
        ("{HEAD,\"rules\":[{\"version\":\"1.1.0\",\"version\":\"9.0.0\"}]}", "duplicate key"),
        ("{HEAD,\"rules\":[{\"version\":\"1.1.0\",\"percentage\":1}]}", "percentage"),
        ("{HEAD,\"rules\":[{\"version\":\"1.1.0\"}],\"force\":true}", "force"),
        ("{\"format\":2,\"serial\":9,\"pack\":\"demo\",\"rules\":[{\"version\":\"1.1.0\"}]}", "format 2"),
        ("{\"format\":1,\"serial\":9,\"pack\":\"other\",\"rules\":[{\"version\":\"1.1.0\"}]}", "is about pack other"),
        ("{HEAD,\"rules\":[{\"version\":\"1.1.0\",\"percent\":101}]}", "101"),
        ("{HEAD,\"rules\":[{\"version\":\"1.1.0\"}]}", "no target packs/demo/1.1.0.tar.gz"),
    ] {
        bench.repository.set("channels/prod/demo.json", content.replace("HEAD", head));
        bench.repository.publish();
        bench.expect_failure("choose", words);
    }
}

#[test]
fn expired_metadata_activate_nothing() {
    let mut bench = Bench::active();
    bench.repository.timestamp_expires = -60;
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    bench.expect_poll_failure("timestamp metadata have expired");
    assert!(bench.status().expired);
    bench.repository.timestamp_expires = 3600;
    bench.repository.publish();
    bench.poll().unwrap();
    assert!(!bench.status().expired);
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
}

#[test]
fn an_older_state_is_refused_also_when_only_our_marks_remember() {
    let mut bench = Bench::active();
    let file = bench.repository.metadata().join("timestamp.json");
    let old = fs::read(&file).unwrap();
    bench.repository.publish();
    bench.poll().unwrap();
    fs::write(&file, old).unwrap();
    bench.expect_poll_failure("previously fetched version 2");
    // The library's memory is gone, ours is not.
    for entry in fs::read_dir(bench.store().join(".tuf")).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("marks.json") {
            fs::remove_file(path).unwrap();
        }
    }
    let error = bench.expect_poll_failure("version 2 was seen before");
    assert!(matches!(error, SyncError::Older { .. }), "{error:?}");
    fs::write(bench.store().join(".tuf/marks.json"), "{").unwrap();
    bench.expect_poll_failure("damaged");
}

#[test]
fn a_root_may_replace_its_keys_and_restart_versions() {
    let mut bench = Bench::active();
    for _ in 0..3 {
        bench.repository.publish();
        bench.poll().unwrap();
    }
    bench.repository.rotate();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
    fs::remove_file(bench.repository.metadata().join("2.root.json")).unwrap();
    assert!(bench.poll().is_err(), "the old root was taken back");
}

#[test]
fn hostile_archives_are_refused_and_nothing_leaves_staging() {
    let good = || pack("demo", "1.1.0");
    let with = |item: Item| [good(), vec![item]].concat();
    let cases: Vec<(&str, Vec<Item>)> = vec![
        ("absolute", with(file("/tmp/bolt-evil", "x"))),
        ("'..'", with(file("../evil", "x"))),
        ("'..'", with(file("actions/../../evil", "x"))),
        ("hidden", with(file(".bolt/pack.json", "{}"))),
        ("type Symlink", with(special("link", EntryType::Symlink, Some("/etc/passwd")))),
        ("type Link", with(special("hard", EntryType::Link, Some("pack.yaml")))),
        ("type Char", with(special("device", EntryType::Char, None))),
        ("type Block", with(special("device", EntryType::Block, None))),
        ("type Fifo", with(special("pipe", EntryType::Fifo, None))),
        ("type XHeader", with(special("pax", EntryType::XHeader, None))),
        ("type GNULongName", with(special("long", EntryType::GNULongName, None))),
        ("type GNUSparse", with(special("sparse", EntryType::GNUSparse, None))),
        ("set-id", with(Item { mode: 0o4755, ..script("actions/root.sh", "#!/bin/sh\n") })),
        ("set-id", with(Item { mode: 0o2755, ..special("dir/", EntryType::Directory, None) })),
        ("twice", with(file("pack.yaml", "name: evil\nversion: 1.1.0\n"))),
        ("twice", with(Item { mode: 0o755, ..special("actions/", EntryType::Directory, None) })),
        ("case only", with(file("PACK.yaml", "name: evil\nversion: 1.1.0\n"))),
        ("conflicts with", with(file("Actions/x", "x"))),
        ("conflicts with", with(file("pack.yaml/x", "x"))),
        ("letters, digits", with(file("a b", "x"))),
        ("letters, digits", with(file("new\nline", "x"))),
        ("unpacks to more", with(file("zeros", vec![0; 4 << 20]))),
        ("more than 10000 files", (0..10_001).map(|n| file(&format!("f{n}"), "")).collect()),
    ];
    for (words, items) in cases {
        let mut bench = Bench::active();
        bench.offer("demo", "1.1.0", &items);
        bench.repository.publish();
        let failed = bench.expect_failure("unpack", words);
        assert_eq!(failed.version.unwrap().to_string(), "1.1.0");
        assert!(!bench.temp.path().join("evil").exists() && !bench.store().join("evil").exists());
    }
    assert!(!Path::new("/tmp/bolt-evil").exists());
}

#[test]
fn a_file_that_is_no_archive_is_refused() {
    let whole = archive(&pack("demo", "1.1.0"));
    for bytes in [b"not gzip".to_vec(), whole[..whole.len() / 2].to_vec(), Vec::new()] {
        let mut bench = Bench::active();
        bench.offer_bytes("demo", "1.1.0", bytes, "");
        bench.repository.publish();
        let before = bench.current("demo");
        bench.poll().unwrap();
        assert_eq!(bench.status().failed.len(), 1);
        assert_eq!(bench.current("demo"), before);
    }
}

#[test]
fn a_pack_that_fails_its_check_is_not_activated() {
    let replaced = |path: &str, item: Item| {
        let mut items = pack("demo", "1.1.0");
        items.retain(|i| i.path != path);
        items.push(item);
        items
    };
    let without = |path: &str| pack("demo", "1.1.0").into_iter().filter(|i| i.path != path).collect::<Vec<_>>();
    let twice = format!("{}name: again\n", archive::ACTION);
    for (words, items) in [
        ("entry_point_missing", without("actions/hello.sh")),
        ("entry_point_not_executable", replaced("actions/hello.sh", file("actions/hello.sh", "#!/bin/sh\n"))),
        ("entry_point_no_shebang", replaced("actions/hello.sh", script("actions/hello.sh", "echo\n"))),
        ("actions/hello.yaml: line 6", replaced("actions/hello.yaml", file("actions/hello.yaml", twice))),
        ("no_pack_file", without("pack.yaml")),
        ("is demo 1.2.0, not the demo 1.1.0", pack("demo", "1.2.0")),
        ("is other 1.1.0, not the demo 1.1.0", pack("other", "1.1.0")),
        ("bad_requirement", [pack("demo", "1.1.0"), vec![file("requirements.txt", "-r /etc/passwd\n")]].concat()),
    ] {
        let mut bench = Bench::active();
        bench.offer("demo", "1.1.0", &items);
        bench.repository.publish();
        bench.expect_failure("check", words);
    }
}

#[test]
fn one_failed_pack_does_not_stop_the_others() {
    let mut bench = Bench::active();
    bench.offer_bytes("bad", "1.0.0", b"no archive".to_vec(), "");
    bench.offer("zeta", "1.0.0", &pack("zeta", "1.0.0"));
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("zeta").as_deref(), Some("1.0.0"));
    let status = bench.status();
    assert_eq!(status.failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["bad"]);
    assert!(status.failure.is_none() && status.succeeded_at_ms.is_some());
}

#[test]
fn a_channel_may_leave_an_instance_out() {
    let mut bench = Bench::active();
    for more in [",\"percent\":0", ",\"where\":\"app == 'db'\""] {
        bench.offer_bytes("demo", "1.1.0", archive(&pack("demo", "1.1.0")), more);
        bench.repository.publish();
        bench.poll().unwrap();
        assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"), "{more}");
        assert!(bench.status().failed.is_empty());
    }
    let more = ",\"percent\":100,\"where\":\"app == 'web'\"";
    bench.offer_bytes("demo", "1.1.0", archive(&pack("demo", "1.1.0")), more);
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
}

/// Taken back, with nothing else for this instance: nothing is active, until there is something again.
#[test]
fn a_withdrawn_version_without_an_alternative_is_deactivated() {
    let mut bench = Bench::active();
    bench.take_back("1.0.0");
    bench.poll().unwrap();
    assert_eq!(bench.current("demo"), None);
    assert!(bench.status().failed.is_empty());
    assert_eq!(versions(&bench).len(), 1, "what runs in it goes on");
    bench.poll().unwrap();
    assert_eq!(bench.current("demo"), None);
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
}

#[test]
fn a_pack_that_left_the_channel_stays_active() {
    let mut bench = Bench::active();
    bench.repository.remove("channels/prod/demo.json");
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"));
}

#[test]
fn two_syncs_never_overlap_and_leftovers_are_swept() {
    let bench = Bench::active();
    let stale = bench.store().join(".staging/demo-0123456789ab");
    fs::create_dir_all(stale.join("actions")).unwrap();
    {
        let _held = super::store::Store::open(&bench.store()).unwrap();
        assert!(!stale.exists());
        assert!(matches!(bench.poll(), Err(SyncError::Busy(_))));
    }
    bench.poll().unwrap();
}

#[test]
fn a_missing_root_or_repository_fails_the_poll_and_keeps_what_is_active() {
    let mut bench = Bench::active();
    let (root, url) = (bench.config.repository.root.clone(), bench.config.repository.url.clone());
    bench.config.repository.root = "/nonexistent/root.json".into();
    bench.expect_poll_failure("/nonexistent/root.json");
    bench.config.repository.root = root;
    bench.config.repository.url = "file:///nonexistent".into();
    bench.expect_poll_failure("there is no directory /nonexistent");
    bench.config.repository.url = url;
    bench.poll().unwrap();
    let status = bench.status();
    assert_eq!((status.polls, status.failures), (4, 2));
}

#[test]
fn the_process_refuses_to_be_root() {
    if nix::unistd::geteuid().is_root() {
        assert!(matches!(run(Path::new("/nonexistent"), Work::Poll(Occasion::Due)), Err(SyncError::Root)));
    } else {
        let _ = writeln!(std::io::stderr(), "SKIPPED the_process_refuses_to_be_root: the tests do not run as root");
    }
}
