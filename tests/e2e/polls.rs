//! Polls of the repository by the real processes: what an idle one costs, and what a large pack does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::process::{assert_confined, niceness};
use bolt_tests::{Operator, PackSource, World, is_root, skip, spec, sync_peak_kb};
use packs_schema::agent::rest::{PackList, SyncStatus};

use crate::calls::until;

/// Returns inode, length and times of every file below `directory`, which every write changes.
fn inodes(directory: &Path) -> BTreeMap<PathBuf, [i64; 4]> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let size = meta.size().cast_signed();
        found.insert(path, [meta.ino().cast_signed(), size, meta.ctime(), meta.ctime_nsec()]);
    }
    found
}

async fn status(operator: &Operator) -> SyncStatus {
    let packs: PackList = operator.send(Call::get("/v1/packs")).await.json();
    packs.sync.unwrap()
}

/// The log without the requests of this test.
fn logged(agent: &LocalAgent) -> Vec<String> {
    let text = fs::read_to_string(agent.log()).unwrap();
    text.lines().filter(|line| !line.contains(" request request_id=")).map(str::to_owned).collect()
}

#[tokio::test]
async fn one_that_finds_nothing_new_writes_nothing_and_is_told_all_the_same() {
    let world = World::with_probe();
    let agent = world.start(&spec("i-1").set("repository", "poll", "1s"));
    let operator = world.operator(&agent);
    let store = agent.directory().join("packs");
    // The first one has ended when the launcher has noted it.
    until("the first poll", async || agent.directory().join("run/sync.json").exists()).await;
    let (before, log) = (inodes(&store), logged(&agent));
    let first = status(&operator).await;
    until("two more polls", async || status(&operator).await.polled_at_ms > first.polled_at_ms + 1500).await;
    let last = status(&operator).await;
    assert_eq!(inodes(&store), before);
    assert_eq!(logged(&agent), log, "nor does it log");
    assert_eq!((last.polls, last.succeeded_at_ms), (first.polls, Some(last.polled_at_ms)));
    let metrics = operator.send(Call::get("/v1/metrics")).await.text();
    let value = metrics.lines().find_map(|line| line.strip_prefix("bolt_sync_polled_seconds ")).unwrap();
    assert!(value.parse::<u64>().unwrap() > first.polled_at_ms / 1000, "{metrics}");
    // A new version is found without a request.
    world.publish(&PackSource::probe().version("1.1.0"));
    until("the new version", async || {
        let packs: PackList = operator.send(Call::get("/v1/packs")).await.json();
        packs.items[0].version.as_ref().unwrap().to_string() == "1.1.0"
    })
    .await;
}

#[tokio::test]
async fn one_with_a_pack_of_50_mb_stays_within_32_mb() {
    let world = World::empty();
    world.publish_large();
    let agent = world.agent();
    let peak_kb = sync_peak_kb(&agent).expect("it says so");
    println!("a sync with a pack of 50 MB: {peak_kb} kB at most");
    assert!(peak_kb <= 32 << 10, "{peak_kb} kB");
}

/// A sync that waits for the file of the root, which leaves time to inspect the process.
struct WaitingSync {
    pid: i32,
    /// A FIFO in the place of the file.
    root: PathBuf,
    text: Vec<u8>,
}

impl WaitingSync {
    /// Requests a sync and waits until it has bounded itself, which is its first work.
    async fn start(agent: &LocalAgent, operator: &Operator) -> WaitingSync {
        let launcher = agent.launcher_pid().unwrap();
        let root = agent.directory().join("etc/root.json");
        let text = fs::read(&root).unwrap();
        fs::remove_file(&root).unwrap();
        nix::unistd::mkfifo(&root, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o644)).unwrap();
        operator.send(Call::post("/v1/packs/sync", "")).await;
        let sync = || {
            let children = proc_file(&launcher, &format!("task/{launcher}/children"));
            let mut pids = children.split_whitespace();
            pids.find(|pid| proc_file(pid, "cmdline").contains("sync\0--config")).map(str::to_owned)
        };
        let limited = |pid: &String| {
            proc_file(pid, "limits").lines().any(|line| line.starts_with("Max open files") && line.contains(" 256 "))
        };
        until("a sync that has bounded itself", async || sync().as_ref().is_some_and(limited)).await;
        WaitingSync { pid: sync().unwrap().parse().unwrap(), root, text }
    }

    /// Writes the root, so that the sync continues.
    fn release(self) {
        fs::write(self.root, self.text).unwrap();
    }
}

/// Returns a file of a process below `/proc`; empty if the process has ended.
fn proc_file(pid: &impl std::fmt::Display, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

#[tokio::test]
async fn one_is_bounded_and_the_last_in_the_queue_for_the_processor() {
    let world = World::with_probe();
    let agent = world.agent();
    let sync = WaitingSync::start(&agent, &world.operator(&agent)).await;
    let limits = proc_file(&sync.pid, "limits");
    // The builder of virtual environments may raise its memory limit up to the second figure.
    let data = ("Max data size", ["268435456", "1073741824"]);
    for (name, most) in [data, ("Max cpu time", ["300"; 2]), ("Max core file size", ["0"; 2])] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        assert_eq!(line[name.len()..].split_whitespace().take(2).collect::<Vec<_>>(), most, "{limits}");
    }
    // The tests may run with a nice value of their own.
    assert_eq!(niceness(Some(sync.pid)), (niceness(None) + 10).min(19));
    sync.release();
}

#[tokio::test]
async fn one_runs_as_its_own_account_without_capabilities_and_with_a_filter() {
    const TEST: &str = "one_runs_as_its_own_account_without_capabilities_and_with_a_filter";
    if !is_root() {
        return skip(TEST, "accounts of their own need root");
    }
    let world = World::with_probe();
    let agent = world.agent();
    let accounts = world.site.accounts().unwrap();
    assert!(accounts.sync != 0 && accounts.sync != accounts.api, "{accounts:?}");
    let sync = WaitingSync::start(&agent, &world.operator(&agent)).await;
    assert_confined(sync.pid, accounts.sync);
    sync.release();
}
