//! Disk states between flushes: what a disk with a volatile cache may hold after a power cut, which QEMU's own end cannot show.
//!
//! ```text
//!  boot with blklogwrites ─▶ orders, answers noted with the position in the log ─▶ cut
//!  for each state:  all writes up to a flush, and a seeded part of those before the next one
//!                   ─▶ e2fsck ─▶ /var/lib/bolt taken out ─▶ an agent of this host recovers it ─▶ check
//! ```
//!
//! The agent must keep what it answered before the flush, as after a power cut, and must have no execution that was not ordered;
//! the audit log also before the agent completes it. Controls, disks that break their promise, show that the check finds what is
//! missing.

mod check;
mod control;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use packs_schema::agent::rest::Execution;
use serde_json::json;
use tokio::task::JoinSet;

use super::disk_log::{self, Event};
use super::load::Api;
use super::site::{ID, MachineSite};
use crate::Random;
use crate::http::Call;

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
    /// Accepted executions and answered kills found in the audit log, over all states.
    pub audited: u64,
    /// States in which a last line of the audit log was incomplete.
    pub torn: u64,
    /// Ends of which output was lost, marked.
    pub outputs_lost: u64,
    /// Disks that had lost what they had flushed, and were found out.
    pub controls: u64,
    /// Broken promises.
    pub violations: Vec<String>,
    /// Duration.
    pub took: Duration,
}

impl fmt::Display for DiskStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DiskStates { flushes, writes, accepted, states, found, ends, audited, torn, .. } = self;
        let DiskStates { outputs_lost, controls, violations, took, .. } = self;
        write!(
            f,
            "{states} disk states of {writes} writes and {flushes} flushes with {accepted} executions, in {took:.0?}: \
             {found} accepted found, {ends} ends unchanged, {audited} runs and kills in the audit log, {torn} torn lines in it; \
             output lost of {outputs_lost}, marked; \
             {controls} controls found; {} violations",
            violations.len()
        )?;
        violations.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// An answer, and the position in the log by which it had arrived.
#[derive(Debug, Clone)]
struct Heard {
    accepted: (u64, Execution),
    /// Answer to its kill.
    killed: Option<u64>,
    told: Option<(u64, Execution, String)>,
}

/// A disk before the recording, and everything that happened to it.
struct Recording {
    base: PathBuf,
    log: fs::File,
    events: Vec<Event>,
    /// Positions in `events` of the flushes that followed the first order.
    flushes: Vec<usize>,
    ledger: BTreeMap<String, Heard>,
}

type Ledger = Arc<Mutex<BTreeMap<String, Heard>>>;

/// Records a disk once and checks `count` states of it. The error is of the machine, not of Bolt.
pub fn run(image: &Path, count: u64, seed: u64) -> Result<DiskStates, String> {
    let began = Instant::now();
    let site = MachineSite::create()?;
    let mut vm = site.install(image, ID)?;
    site.start(&mut vm, ID)?;
    let runtime = super::runtime()?;
    let caller = site.world.site.operator();
    runtime.block_on(Api { address: vm.address(), caller: caller.clone() }.ready())?;
    vm.shut_down()?;
    let base = site.directory().join("base.img");
    copy(&vm.disk(), &base)?;

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
        let kill = number % 4 == 3;
        orders.spawn_on(
            place(api.clone(), format!("state-{number}"), (delay, kill), log.clone(), Arc::clone(&ledger)),
            runtime.handle(),
        );
    }
    runtime.block_on(async { while orders.join_next().await.is_some() {} });
    vm.cut();
    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
    eprintln!("{} executions recorded, {:.0?}", ledger.len(), began.elapsed());

    let events = disk_log::read(&log).map_err(text)?;
    let is_later = |event: &Event| matches!(event, Event::Flush { end } if *end >= first);
    let flushes: Vec<usize> = (0..events.len()).filter(|at| is_later(&events[*at])).collect();
    if flushes.len() < 2 {
        return Err("the guest has flushed nothing".to_owned());
    }
    let recording = Recording { base, log: fs::File::open(&log).map_err(text)?, events, flushes, ledger };
    let mut figures = DiskStates {
        flushes: recording.flushes.len(),
        writes: recording.events.iter().filter(|event| matches!(event, Event::Write { .. })).count(),
        accepted: recording.ledger.len(),
        ..DiskStates::default()
    };
    runtime.block_on(states(&site, &recording, count, &mut random, &mut figures))?;
    runtime.block_on(control::run(&site, &recording, &mut figures))?;
    figures.took = began.elapsed();
    Ok(figures)
}

/// Checks `count` states: all writes up to a flush, and a part of those before the next one.
async fn states(
    site: &MachineSite,
    recording: &Recording,
    count: u64,
    random: &mut Random,
    figures: &mut DiskStates,
) -> Result<(), String> {
    let Recording { events, flushes, ledger, .. } = recording;
    let mut chosen: Vec<usize> = (0..count).map(|_| *random.one_of(flushes)).collect();
    chosen.sort_unstable();
    let durable = site.directory().join("durable.img");
    copy(&recording.base, &durable)?;
    let disk = fs::File::options().write(true).open(&durable).map_err(text)?;
    let mut applied = 0;
    for at in chosen {
        for event in &events[applied..at] {
            disk_log::apply(*event, &recording.log, &disk).map_err(text)?;
        }
        applied = at;
        let state = site.directory().join("state.img");
        copy(&durable, &state)?;
        let volatile = events[at + 1..].iter().take_while(|event| matches!(event, Event::Write { .. }));
        let part = fs::File::options().write(true).open(&state).map_err(text)?;
        for event in volatile.filter(|_| random.below(2) == 0) {
            disk_log::apply(*event, &recording.log, &part).map_err(text)?;
        }
        let Event::Flush { end } = events[at] else { continue };
        let broken = match check::take_out(&site.world, &state) {
            Ok(()) => check::recovered(&site.world, ledger, end, figures).await?,
            Err(error) => vec![error],
        };
        figures.states += 1;
        figures.violations.extend(broken.into_iter().map(|violation| format!("flush {at} at {end}: {violation}")));
        eprintln!("state {}: {figures}", figures.states);
    }
    Ok(())
}

/// Orders an execution, may kill it, and follows it to its end.
async fn place(api: Api, key: String, (delay, kill): (Duration, bool), log: PathBuf, ledger: Ledger) {
    let note = |heard: &Heard| {
        ledger.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), heard.clone());
    };
    tokio::time::sleep(delay).await;
    let Ok(accepted) = api.order_until("machine.lines", &json!({"count": 4, "pause": "0.2"}), &key).await else {
        return;
    };
    let Ok(end) = disk_log::end(&log) else { return };
    let id = accepted.id.to_string();
    let mut heard = Heard { accepted: (end, accepted), killed: None, told: None };
    note(&heard);
    if kill {
        let Ok(answer) = api.ask(Call::post(&format!("/v1/executions/{id}/kill"), "")).await else { return };
        heard.killed = disk_log::end(&log).ok().filter(|_| answer.status.is_success());
        note(&heard);
    }
    let Ok(ended) = api.wait(&id).await else { return };
    let Ok(output) = api.stdout(&id).await else { return };
    let Ok(told) = disk_log::end(&log) else { return };
    heard.told = Some((told, ended, output));
    note(&heard);
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let status = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status().map_err(text)?;
    if status.success() { Ok(()) } else { Err(format!("{} cannot be copied", from.display())) }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
