//! Where the time of a warm request goes.

use bolt_tests::World;
use bolt_tests::phases::{Trace, medians};
use tokio::runtime::Runtime;

use crate::Caller;

/// Number of traced requests.
const RUNS: usize = 200;

/// Prints the median of each phase, if the host lets the kernel trace.
pub(super) fn print(runtime: &Runtime, caller: &Caller, world: &World) {
    let file = world.path().join("trace.txt");
    let Some(trace) = Trace::start(&file) else {
        return println!("SKIPPED phases: it needs root, and a kernel with tracepoints of system calls");
    };
    let agent = caller.agent();
    for _ in 0..RUNS {
        runtime.block_on(caller.wait_nothing(&agent));
    }
    trace.stop();
    let (phases, count) = medians(&file);
    println!("\n{:<58} {:>8}", format!("phases of a warm request, traced, ms ({count} executions)"), "p50");
    for (name, time) in phases {
        println!("{name:<58} {time:>8.2}");
    }
}
