//! Seeded faults: real binaries and many executions, with every process killed at random moments and at named points.
//!
//! ```text
//!  a cycle:  choose ─▶ place orders ═╗ at the same time
//!                      do the fault ═╝ ─▶ heal ─▶ every 202 has its end ─▶ check
//! ```
//!
//! Workers run cycles side by side, each with an agent of its own; seed and cycle number determine what happens in a cycle
//! (but not which line a process executes when it is killed at a random moment). A cycle that breaks a promise ends the run;
//! it is named, and its agent's files are kept.

mod check;
mod control;
mod handle;
mod host;
mod plan;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use packs_schema::agent::execution::State;
use packs_schema::base::name::ExecutionId;
use tokio::task::JoinSet;

use crate::Random;
use host::Host;
use plan::{Fault, Victim};
use work::Order;

/// Maximum number of executions per cycle.
const ORDERS: u64 = 7;
/// Interval at which the agent is checked while orders are placed.
const LOOK_AFTER: Duration = Duration::from_millis(200);
/// Time within which a named point must be reached.
const POINT_WITHIN: Duration = Duration::from_millis(400);

/// Parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of cycles.
    pub cycles: u64,
    /// Seed that reproduces the run.
    pub seed: u64,
    /// Number of agents at the same time.
    pub workers: u64,
}

/// Outcome of a run.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    /// Number of cycles.
    pub cycles: u64,
    /// Executions answered with a 202.
    pub accepted: u64,
    /// Terminal states, with counts.
    pub ends: BTreeMap<State, u64>,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// First broken promise, with its cycle.
    pub broken: Option<String>,
    /// Duration.
    pub took: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |of: Vec<String>| of.join(", ");
        let ends = list(self.ends.iter().map(|(state, n)| format!("{n} {state}")).collect());
        let faults = list(self.faults.iter().map(|(what, n)| format!("{n} {what}")).collect());
        write!(
            f,
            "{} cycles in {:.0?}: {faults}; {} executions accepted: {ends}; {}",
            self.cycles,
            self.took,
            self.accepted,
            self.broken
                .as_deref()
                .map_or("nothing lost, repeated, orphaned or misreported".to_owned(), |what| format!("BROKEN: {what}"))
        )
    }
}

/// Runs the plan.
pub fn run(plan: Plan) -> Figures {
    crate::binaries();
    let begun = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let figures = Arc::new(Mutex::new(Figures::default()));
    std::thread::scope(|scope| {
        for worker in 0..plan.workers.max(1) {
            let (next, figures) = (next.clone(), figures.clone());
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let outcome = match runtime {
                    Ok(runtime) => runtime.block_on(work_on(plan, worker, &next, &figures)),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(broken) = outcome {
                    // Other workers stop after their current cycle.
                    next.store(plan.cycles, Ordering::Relaxed);
                    lock(&figures).broken.get_or_insert(broken);
                }
            });
        }
    });
    let mut figures = lock(&figures).clone();
    figures.took = begun.elapsed();
    figures
}

async fn work_on(plan: Plan, worker: u64, next: &AtomicU64, figures: &Mutex<Figures>) -> Result<(), String> {
    let mut host = Host::start(&format!("i-{worker}")).map_err(|e| e.to_string())?;
    let mut last_event = 0;
    loop {
        let cycle = next.fetch_add(1, Ordering::Relaxed);
        if cycle >= plan.cycles {
            return Ok(());
        }
        let mut random = Random::new(plan.seed ^ cycle.wrapping_mul(0x0000_0100_0000_01b3));
        let fault = Fault::choose(&mut random);
        match one(&mut host, cycle, fault, &mut random, &mut last_event, figures).await {
            Ok(()) => {}
            Err(what) => {
                let kept = host.keep();
                return Err(format!(
                    "seed {}, cycle {cycle}, {fault:?}: {what}; its files are in {}",
                    plan.seed,
                    kept.display()
                ));
            }
        }
    }
}

async fn one(
    host: &mut Host,
    cycle: u64,
    fault: Fault,
    random: &mut Random,
    last_event: &mut u64,
    figures: &Mutex<Figures>,
) -> Result<(), String> {
    let orders: Vec<Order> =
        (0..2 + random.below(ORDERS - 1)).map(|number| Order::choose(random, cycle, number)).collect();
    let mut placing = JoinSet::new();
    for order in orders {
        let api = host.handle();
        placing.spawn(async move { order.place(&api).await.map(|id| (order, id)) });
    }
    let happened = harm(host, fault, random).await.map_err(|e| e.to_string())?;
    let mut placed: Vec<(Order, ExecutionId)> = Vec::new();
    loop {
        // Repeated, since the api of a launcher that just died may still answer.
        host.heal().await?;
        match tokio::time::timeout(LOOK_AFTER, placing.join_next()).await {
            Ok(Some(order)) => placed.push(order.map_err(|e| e.to_string())??),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    // An armed point may be reached only now.
    host.control.disarm().map_err(|e| e.to_string())?;
    host.heal().await?;
    let settled = check::check(host, &placed, *last_event).await?;
    *last_event = settled.last_event;
    let mut figures = lock(figures);
    figures.cycles += 1;
    figures.accepted += placed.len() as u64;
    *figures.faults.entry(happened).or_default() += 1;
    for end in settled.ends {
        *figures.ends.entry(end.state).or_default() += 1;
    }
    Ok(())
}

/// Injects the fault and returns its description.
async fn harm(host: &mut Host, fault: Fault, random: &mut Random) -> std::io::Result<&'static str> {
    let moment = Duration::from_millis(random.below(350));
    let killed = |victim| match victim {
        Victim::Api => "api kills",
        Victim::Launcher => "launcher kills",
        Victim::Shim => "shim kills",
        Victim::All => "kills of all",
    };
    match fault {
        Fault::Kill(victim) => {
            tokio::time::sleep(moment).await;
            host.kill(victim);
            Ok(killed(victim))
        }
        Fault::Restart => {
            tokio::time::sleep(moment).await;
            host.restart()?;
            Ok("restarts")
        }
        Fault::Point(rule) => {
            let before = host.control.fired()?;
            host.control.arm(&[rule])?;
            let until = Instant::now() + POINT_WITHIN;
            while host.control.fired()? == before && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(match (host.control.fired()? > before, rule.error) {
                (false, _) => "points not met",
                (true, 0) => "kills at points",
                (true, _) => "failed calls",
            })
        }
        Fault::Clock { seconds, victim } => {
            host.control.move_clock(seconds)?;
            tokio::time::sleep(moment).await;
            host.kill(victim);
            // Recovery also happens at the wrong time, at which certificates are not valid and no caller is accepted.
            tokio::time::sleep(Duration::from_millis(300)).await;
            host.control.move_clock(0)?;
            Ok("clock leaps")
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
