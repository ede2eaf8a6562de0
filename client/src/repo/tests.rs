//! Repositories in real directories, with real keys.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::delivery::filter::Filter;

use super::*;
use crate::files::FileError;
use crate::pack;

mod archives;
pub(crate) mod attacks;
mod growth;
mod prune;
mod removed;
mod rollouts;
mod signing;
mod teams;
mod trust;

pub(crate) struct Bench {
    temp: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let bench = Bench { temp: tempfile::tempdir().unwrap() };
        pack::scaffold(&PackName::new("demo").unwrap(), pack::Template::Script, &bench.at("demo")).unwrap();
        init(&InitOptions::new(bench.at("repo"), bench.at("keys"))).unwrap();
        bench
    }
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }
    pub(crate) fn version(&self, version: &str) {
        let file = self.at("demo/pack.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let lines =
            text.lines().map(|l| if l.starts_with("version:") { format!("version: {version}") } else { l.into() });
        fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
    pub(crate) fn options(&self, channel: &str) -> PublishOptions {
        let channels = vec![ChannelName::new(channel).unwrap()];
        PublishOptions::new(self.at("demo"), self.at("repo"), self.at("keys"), channels)
    }
    fn status(&self) -> Status {
        status(&self.view()).unwrap()
    }
    fn view(&self) -> View {
        View::pinned(self.at("repo"), self.at("keys"))
    }
}

/// Every file below `directory` with its content.
pub(crate) fn snapshot(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn what_is_published_stands_in_the_status() {
    let bench = Bench::new();
    assert!(bench.status().versions.is_empty());
    let published = publish(&bench.options("dev")).unwrap();
    assert!(published.new);
    assert_eq!(published.timestamp_version, 2);
    let mut options = bench.options("prod");
    options.percent = Some(25);
    options.filter = Some(Filter::new("app == \"web\"").unwrap());
    assert!(!publish(&options).unwrap().new);

    let status = bench.status();
    assert_eq!(status.versions.len(), 1);
    assert_eq!(status.versions[0].digest, published.digest.as_str());
    let channels: Vec<_> = status.channels.iter().map(|c| (c.channel.as_str(), c.percent)).collect();
    assert_eq!(channels, [("dev", 100), ("prod", 25)]);
    assert_eq!(status.channels[1].filter.as_deref(), Some("app == \"web\""));
    assert_eq!(status.roles.iter().map(|r| r.version).collect::<Vec<_>>(), [1, 3, 3, 3]);
    assert!(status.roles.iter().all(|r| !r.expired && r.threshold == 1 && r.keys.len() == 1));
}

#[test]
fn keys_are_private_and_never_written_over() {
    let bench = Bench::new();
    assert_eq!(fs::metadata(bench.at("keys")).unwrap().mode() & 0o777, 0o700);
    for key in ["root", "targets", "snapshot", "timestamp"] {
        let meta = fs::metadata(bench.at(&format!("keys/{key}.pem"))).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o600, "{key}");
    }
    let again = init(&InitOptions::new(bench.at("other"), bench.at("keys"))).unwrap_err();
    assert!(matches!(again, RepoError::Key(FileError::Exists(_))), "{again}");
    assert!(!bench.at("other").exists());
    let again = init(&InitOptions::new(bench.at("repo"), bench.at("keys2"))).unwrap_err();
    assert!(matches!(again, RepoError::Exists(_)), "{again}");
    fs::set_permissions(bench.at("keys/targets.pem"), Permissions::from_mode(0o644)).unwrap();
    let exposed = publish(&bench.options("dev")).unwrap_err();
    assert!(matches!(exposed, RepoError::Key(FileError::Exposed { .. })), "{exposed}");
}

#[test]
fn a_version_never_changes_and_a_channel_only_goes_forward() {
    let bench = Bench::new();
    bench.version("1.10.0");
    publish(&bench.options("dev")).unwrap();
    let before = snapshot(&bench.at("repo"));
    fs::write(bench.at("demo/note.txt"), "changed").unwrap();
    let taken = publish(&bench.options("dev")).unwrap_err();
    assert!(matches!(taken, RepoError::Release(ReleaseError::VersionTaken { .. })), "{taken}");
    bench.version("1.9.0");
    let lower = publish(&bench.options("dev")).unwrap_err();
    assert!(matches!(lower, RepoError::Release(ReleaseError::Lower { .. })), "{lower}");
    assert_eq!(snapshot(&bench.at("repo")), before);
    publish(&bench.options("test")).unwrap();
    bench.version("1.11.0");
    publish(&bench.options("dev")).unwrap();
    let versions: Vec<_> = bench.status().versions.iter().map(|v| v.version.to_string()).collect();
    assert_eq!(versions, ["1.9.0", "1.10.0", "1.11.0"]);
}

#[test]
fn a_second_publisher_waits_outside() {
    let bench = Bench::new();
    let lock = fs::File::create(bench.at("repo/.lock")).unwrap();
    lock.lock().unwrap();
    let busy = publish(&bench.options("dev")).unwrap_err();
    assert!(matches!(busy, RepoError::Busy(_)), "{busy}");
    drop(lock);
    publish(&bench.options("dev")).unwrap();
}

#[test]
fn metadata_that_were_changed_without_a_key_are_refused() {
    let bench = Bench::new();
    publish(&bench.options("dev")).unwrap();
    let file = bench.at("repo/metadata/timestamp.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"version\":2", "\"version\":9")).unwrap();
    let error = publish(&bench.options("dev")).unwrap_err();
    assert!(matches!(error, RepoError::Tuf { .. }), "{error}");
}

#[test]
fn keys_of_another_repository_cannot_sign() {
    let bench = Bench::new();
    init(&InitOptions::new(bench.at("repo2"), bench.at("keys2"))).unwrap();
    let mut options = bench.options("dev");
    options.keys = bench.at("keys2");
    let before = snapshot(&bench.at("repo"));
    let error = publish(&options).unwrap_err();
    assert!(matches!(error, RepoError::Tuf { .. }), "another root is pinned beside them: {error:?}");
    options.root = Some(bench.at("keys/root.json"));
    let error = publish(&options).unwrap_err();
    assert!(matches!(error, RepoError::Keys(KeyError::OtherKeys { .. })), "{error:?}");
    assert!(!bench.at("keys2/marks.json").exists(), "they may be in use for another repository");
    let mut after = snapshot(&bench.at("repo"));
    after.retain(|(path, _)| !path.ends_with(".lock"));
    assert_eq!(after, before, "nothing was left behind");
}

#[test]
fn nothing_is_published_under_a_root_that_has_expired() {
    let bench = Bench::new();
    let mut options = InitOptions::new(bench.at("repo2"), bench.at("keys2"));
    options.expiry.root = Duration::ZERO;
    init(&options).unwrap();
    let mut options = bench.options("dev");
    (options.repository, options.keys) = (bench.at("repo2"), bench.at("keys2"));
    let error = publish(&options).unwrap_err();
    assert!(matches!(error, RepoError::RootExpired(_)), "{error}");
}

#[test]
fn expired_metadata_are_renewed_by_the_next_publish() {
    let bench = Bench::new();
    let mut options = bench.options("dev");
    options.expiry.timestamp = Duration::ZERO;
    publish(&options).unwrap();
    assert!(bench.status().roles.iter().any(|role| role.role == "timestamp" && role.expired));
    publish(&bench.options("dev")).unwrap();
    assert!(bench.status().roles.iter().all(|role| !role.expired));
}

#[test]
fn a_root_may_need_several_keys() {
    let bench = Bench::new();
    let mut options = InitOptions::new(bench.at("repo2"), bench.at("keys2"));
    (options.root_keys, options.root_threshold) = (3, 2);
    assert_eq!(init(&options).unwrap().keys.len(), 6);
    let status = status(&View::pinned(bench.at("repo2"), bench.at("keys2"))).unwrap();
    assert_eq!((status.roles[0].threshold, status.roles[0].keys.len()), (2, 3));
    options.root_threshold = 4;
    options.repository = bench.at("repo3");
    assert!(matches!(init(&options).unwrap_err(), RepoError::Keys(KeyError::Threshold { .. })));
}

#[test]
fn only_directories_and_buckets_can_be_written() {
    let bench = Bench::new();
    let mut options = bench.options("dev");
    options.repository = "https://bucket/prefix".into();
    assert!(matches!(publish(&options).unwrap_err(), RepoError::Location(_)));
    for wrong in [
        "s3:bucket",
        "s3://b",
        "s3://bucket/a//b",
        "s3://bucket/a?shape=round",
        "s3://bucket/a?endpoint=http://10.0.0.1",
    ] {
        options.repository = wrong.into();
        assert!(matches!(publish(&options).unwrap_err(), RepoError::Address { .. }), "{wrong}");
    }
    options.repository = bench.at("nothing");
    assert!(matches!(publish(&options).unwrap_err(), RepoError::NoRepository(_)));
    options.repository = format!("file://{}", bench.at("repo").display()).into();
    publish(&options).unwrap();
}
