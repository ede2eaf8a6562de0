//! Executions in a second, each durable, with several in flight. Caller and agent share the processors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::Caller;

/// Numbers of executions in flight.
const IN_FLIGHT: [usize; 3] = [8, 32, 64];
/// Executions of each row.
const RUNS: usize = 1_500;

/// Prints a row for each number in flight.
pub(super) fn print(runtime: &Runtime, caller: &Caller) {
    println!("\n{:<44} {:>10} {:>10} {:>10}", "durable executions, warm connections", "per s", "p50 ms", "p99 ms");
    for in_flight in IN_FLIGHT {
        let (mut times, took) = runtime.block_on(measure(caller, in_flight));
        let rate = times.len() as f64 / took.as_secs_f64();
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
        println!("{:<44} {rate:>10.0} {:>10.1} {:>10.1}", format!("{in_flight} in flight"), at(50), at(99));
    }
}

/// Runs the executions over `in_flight` connections, of which each has carried one before. Returns how long each took, and all.
async fn measure(caller: &Caller, in_flight: usize) -> (Vec<Duration>, Duration) {
    let all_are_warm = Arc::new(Barrier::new(in_flight + 1));
    let mut workers = JoinSet::new();
    for worker in 0..in_flight {
        let (agent, share) = (caller.agent(), (RUNS + in_flight - 1 - worker) / in_flight);
        let all_are_warm = all_are_warm.clone();
        workers.spawn(async move {
            Caller::try_nothing(&agent).await.expect("the action succeeds");
            all_are_warm.wait().await;
            let mut times = Vec::with_capacity(share);
            for _ in 0..share {
                let begun = Instant::now();
                Caller::try_nothing(&agent).await.expect("the action succeeds");
                times.push(begun.elapsed());
            }
            times
        });
    }
    all_are_warm.wait().await;
    let begun = Instant::now();
    let times = workers.join_all().await.concat();
    (times, begun.elapsed())
}
