//! A repository that was tampered with: nothing of it is activated, what was active stays and runs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bolt_client::local::LocalAgent;
use bolt_client::repo::{PublishOptions, publish, publish_archive};
use bolt_tests::http::Call;
use bolt_tests::{Operator, PackSource, World, is_root, skip};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Health, PackList};
use packs_schema::base::name::ChannelName;
use serde_json::json;
use tar::{EntryType, Header};

use crate::calls::until;

struct Case {
    world: World,
    agent: LocalAgent,
}

impl Case {
    fn operator(&self) -> Operator {
        self.world.operator(&self.agent)
    }

    /// An agent with the probe pack 1.0.0 active, in a repository that now offers 1.1.0.
    fn new() -> Case {
        let world = World::with_probe();
        let agent = world.agent();
        world.publish(&PackSource::probe().version("1.1.0"));
        Case { world, agent }
    }

    /// Asks for a poll, and waits for its end.
    async fn sync(&self) -> PackList {
        let before = self.agent.sync_status().map_or(0, |s| s.polls);
        let answer = self.operator().send(Call::post("/v1/packs/sync", "")).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        until("a poll", async || self.agent.sync_status().is_some_and(|s| s.polls > before)).await;
        self.operator().send(Call::get("/v1/packs")).await.json()
    }

    /// The next poll must refuse with `reason`, say so once in each place, and leave 1.0.0 running.
    async fn refused(&self, reason: &str) {
        self.refused_keeping("1.0.0", reason).await;
    }

    async fn refused_keeping(&self, active: &str, reason: &str) {
        let logged = self.log().len();
        let packs = self.sync().await;
        let probe = packs.items.iter().find(|pack| pack.name.as_str() == "probe").unwrap();
        assert_eq!(probe.version.as_ref().map(ToString::to_string).as_deref(), Some(active), "{packs:?}");
        let status = packs.sync.as_ref().unwrap();
        let said: Vec<&String> =
            status.failure.iter().chain(probe.failed.iter().map(|failed| &failed.message)).collect();
        let [said] = said[..] else { panic!("it is not said once: {packs:?}") };
        assert!(said.to_lowercase().contains(reason), "{said:?} does not name {reason:?}");
        assert!(!said.contains('\n') && said.len() < 600, "{said:?}");

        let health: Health = self.operator().send(Call::get("/v1/health")).await.json();
        let [why] = &health.reasons[..] else { panic!("it is not said once: {health:?}") };
        assert!(health.ready && health.degraded && why.message.contains(said), "{health:?}");
        let code = match (probe.failed.is_some(), status.expired) {
            (true, _) => "pack_failed",
            (_, true) => "metadata_expired",
            _ => "sync_failed",
        };
        assert_eq!(why.code, code);

        let metrics = self.operator().send(Call::get("/v1/metrics")).await.text();
        let (packs, polls) = if probe.failed.is_some() { (1, 0) } else { (0, 1) };
        for line in [
            format!("bolt_sync_packs_failed {packs}"),
            format!("bolt_sync_failures_total {polls}"),
            format!("bolt_sync_expired {}", u8::from(status.expired)),
        ] {
            assert!(metrics.lines().any(|other| other == line), "no {line:?} in {metrics}");
        }

        until("the end of the sync", async || self.log()[logged..].contains("sync failed") || probe.failed.is_some())
            .await;
        let log = self.log()[logged..].to_owned();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).collect();
        let [line] = lines[..] else { panic!("it is not said once: {log}") };
        assert!(line.replace("\\\"", "\"").contains(said.as_str()), "{line} is not {said}");

        let hello = self.operator().run("probe.hello", json!({})).await;
        assert_eq!((hello.state, hello.version.to_string()), (State::Succeeded, active.to_owned()));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.agent.log()).unwrap()
    }

    /// An agent with the probe pack 1.0.0 active, in a repository that now offers `archive` as 1.1.0, signed with the right keys.
    fn signed(archive: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Case {
        let world = World::with_probe();
        let agent = world.agent();
        let directory = PackSource::probe().version("1.1.0").write(&world.scratch("signed"));
        let built = bolt_client::pack::build(&directory).unwrap();
        let options = PublishOptions::new("", world.site.repository(), world.site.keys(), vec![prod()]);
        publish_archive(&archive(built.archive.to_vec().unwrap()), built.pack, &options).unwrap();
        Case { world, agent }
    }

    /// Like [`Case::signed`], with `entry` appended to a valid archive.
    fn with_entry(kind: EntryType, path: &str, link: &str) -> Case {
        Case::signed(|archive| append(&archive, kind, path, link))
    }

    /// Like [`Case::signed`], with this file of the pack replaced.
    fn with_file(path: &str, text: &str, mode: u32) -> Case {
        Case::signed(|_| raw(&PackSource::probe().version("1.1.0").file(path, text, mode)))
    }

    /// An agent with the probe pack 1.1.0 active, and the repository as it was before that.
    fn with_an_older_state() -> (Case, PathBuf) {
        let world = World::with_probe();
        let old = world.scratch("old");
        copy(&world.site.repository(), &old);
        world.publish(&PackSource::probe().version("1.1.0"));
        let agent = world.agent();
        (Case { world, agent }, old)
    }

    fn become_state(&self, old: &Path) {
        fs::remove_dir_all(self.world.site.repository()).unwrap();
        fs::create_dir(self.world.site.repository()).unwrap();
        copy(old, &self.world.site.repository());
    }

    fn find(&self, end: &str) -> PathBuf {
        let mut found = files(&self.world.site.repository());
        found.retain(|path| path.to_string_lossy().ends_with(end));
        found.pop().unwrap_or_else(|| panic!("no file ends with {end}"))
    }

    fn edit(&self, end: &str, edit: impl Fn(Vec<u8>) -> Vec<u8>) {
        let path = self.find(end);
        fs::write(&path, edit(fs::read(&path).unwrap())).unwrap();
    }
}

/// `archive` with one more entry at its end.
fn append(archive: &[u8], kind: EntryType, path: &str, link: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(archive).read_to_end(&mut tar).unwrap();
    // Before the two blocks of zeros that end an archive. The names are written as they are: `tar` would refuse them.
    tar.truncate(tar.len() - 1024);
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(&[0; 1024]);
    gzip(&tar)
}

/// `archive` with a link that leads out of it.
pub(crate) fn linked(archive: &[u8]) -> Vec<u8> {
    append(archive, EntryType::Symlink, "actions/passwd", "/etc/passwd")
}

fn prod() -> ChannelName {
    ChannelName::new("prod").unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Returns the archive of a pack without checking it.
fn raw(pack: &PackSource) -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack.write(temp.path());
    let mut tar = tar::Builder::new(Vec::new());
    for file in files(&directory) {
        let path = file.strip_prefix(&directory).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(fs::metadata(&file).unwrap().len());
        header.set_mode(fs::metadata(&file).unwrap().permissions().mode() & 0o777);
        header.set_entry_type(EntryType::Regular);
        header.set_path(path).unwrap();
        header.set_cksum();
        tar.append(&header, fs::File::open(&file).unwrap()).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn nothing_wrong() {
    let case = Case::new();
    let packs = case.sync().await;
    assert_eq!(packs.items[0].version.as_ref().unwrap().to_string(), "1.1.0", "{packs:?}");
}

#[tokio::test]
async fn a_wrong_signature() {
    let case = Case::new();
    case.edit("timestamp.json", |text| {
        let mut value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        value["signed"]["expires"] = "2099-01-01T00:00:00Z".into();
        serde_json::to_vec(&value).unwrap()
    });
    case.refused("signature").await;
}

#[tokio::test]
async fn a_wrong_hash() {
    let case = Case::new();
    case.edit("1.1.0.tar.gz", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    case.refused("hash").await;
}

#[tokio::test]
async fn a_wrong_length() {
    let case = Case::new();
    case.edit("1.1.0.tar.gz", |bytes| [bytes.as_slice(), &[0; 100]].concat());
    case.refused("size").await;
}

#[tokio::test]
async fn a_missing_archive() {
    let case = Case::new();
    fs::remove_file(case.find("1.1.0.tar.gz")).unwrap();
    case.refused("1.1.0").await;
}

#[tokio::test]
async fn an_older_state_replayed() {
    let (case, old) = Case::with_an_older_state();
    case.become_state(&old);
    case.refused_keeping("1.1.0", "previously fetched version").await;
}

#[tokio::test]
async fn a_lower_version_in_the_channel() {
    // Signed with the right keys and newer than anything seen, except for an older channel file.
    let (case, old) = Case::with_an_older_state();
    case.become_state(&old);
    // Only a publisher that has forgotten what it saw builds on the older state.
    fs::remove_file(case.world.site.keys().join("marks.json")).unwrap();
    for version in ["1.0.0", "1.0.1", "1.0.2"] {
        case.world.publish(&PackSource::new("other", version).action("nothing", "", "#!/bin/true\n"));
    }
    case.refused_keeping("1.1.0", "channel prod of probe is at serial 1, but serial 2 was seen before").await;
}

#[tokio::test]
async fn metadata_that_have_expired() {
    let case = Case::new();
    let directory = PackSource::probe().version("1.2.0").write(&case.world.scratch("expired"));
    let mut options =
        PublishOptions::new(directory, case.world.site.repository(), case.world.site.keys(), vec![prod()]);
    options.expiry.timestamp = Duration::ZERO;
    publish(&options).unwrap();
    case.refused("timestamp metadata have expired by this host's clock").await;
}

#[tokio::test]
async fn a_link_in_a_signed_archive() {
    Case::with_entry(EntryType::Symlink, "actions/passwd", "/etc/passwd")
        .refused("actions/passwd is an entry of type symlink")
        .await;
}

#[tokio::test]
async fn an_absolute_path_in_a_signed_archive() {
    Case::with_entry(EntryType::Regular, "/tmp/bolt-evil", "").refused("/tmp/bolt-evil").await;
    assert!(!Path::new("/tmp/bolt-evil").exists());
}

#[tokio::test]
async fn a_path_out_of_a_signed_archive() {
    Case::with_entry(EntryType::Regular, "actions/../../../evil", "").refused("actions/../../../evil").await;
}

#[tokio::test]
async fn a_device_in_a_signed_archive() {
    Case::with_entry(EntryType::Char, "actions/null", "").refused("actions/null").await;
}

#[tokio::test]
async fn a_signed_file_that_is_no_archive() {
    Case::signed(|archive| archive[..archive.len() / 2].to_vec())
        .refused("cannot unpack the archive: incomplete deflate stream")
        .await;
}

#[tokio::test]
async fn an_entry_point_that_is_missing() {
    let yaml = "name: hello\ndescription: x\nrunner_type: local-shell-script\nentry_point: gone.sh\nbolt: {class: diagnostic}\n";
    Case::with_file("actions/hello.yaml", yaml, 0o644).refused("gone.sh is not in the pack").await;
}

#[tokio::test]
async fn an_entry_point_that_cannot_be_run() {
    Case::with_file("actions/hello.sh", "#!/bin/sh\n", 0o644).refused("entry_point_not_executable").await;
}

#[tokio::test]
async fn an_entry_point_outside_the_pack() {
    let yaml = "name: hello\ndescription: x\nrunner_type: local-shell-script\nentry_point: ../../../bin/sh\nbolt: {class: diagnostic}\n";
    Case::with_file("actions/hello.yaml", yaml, 0o644).refused("entry_point").await;
}

#[tokio::test]
async fn python_dependencies() {
    Case::with_file("requirements.txt", "--index-url https://elsewhere.example\n", 0o644)
        .refused("is an option of pip")
        .await;
}

#[tokio::test]
async fn a_repository_of_other_keys() {
    let case = Case::new();
    let other = World::with_probe();
    fs::remove_dir_all(case.world.site.repository()).unwrap();
    fs::rename(other.site.repository(), case.world.site.repository()).unwrap();
    case.refused("signature").await;
}

#[tokio::test]
async fn a_repository_that_is_gone() {
    let case = Case::new();
    fs::remove_dir_all(case.world.site.repository()).unwrap();
    case.refused("there is no directory").await;
}

#[tokio::test]
async fn a_repository_that_was_never_published() {
    let case = Case::new();
    fs::remove_file(case.world.site.repository().join("metadata/timestamp.json")).unwrap();
    case.refused("there is no repository at file:///").await;
}

#[tokio::test]
async fn a_repository_that_the_sync_cannot_read() {
    if !is_root() {
        return skip(
            "a_repository_that_the_sync_cannot_read",
            "root may read everything, and only it has another account",
        );
    }
    let case = Case::new();
    fs::set_permissions(case.world.site.repository().join("metadata"), fs::Permissions::from_mode(0o700)).unwrap();
    case.refused("cannot read the repository: ").await;
}

#[tokio::test]
async fn a_repository_that_was_copied_in_part() {
    let case = Case::new();
    let metadata = case.world.site.repository().join("metadata");
    let snapshots = fs::read_dir(&metadata).unwrap().map(|entry| entry.unwrap().path());
    for path in snapshots.filter(|path| path.to_string_lossy().ends_with(".snapshot.json")) {
        fs::remove_file(path).unwrap();
    }
    case.refused("the repository is incomplete: ").await;
}
