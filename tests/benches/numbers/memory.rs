//! Memory of the agent's processes, from `/proc/<pid>/smaps_rollup`.

use std::fs;
use std::time::Duration;

use bolt_client::local::LocalAgent;
use tokio::runtime::Runtime;

use bolt_tests::order;

use crate::Caller;

/// Number of shims measured.
const SHIMS: usize = 8;

/// Lets freed memory go back: the agent trims a while after its connections close.
pub(crate) fn wait_until_trimmed() {
    std::thread::sleep(Duration::from_secs(3));
}

/// Prints the memory at rest of launcher and api.
pub(crate) fn print_rest(agent: &LocalAgent) {
    let launcher = agent.launcher_pid().expect("the launcher runs");
    let api = children(launcher).into_iter().find(|pid| command(*pid).contains("bolt-agent")).expect("the api runs");
    let mut both = 0;
    for (name, pid) in [("launcher", launcher), ("api", api)] {
        let (pss, own) = (field(pid, "Pss"), field(pid, "Pss_Anon"));
        both += pss;
        println!("{:<58} {pss:>9} kB   (of it {own} kB its own, the rest pages of the binary)", format!("{name}, PSS"));
    }
    println!("{:<58} {both:>9} kB   (target <= 6144)", "both");
}

/// Prints the private memory of a shim, with several of them running.
pub(crate) fn print_shims(runtime: &Runtime, caller: &Caller, agent: &LocalAgent) {
    let client = caller.agent();
    let started = runtime.block_on(async {
        let mut started = Vec::new();
        for _ in 0..SHIMS {
            started.push(client.create(&order("bench.sleep"), None, None).await.expect("it starts").id);
        }
        started
    });
    std::thread::sleep(Duration::from_secs(1));
    let launcher = agent.launcher_pid().expect("the launcher runs");
    let shims: Vec<u32> = children(launcher)
        .into_iter()
        .filter(|pid| !["bolt-agent", "bolt-sync"].iter().any(|name| command(*pid).contains(name)))
        .collect();
    let mut private: Vec<u64> =
        shims.iter().map(|pid| field(*pid, "Private_Clean") + field(*pid, "Private_Dirty")).collect();
    private.sort_unstable();
    let median = private.get(private.len() / 2).copied().unwrap_or_default();
    println!("{:<58} {median:>9} kB   (target <= 150, {} shims)", "a shim, private", private.len());
    runtime.block_on(async {
        for id in &started {
            client.kill(id, None).await.expect("it can be killed");
        }
        for id in &started {
            client.execution(id, Some(Duration::from_secs(10))).await.expect("it ends");
        }
    });
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn field(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
