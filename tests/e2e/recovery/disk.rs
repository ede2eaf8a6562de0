//! Disks that take no more. The state directory is a small tmpfs in a mount namespace of the test's own, in a process of its
//! own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{Operator, PackSource, World, is_root, skip, spec};
use packs_schema::agent::execution::reserve::{ACCEPT_BYTES, OUTPUT_BYTES};
use packs_schema::agent::execution::{Exit, State};
use packs_schema::agent::rest::{Code, Execution};
use serde_json::json;

use super::{directory, processes, shown};
use crate::calls::{refused, until};

/// Set in the process that is in the namespace.
const INSIDE: &str = "BOLT_TEST_INSIDE";

/// Returns true inside a mount namespace of its own; outside, runs `test` again in one.
pub(crate) fn within(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !is_root() {
        skip(test, "mounts of one's own need root");
        return false;
    }
    let probe = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip(test, "no mount namespace can be made here (unshare -m)");
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private"]).arg(own).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// An agent whose state directory is a disk of its own.
struct OnDisk {
    world: World,
    agent: LocalAgent,
    /// Actions that wait for it go on once it is there.
    go: PathBuf,
}

impl OnDisk {
    fn operator(&self) -> Operator {
        self.world.operator(&self.agent)
    }

    fn new(options: &str) -> OnDisk {
        let world = World::empty();
        let go = world.scratch("go").join("now");
        let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
        let pack = PackSource::probe()
            .action("patient", "bolt: {class: diagnostic}", &format!("#!/bin/sh\necho begun\n{wait}\necho ended\n"))
            // Numbered lines identify the kept part of the output.
            .action(
                "flood",
                "bolt: {class: diagnostic, grace: 200ms, output: {max: 1GiB}}",
                "#!/bin/sh\nexec seq -f '%015.0f' 0 100000000000\n",
            )
            .action(
                "tell",
                "bolt: {class: diagnostic}",
                &format!(
                    "#!/bin/sh\necho begun\n{wait}\nhead -c 50000 /dev/zero | tr '\\0' x | sed 's/.*/{{\"long\":\"&\"}}/' >$BOLT_RESULT\n"
                ),
            );
        world.publish(&pack);
        let mut agent = LocalAgent::prepare(&world.site, &spec("i-1")).unwrap();
        let state = agent.state();
        fs::create_dir(&state).unwrap();
        let owner = world.site.accounts().unwrap().api;
        let options = format!("{options},mode=0700,uid={owner},gid={owner}");
        mount(&["-t", "tmpfs", "-o", &options, "none"], &state);
        agent.launch().unwrap();
        agent.wait_ready().unwrap();
        OnDisk { world, agent, go }
    }

    fn state(&self) -> PathBuf {
        self.agent.state()
    }

    async fn started(&self, action: &str) -> Execution {
        let execution = self.operator().start(action, json!({})).await;
        self.operator().wait_for_output(&execution).await;
        execution
    }

    /// Waits for the exit record, which the shim writes by itself, and for the end of the shim.
    async fn exit(&self, execution: &Execution) -> Exit {
        let directory = directory(&self.agent, execution);
        until("its end", async || processes("bolt-shim", &directory).is_empty()).await;
        serde_json::from_slice(&fs::read(directory.join("exit")).unwrap()).unwrap()
    }

    fn let_go(&self) {
        fs::write(&self.go, "").unwrap();
    }

    fn free(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.state()).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }

    async fn refuses(&self) {
        let before = fs::read_dir(self.state().join("exec")).unwrap().count();
        for _ in 0..3 {
            let answer = self.operator().submit("probe.hello", json!({})).await;
            refused(&answer, Code::InsufficientStorage, "full");
        }
        let after = fs::read_dir(self.state().join("exec")).unwrap().count();
        assert_eq!(after, before, "a refused one leaves nothing");
        let health = self.operator().send(Call::get("/v1/health")).await;
        assert!(health.status.is_success() || health.status == 503, "{}", health.text());
    }

    async fn works(&self) {
        assert_eq!(self.operator().run("probe.hello", json!({})).await.state, State::Succeeded);
    }

    fn end(self) {
        let state = self.state();
        drop(self.agent);
        assert!(Command::new("umount").arg(&state).status().unwrap().success());
    }
}

fn mount(arguments: &[&str], at: &Path) {
    assert!(Command::new("mount").args(arguments).arg(at).status().unwrap().success());
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for chunk in [vec![0; 1 << 20], vec![0; 4096], vec![0; 1]] {
        while file.write_all(&chunk).is_ok() {}
    }
}

/// A disk on which not a byte is free: what is new is refused, and what runs ends, with its end on the disk at once.
#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_loses_nothing() {
    if !within("recovery::disk::a_full_disk_refuses_what_is_new_and_loses_nothing") {
        return;
    }
    let disk = OnDisk::new("size=12m");
    let (patient, tell) = (disk.started("probe.patient").await, disk.started("probe.tell").await);
    let filler = disk.state().join("filler");
    fill(&filler);
    disk.refuses().await;

    disk.let_go();
    let end = disk.exit(&patient).await;
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    let told = disk.exit(&tell).await;
    assert_eq!(told.state, State::Succeeded, "{told:?}");
    // Whole, when the api had given its reserve up by then for the end of the other.
    let whole = told.result.is_some();
    assert!(whole || told.result_error.unwrap().contains("No space left"), "a result goes before an end");

    fs::remove_file(&filler).unwrap();
    for execution in [&patient, &tell] {
        assert_eq!(disk.operator().wait(execution).await.state, State::Succeeded);
    }
    disk.works().await;
    disk.end();
}

/// An action that writes and writes: its output stops at the reserve, which is for the ends, and for what is new.
#[tokio::test]
async fn output_does_not_eat_the_room_of_ends() {
    if !within("recovery::disk::output_does_not_eat_the_room_of_ends") {
        return;
    }
    let disk = OnDisk::new("size=48m");
    let patient = disk.started("probe.patient").await;
    let flood = disk.started("probe.flood").await;
    let log = directory(&disk.agent, &flood).join("output.log");
    let size = || fs::metadata(&log).unwrap().len();
    until("the reserve", async || disk.free() < OUTPUT_BYTES).await;
    // The action continues to write: its shim continues to read, and the log no longer grows.
    let written = size();
    let shim = processes("bolt-shim", &directory(&disk.agent, &flood))[0];
    let read = || {
        let io = fs::read_to_string(format!("/proc/{shim}/io")).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse::<u64>().ok()).unwrap()
    };
    let from = read();
    until("100 MiB more", async || read() > from + (100 << 20)).await;
    assert!(size() - written < 2 << 20 && disk.free() > ACCEPT_BYTES, "{} {} {}", size(), written, disk.free());

    // Both ends, and a whole new execution, without room being made.
    disk.let_go();
    let end = disk.operator().wait(&patient).await;
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    assert_eq!(disk.operator().stdout(&patient).await, "begun\nended\n");
    disk.works().await;
    let path = format!("/v1/executions/{}/kill", flood.id);
    assert!(disk.operator().send(Call::post(&path, Vec::new())).await.status.is_success());
    let end = disk.operator().wait(&flood).await;
    assert_eq!(end.state, State::Killed, "{end:?}");
    let totals = end.stdout.unwrap();
    let kept = totals.written_bytes - totals.dropped_bytes;
    assert!(totals.dropped_bytes > 100 << 20 && kept > 8 << 20, "{totals:?}");

    // The kept parts are those that were written at these offsets.
    let frames = super::frames(&log);
    assert_eq!(frames.iter().map(|(_, data)| data.len() as u64).sum::<u64>(), kept, "{totals:?}");
    for (offset, data) in frames {
        let first = usize::try_from(offset % 16).unwrap();
        let lines = (data.len() + first).div_ceil(16) as u64;
        let text: String = (offset / 16..offset / 16 + lines).map(|n| format!("{n:015}\n")).collect();
        assert!(text.as_bytes()[first..first + data.len()] == data[..], "at {offset}");
    }
    disk.end();
}

/// No file can be made any more: it is the same as with bytes.
#[tokio::test]
async fn a_disk_without_inodes_refuses_what_is_new_and_loses_nothing() {
    if !within("recovery::disk::a_disk_without_inodes_refuses_what_is_new_and_loses_nothing") {
        return;
    }
    let disk = OnDisk::new("size=48m,nr_inodes=300");
    let patient = disk.started("probe.patient").await;
    let fillers = disk.state().join("fillers");
    fs::create_dir(&fillers).unwrap();
    for n in 0.. {
        if fs::File::create(fillers.join(n.to_string())).is_err() {
            break;
        }
    }
    disk.refuses().await;
    disk.let_go();
    let end = disk.operator().wait(&patient).await;
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    assert_eq!(disk.operator().stdout(&patient).await, "begun\nended\n");
    fs::remove_dir_all(&fillers).unwrap();
    disk.works().await;
    disk.end();
}

/// Nothing can be written to a directory any more, as on a disk that went read-only (a real one cannot be had: the kernel
/// refuses to remount what is open for writing): an execution can be killed all the same, and its end is written when the
/// disk is writable again.
#[tokio::test]
async fn a_read_only_disk_delays_an_end_and_loses_none() {
    if !within("recovery::disk::a_read_only_disk_delays_an_end_and_loses_none") {
        return;
    }
    let disk = OnDisk::new("size=48m");
    let (patient, other) = (disk.started("probe.patient").await, disk.started("probe.sleep").await);
    let both = [&patient, &other].map(|execution| directory(&disk.agent, execution));
    let attribute = |change: &str| {
        let changed = Command::new("chattr").arg(change).args(&both).status();
        changed.is_ok_and(|status| status.success())
    };
    if !attribute("+i") {
        return skip(
            "a_read_only_disk_delays_an_end_and_loses_none",
            "this tmpfs has no immutable directories (chattr +i)",
        );
    }
    disk.let_go();
    let path = format!("/v1/executions/{}/kill", other.id);
    let answer = disk.operator().send(Call::post(&path, Vec::new())).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    for directory in &both {
        // Its shim alone is left, and tries.
        until("the record, written and not renamed", async || {
            fs::read(directory.join("exit.new")).is_ok_and(|bytes| bytes.starts_with(b"{") && bytes.ends_with(b"}"))
        })
        .await;
        assert!(!directory.join("exit").exists() && processes("bolt-shim", directory).len() == 1);
    }
    assert_eq!(shown(&disk.operator(), &patient).await.state, State::Running, "exit.new is no end");
    assert!(attribute("-i"));
    let end = disk.operator().wait(&patient).await;
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    assert_eq!(disk.operator().wait(&other).await.state, State::Killed);
    disk.end();
}
