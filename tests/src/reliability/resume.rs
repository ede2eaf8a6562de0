//! Kills the client of a run at random moments, again and again, and lets `bolt resume` end it: nothing is started twice, and
//! no result is lost.

use std::fmt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::CommandOutput;
use crate::fleet::{ACTION, Fleet, Latency, Setup};
use crate::random::Random;

/// Instances of the simulated fleet.
const INSTANCES: u32 = 24;
/// Latest moment of a kill, in milliseconds after the start of the client.
const LATEST: u64 = 900;
/// Maximum number of kills in a cycle.
const KILLS: u64 = 4;

/// Size of a run of this program.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of runs.
    pub cycles: u64,
    /// Seed.
    pub seed: u64,
    /// Number of runs at the same time.
    pub workers: u64,
}

/// Figures of a run of this program.
#[derive(Debug, Default)]
pub struct Figures {
    /// Runs.
    pub cycles: u64,
    /// Clients that were killed before they ended by themselves.
    pub kills: u64,
    /// Kills before the plan was recorded, after which the run was started again under its id.
    pub before_the_plan: u64,
    /// Kills after which some instances had an end and others had none.
    pub in_the_middle: u64,
    /// Executions, by the ledger of the fleet.
    pub starts: u64,
    /// First broken promise.
    pub broken: Option<String>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { cycles, kills, before_the_plan, in_the_middle, starts, broken } = self;
        write!(
            f,
            "{cycles} runs on {INSTANCES} instances, {kills} clients killed ({before_the_plan} before the plan was recorded, \
             {in_the_middle} in the middle), {starts} executions; {}",
            broken.as_deref().unwrap_or("none started twice, no result lost")
        )
    }
}

/// Runs the cycles.
pub fn run(plan: Plan) -> Figures {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let latency = Latency { median_ms: 30, tail_percent: 5, tail_ms: 250 };
    let fleet = Fleet::start(Setup { latency, seed: plan.seed, ..Setup::healthy(INSTANCES) }, directory.path());
    fleet.make_certificates();
    let figures = Mutex::new(Figures::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..plan.workers.max(1) {
            scope.spawn(|| {
                loop {
                    let cycle = next.fetch_add(1, Ordering::Relaxed);
                    let is_broken = figures.lock().unwrap_or_else(PoisonError::into_inner).broken.is_some();
                    if cycle >= plan.cycles || is_broken {
                        return;
                    }
                    let ended = Cycle::new(&fleet, plan.seed, cycle).run();
                    let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
                    figures.add(ended);
                }
            });
        }
    });
    figures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Figures {
    fn add(&mut self, cycle: Figures) {
        self.cycles += cycle.cycles;
        self.kills += cycle.kills;
        self.before_the_plan += cycle.before_the_plan;
        self.in_the_middle += cycle.in_the_middle;
        self.starts += cycle.starts;
        self.broken = self.broken.take().or(cycle.broken);
    }
}

/// A run with the clients that carry it out.
struct Cycle<'a> {
    fleet: &'a Fleet,
    run: String,
    random: Random,
    figures: Figures,
}

impl Cycle<'_> {
    fn new(fleet: &Fleet, seed: u64, cycle: u64) -> Cycle<'_> {
        let random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(cycle));
        Cycle { fleet, run: format!("r-{seed}-{cycle}"), random, figures: Figures { cycles: 1, ..Figures::default() } }
    }

    fn run(mut self) -> Figures {
        let strategies: [&[&str]; 5] = [
            &["--at-once"],
            &["--at-once", "--parallel", "3"],
            &["--batch", "5"],
            &["--canary", "2", "--batch", "40%"],
            &[],
        ];
        let strategy = *self.random.one_of(&strategies);
        let mut first = vec!["run", ACTION, "--everywhere", "--max-failures", "100%", "--run-id"];
        let run = self.run.clone();
        first.push(&run);
        first.extend(strategy);
        let resume = ["resume", &run];
        let kills = 1 + self.random.below(KILLS);
        let mut is_recorded = false;
        let mut last = None;
        for attempt in 0..=kills {
            let arguments: &[&str] = if is_recorded { &resume } else { &first };
            let kill_after = (attempt < kills).then(|| Duration::from_millis(self.random.below(LATEST)));
            match self.client(arguments, kill_after) {
                Some(output) => {
                    last = Some(output);
                    break;
                }
                None => self.figures.kills += 1,
            }
            let runs = self.fleet.bolt().json(["runs", "--limit", "100000"]).1;
            let known =
                runs["runs"].as_array().into_iter().flatten().find(|known| known["run"] == run.as_str()).cloned();
            is_recorded = known.is_some();
            match known {
                None => self.figures.before_the_plan += 1,
                Some(known) => {
                    let count = |state: &str| known["summary"][state].as_u64().unwrap_or(0);
                    let ended = count("succeeded");
                    self.figures.in_the_middle += u64::from(ended > 0 && ended < u64::from(INSTANCES));
                }
            }
        }
        self.figures.broken = last.map_or(Some("no client ended".to_owned()), |output| self.judge(&output));
        self.figures
    }

    /// Runs a client. `None` if it was killed before its end.
    fn client(&self, arguments: &[&str], kill_after: Option<Duration>) -> Option<CommandOutput> {
        let mut command = self.fleet.bolt().command(arguments);
        command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = command.spawn().expect("bolt can be run");
        if let Some(after) = kill_after {
            std::thread::sleep(after);
            if child.try_wait().expect("it is a child").is_none() {
                child.kill().expect("it is a child");
                child.wait().expect("it is a child");
                return None;
            }
        }
        Some(CommandOutput::from(child.wait_with_output().expect("its output can be read")))
    }

    /// Returns the first broken promise.
    fn judge(&mut self, output: &CommandOutput) -> Option<String> {
        let broken = |problem: String| Some(format!("run {}: {problem}", self.run));
        let Ok(report) = serde_json::from_str::<Value>(&output.stdout) else {
            return broken(format!("the last client printed no report: {output:?}"));
        };
        let entries = report["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
        if entries.len() != INSTANCES as usize || output.code != 0 {
            return broken(format!("exit code {}, {} instances in the report: {output:?}", output.code, entries.len()));
        }
        if let Some(wrong) =
            entries.iter().find(|entry| entry["state"] != "succeeded" || entry["execution"]["id"].is_null())
        {
            return broken(format!("the result of an instance is lost: {wrong}"));
        }
        for (instance, seen) in &self.fleet.ledger().instances {
            let starts = seen.starts.get(&self.run).copied().unwrap_or(0);
            self.figures.starts += u64::from(starts);
            if starts != 1 {
                return broken(format!("{instance} started {starts} executions"));
            }
        }
        None
    }
}
