//! Long run: memory, descriptors, cgroups and inodes of launcher, api and disk over very many executions.
//!
//! Measured after a first tenth (caches, pools and the history's first pages are filled then) and at the end; both are
//! printed. Flat means: memory within [`MEMORY_SLACK`], descriptors and cgroups equal, files within the budget that the
//! agent was given.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bolt_client::local::LocalAgent;
use packs_schema::agent::execution::State;

use crate::{PackSource, World, order, process, spec};

/// Allowed growth of memory of either process at the end, in kilobytes.
pub const MEMORY_SLACK: u64 = 4096;
/// Concurrent callers.
const CALLERS: usize = 8;
/// Number of equal samples in a row that count as at rest, and maximum number of samples, half a second apart. Outputs are
/// archived more slowly than this program starts executions, so the last of them take their time.
const AT_REST: usize = 12;
const LOOKS: usize = 600;
/// Maximum number of files of the agent's history.
const FILES: u64 = 4000;

/// Resources held at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Resident memory of launcher and api, in kilobytes.
    pub memory_kb: u64,
    /// Open descriptors of both.
    pub descriptors: u64,
    /// Cgroups of executions.
    pub groups: u64,
    /// Files and directories of the state directory.
    pub files: u64,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held { memory_kb, descriptors, groups, files } = self;
        write!(f, "{memory_kb} kB resident, {descriptors} descriptors, {groups} cgroups, {files} inodes")
    }
}

/// Figures of the run.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Number of executions.
    pub executions: u64,
    /// Terminal states, with counts.
    pub ends: BTreeMap<State, u64>,
    /// After the first tenth.
    pub early: Held,
    /// At the end.
    pub late: Held,
    /// Duration.
    pub took: Duration,
}

impl Figures {
    /// Returns the resources that are not flat.
    pub fn grown(&self) -> Option<String> {
        let (early, late) = (self.early, self.late);
        let grown = [
            (late.memory_kb > early.memory_kb + MEMORY_SLACK, "memory"),
            (late.descriptors > early.descriptors, "descriptors"),
            (late.groups > 0, "cgroups"),
            (late.files > FILES + FILES / 10, "inodes"),
            (self.ends.keys().any(|state| *state != State::Succeeded), "other ends than succeeded"),
        ];
        let list: Vec<&str> = grown.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        (!list.is_empty()).then(|| list.join(", "))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.executions as f64 / self.took.as_secs_f64();
        writeln!(f, "{} executions in {:.0?} ({rate:.0} a second), {CALLERS} at a time", self.executions, self.took)?;
        writeln!(f, "  after a tenth: {}", self.early)?;
        write!(
            f,
            "  at the end:    {}; {}",
            self.late,
            self.grown().map_or("flat".to_owned(), |what| format!("GROWN: {what}"))
        )
    }
}

/// Runs the given number of executions.
pub fn run(executions: u64) -> Figures {
    let begun = Instant::now();
    let world = World::empty();
    let script = "#!/bin/sh\necho done with $BOLT_EXECUTION_ID\n";
    world.publish(&PackSource::new("soak", "1.0.0").action("brief", "bolt: {class: diagnostic}", script));
    let limits = spec("i-1").set("execution", "max_running", 8).set(
        "history",
        "max_files",
        i64::try_from(FILES).unwrap_or(i64::MAX),
    );
    let agent = world.start(&limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut figures = Figures { executions, ..Figures::default() };
    let first = executions / 10;
    runtime.block_on(some(&world, &agent, first, &mut figures));
    figures.early = held(&agent);
    runtime.block_on(some(&world, &agent, executions - first, &mut figures));
    figures.took = begun.elapsed();
    figures.late = held(&agent);
    figures
}

async fn some(world: &World, agent: &LocalAgent, count: u64, figures: &mut Figures) {
    let each = count.div_ceil(CALLERS as u64);
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let client = world.client(agent);
        callers.push(tokio::spawn(async move {
            let mut ends: BTreeMap<State, u64> = BTreeMap::new();
            for _ in 0..each {
                let end = client
                    .create(&order("soak.brief"), None, Some(Duration::from_secs(30)))
                    .await
                    .expect("it is taken");
                *ends.entry(end.state).or_default() += 1;
            }
            ends
        }));
    }
    for caller in callers {
        for (state, count) in caller.await.expect("a caller ends") {
            *figures.ends.entry(state).or_default() += count;
        }
    }
}

/// Samples until the agent is at rest: connections are closed, freed memory is returned, and the history, which is swept
/// every few seconds, is below its budget.
fn held(agent: &LocalAgent) -> Held {
    let (mut last, mut same) = (Held::default(), 0);
    for _ in 0..LOOKS {
        std::thread::sleep(Duration::from_millis(500));
        let now = sample(agent);
        same = if now == last { same + 1 } else { 0 };
        if same == AT_REST {
            break;
        }
        last = now;
    }
    last
}

fn sample(agent: &LocalAgent) -> Held {
    let launcher = agent.launcher_pid().expect("the launcher runs");
    let api = process::api_of(launcher);
    let mut held = Held::default();
    for pid in [Some(launcher), api].into_iter().flatten() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        held.memory_kb += line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        held.descriptors += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64);
    }
    let ids: Vec<String> = names(&agent.state().join("exec"));
    held.groups = process::groups_with(&ids).len() as u64;
    held.files = count(&agent.state());
    held
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn count(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|e| 1 + if e.file_type().is_ok_and(|t| t.is_dir()) { count(&e.path()) } else { 0 }).sum()
}
