//! Disk states between flushes: what a disk with a volatile cache may hold after a power cut, which QEMU's own end cannot show.
//!
//! ```text
//!  boot with blklogwrites ─▶ orders, answers noted with the position in the log ─▶ cut
//!  for each state:  all writes up to a flush, and a seeded part of those before the next one
//!                   ─▶ e2fsck ─▶ /var/lib/bolt taken out ─▶ an agent of this host recovers it ─▶ check
//! ```
//!
//! The agent must keep what it answered before the flush, as after a power cut, and must have no execution that was not ordered.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use packs_schema::agent::rest::Execution;
use serde_json::json;
use tokio::task::JoinSet;

use super::disk_log::{self, Event};
use super::load::Api;
use super::power::unchanged;
use super::site::{ID, MachineSite};
use crate::{Random, World, spec};

/// Executions that are ordered while the disk is recorded.
const ORDERS: u64 = 24;
/// Time over which they are ordered, in milliseconds.
const SPREAD: u64 = 20_000;

/// Outcome of a run.
#[derive(Debug, Default)]
pub struct DiskStates {
    /// Number of flushes of the guest.
    pub flushes: usize,
    /// Number of its writes.
    pub writes: usize,
    /// Executions ordered and accepted.
    pub accepted: usize,
    /// States that were checked.
    pub states: u64,
    /// Accepted executions found again, over all states.
    pub found: u64,
    /// Ends that were reported earlier and found unchanged, over all states.
    pub ends: u64,
    /// Ends of which output was lost, marked.
    pub outputs_lost: u64,
    /// Broken promises.
    pub violations: Vec<String>,
    /// Duration.
    pub took: Duration,
}

impl fmt::Display for DiskStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DiskStates { flushes, writes, accepted, states, found, ends, outputs_lost, violations, took } = self;
        write!(
            f,
            "{states} disk states of {writes} writes and {flushes} flushes with {accepted} executions, in {took:.0?}: \
             {found} accepted found, {ends} ends unchanged, output lost of {outputs_lost}, marked; {} violations",
            violations.len()
        )?;
        violations.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// An answer, and the position in the log by which it had arrived.
#[derive(Debug, Clone)]
struct Heard {
    accepted: (u64, Execution),
    told: Option<(u64, Execution, String)>,
}

type Ledger = Arc<Mutex<BTreeMap<String, Heard>>>;

/// Records a disk once and checks `count` states of it. The error is of the machine, not of Bolt.
pub fn run(image: &Path, count: u64, seed: u64) -> Result<DiskStates, String> {
    let began = Instant::now();
    let site = MachineSite::create()?;
    let mut vm = site.install(image)?;
    site.start(&mut vm)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(text)?;
    let caller = site.world.site.operator();
    runtime.block_on(Api { address: vm.address(), caller: caller.clone() }.ready())?;
    vm.shut_down()?;
    let durable = site.directory().join("durable.img");
    copy(&vm.disk(), &durable)?;

    let log = vm.record().map_err(text)?;
    vm.boot()?;
    let api = Api { address: vm.address(), caller: caller.clone() };
    runtime.block_on(api.ready())?;
    let mut random = Random::new(seed);
    let first = disk_log::end(&log).map_err(text)?;
    let ledger = Ledger::default();
    let mut orders = JoinSet::new();
    for number in 0..ORDERS {
        let delay = Duration::from_millis(random.below(SPREAD));
        orders.spawn_on(
            place(api.clone(), format!("state-{number}"), delay, log.clone(), Arc::clone(&ledger)),
            runtime.handle(),
        );
    }
    runtime.block_on(async { while orders.join_next().await.is_some() {} });
    vm.cut();
    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
    eprintln!("{} executions recorded, {:.0?}", ledger.len(), began.elapsed());

    let events = disk_log::read(&log).map_err(text)?;
    let flushes: Vec<usize> =
        (0..events.len()).filter(|at| matches!(events[*at], Event::Flush { end } if end >= first)).collect();
    if flushes.len() < 2 {
        return Err("the guest has flushed nothing".to_owned());
    }
    let mut figures = DiskStates {
        flushes: flushes.len(),
        writes: events.iter().filter(|event| matches!(event, Event::Write { .. })).count(),
        accepted: ledger.len(),
        ..DiskStates::default()
    };
    let mut chosen: Vec<usize> = (0..count).map(|_| *random.one_of(&flushes)).collect();
    chosen.sort_unstable();
    let (log, disk) =
        (fs::File::open(&log).map_err(text)?, fs::File::options().write(true).open(&durable).map_err(text)?);
    let mut applied = 0;
    for at in chosen {
        for event in &events[applied..at] {
            disk_log::apply(*event, &log, &disk).map_err(text)?;
        }
        applied = at;
        let state = site.directory().join("state.img");
        copy(&durable, &state)?;
        let volatile = events[at + 1..].iter().take_while(|event| matches!(event, Event::Write { .. }));
        let part = fs::File::options().write(true).open(&state).map_err(text)?;
        for event in volatile.filter(|_| random.below(2) == 0) {
            disk_log::apply(*event, &log, &part).map_err(text)?;
        }
        let Event::Flush { end } = events[at] else { continue };
        let checked = take_out(&site.world, &state)
            .and_then(|()| runtime.block_on(recovered(&site.world, &ledger, end, &mut figures)));
        figures.states += 1;
        if let Err(violation) = checked {
            figures.violations.push(format!("flush {at} at {end}: {violation}"));
        }
        eprintln!("state {}: {figures}", figures.states);
    }
    figures.took = began.elapsed();
    Ok(figures)
}

/// Orders an execution and follows it to its end.
async fn place(api: Api, key: String, delay: Duration, log: PathBuf, ledger: Ledger) {
    tokio::time::sleep(delay).await;
    let Ok(accepted) = api.order_until("machine.lines", &json!({"count": 4, "pause": "0.2"}), &key).await else {
        return;
    };
    let Ok(end) = disk_log::end(&log) else { return };
    let id = accepted.id.to_string();
    let heard = |told| Heard { accepted: (end, accepted.clone()), told };
    ledger.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), heard(None));
    let Ok(ended) = api.wait(&id).await else { return };
    let Ok(output) = api.stdout(&id).await else { return };
    let Ok(told) = disk_log::end(&log) else { return };
    ledger.lock().unwrap_or_else(PoisonError::into_inner).insert(key, heard(Some((told, ended, output))));
}

/// Repairs the file system as a boot would, and gives the agent's state to an agent of this host.
fn take_out(world: &World, state: &Path) -> Result<(), String> {
    let fsck = Command::new("e2fsck").args(["-f", "-y"]).arg(state).output().map_err(text)?;
    if !matches!(fsck.status.code(), Some(0 | 1)) {
        return Err(format!("e2fsck: {}", String::from_utf8_lossy(&fsck.stdout)));
    }
    let agent = world.path().join("agents").join(ID);
    if agent.exists() {
        fs::remove_dir_all(&agent).map_err(text)?;
    }
    fs::create_dir_all(&agent).map_err(text)?;
    let request = format!("rdump /var/lib/bolt {}", agent.display());
    let dump = Command::new("debugfs").arg("-R").arg(request).arg(state).output().map_err(text)?;
    let to = agent.join("state");
    fs::rename(agent.join("bolt"), &to).map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&dump.stderr)))?;
    let guest = fs::metadata(&to).map_err(text)?.uid();
    let api = world.site.accounts().ok_or("not root")?.api;
    // The account of the guest's api is that of this host's; all other owners stay.
    let mut left = vec![to];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).map_err(text)?;
        if meta.uid() == guest {
            std::os::unix::fs::lchown(&path, Some(api), Some(api)).map_err(text)?;
        }
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).map_err(text)?.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

/// Starts an agent on the state and checks what had been heard when the log ended at `end`.
async fn recovered(
    world: &World,
    ledger: &BTreeMap<String, Heard>,
    end: u64,
    figures: &mut DiskStates,
) -> Result<(), String> {
    let executions = world.path().join("agents").join(ID).join("state/exec");
    let known = |name: &str| ledger.values().any(|heard| heard.accepted.1.id.as_str() == name);
    for entry in fs::read_dir(executions).map_err(text)?.flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == 36 && !known(&name) {
            return Err(format!("{name} was never ordered"));
        }
    }
    rows(world, ledger, end)?;
    // World::start panics with the agent's log.
    let agent = world.start(&spec(ID));
    let api = Api { address: agent.address(), caller: world.site.operator() };
    for (key, heard) in ledger.iter().filter(|(_, heard)| heard.accepted.0 <= end) {
        api.wait(heard.accepted.1.id.as_str()).await.map_err(|e| format!("{key}: {e}"))?;
        figures.found += 1;
        if let Some((at, told, output)) = &heard.told
            && *at <= end
        {
            let is_lost = unchanged(&api, told, output).await.map_err(|e| {
                let log = fs::read_to_string(agent.log()).unwrap_or_default();
                format!("{key}: {e}\n{}", log.lines().rev().take(8).collect::<Vec<_>>().join("\n"))
            })?;
            figures.ends += 1;
            figures.outputs_lost += u64::from(is_lost);
        }
    }
    Ok(())
}

/// Program that prints `<id> <end>` for each row of a history.
const ROWS: &str = "import sqlite3, sys, uuid\n\
    rows = sqlite3.connect(sys.argv[1]).execute('SELECT id, created_at_ms + ended_after_ms FROM executions')\n\
    print(*('%s %s' % (uuid.UUID(bytes=id[-16:]), end or 0) for id, end in rows), sep='\\n')\n";

/// Checks that the history has a row of everything that was accepted, with the end of everything whose end was told, before an
/// agent repairs it from the directories: an answer follows its row to the disk.
fn rows(world: &World, ledger: &BTreeMap<String, Heard>, end: u64) -> Result<(), String> {
    // Of a copy: to read it recovers its log.
    let copy = tempfile::tempdir_in(world.path()).map_err(text)?;
    let state = world.path().join("agents").join(ID).join("state");
    for name in ["history.db", "history.db-wal"] {
        if state.join(name).exists() {
            fs::copy(state.join(name), copy.path().join(name)).map_err(text)?;
        }
    }
    let printed =
        Command::new("python3").args(["-c", ROWS]).arg(copy.path().join("history.db")).output().map_err(text)?;
    if !printed.status.success() {
        return Err(format!("the history cannot be read: {}", String::from_utf8_lossy(&printed.stderr)));
    }
    let printed = String::from_utf8_lossy(&printed.stdout);
    let rows: BTreeMap<&str, &str> = printed.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut missing = Vec::new();
    for (key, heard) in ledger.iter().filter(|(_, heard)| heard.accepted.0 <= end) {
        let id = heard.accepted.1.id.as_str();
        let told = heard.told.as_ref().filter(|(at, ..)| *at <= end).and_then(|(_, told, _)| told.ended_at_ms);
        match (rows.get(id), told) {
            (None, _) => missing.push(format!("{key}, {id}: accepted, and there is no row of it")),
            (Some(row), Some(told)) if **row != told.to_string() => {
                missing.push(format!("{key}, {id}: ended at {told}, and its row says {row}"));
            }
            _ => {}
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let status = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status().map_err(text)?;
    if status.success() { Ok(()) } else { Err(format!("{} cannot be copied", from.display())) }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
