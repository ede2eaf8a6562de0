//! Faults by a seed: real binaries, many executions, and everything that can die does, at moments and at named points.
//!
//! ```text
//!  a cycle:  choose ─▶ place orders ═╗ at the same time
//!                      do the fault ═╝ ─▶ heal ─▶ every 202 has its end ─▶ check
//! ```
//!
//! Workers run cycles side by side, each with an agent of its own; the seed and the number of a cycle say what happens in it.
//! (Which process is in which line of its code when it is killed at a moment, they do not say.) A cycle that breaks a promise ends the run,
//! named, with its agent's files left where they are.

mod check;
mod control;
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

/// The most executions that a cycle asks for.
const ORDERS: u64 = 7;
/// How often the agent is looked after while orders are being placed.
const LOOK_AFTER: Duration = Duration::from_millis(200);
/// How long a named point may take to be reached.
const POINT_WITHIN: Duration = Duration::from_millis(400);

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many cycles.
    pub cycles: u64,
    /// What repeats them.
    pub seed: u64,
    /// How many agents at the same time.
    pub workers: u64,
}

/// What was done, and found.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    /// Cycles.
    pub cycles: u64,
    /// Executions that were answered with a 202.
    pub accepted: u64,
    /// How they ended.
    pub ends: BTreeMap<State, u64>,
    /// What went wrong, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The first promise that was broken, with its cycle.
    pub broken: Option<String>,
    /// How long it took.
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
                    // Others stop after the cycle that they are in.
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
        let line = host.line();
        placing.spawn(async move { order.place(&line).await.map(|id| (order, id)) });
    }
    let happened = harm(host, fault, random).await.map_err(|e| e.to_string())?;
    let mut placed: Vec<(Order, ExecutionId)> = Vec::new();
    loop {
        // Again and again: a launcher that died a moment ago has an api that still answers for another.
        host.heal().await?;
        match tokio::time::timeout(LOOK_AFTER, placing.join_next()).await {
            Ok(Some(order)) => placed.push(order.map_err(|e| e.to_string())??),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    // A point that was armed may have been met only now.
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

/// Does it; answers what it was.
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
            // Recovery, too, happens at the other time. Certificates are not valid then: nobody gets in.
            tokio::time::sleep(Duration::from_millis(300)).await;
            host.control.move_clock(0)?;
            Ok("clock leaps")
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
