//! Memory of the agent's processes, from `/proc/<pid>/smaps_rollup`.

use std::fs;
use std::time::Duration;

use bolt_client::local::LocalAgent;
use tokio::runtime::Runtime;

use bolt_tests::order;

use crate::Caller;

/// Number of shims measured.
const SHIMS: usize = 8;

/// Time after which the agent has given memory back: five seconds without requests, and a tick.
const REST: Duration = Duration::from_secs(8);
/// Time of idleness after which it has not.
const PAUSE: Duration = Duration::from_secs(3);
/// Number of first requests after a time of idleness.
const FIRST: usize = 12;

/// Lets freed memory go back.
pub(crate) fn wait_until_trimmed() {
    std::thread::sleep(REST);
}

/// Prints the memory at rest of launcher and api.
pub(crate) fn print_rest(agent: &LocalAgent) {
    let launcher = agent.launcher_pid().expect("the launcher runs");
    let api = children(launcher).into_iter().find(|pid| command(*pid).contains("bolt-agent")).expect("the api runs");
    let (mut pss, mut own) = (0, 0);
    for (name, pid) in [("launcher", launcher), ("api", api)] {
        print_process(name, pid);
        pss += field(pid, "Pss");
        own += own_kb(pid);
    }
    println!("{:<58} {pss:>9} kB   (target <= 3584; own {own} kB, target <= 1638)", "both, PSS");
}

/// Prints the memory of another resident program, or that it is missing.
pub(crate) fn print_other(name: &str, pid: Option<u32>, package: &str) {
    match pid {
        Some(pid) => print_process(name, pid),
        None => println!("SKIPPED {name}: it needs root and the Debian package {package}"),
    }
}

fn print_process(name: &str, pid: u32) {
    let (pss, own) = (field(pid, "Pss"), own_kb(pid));
    println!("{:<58} {pss:>9} kB   (own {own} kB, the rest pages of files)", format!("{name}, PSS"));
}

/// Returns the memory that no other process has: anonymous, or changed pages of files.
fn own_kb(pid: u32) -> u64 {
    field(pid, "Pss_Anon").max(field(pid, "Private_Dirty"))
}

/// Prints how long the first request takes after a pause, and after a rest in which memory was given back.
pub(crate) fn print_first(runtime: &Runtime, caller: &Caller) {
    let client = caller.agent();
    runtime.block_on(caller.wait_nothing(&client));
    for (name, idle) in [("after 3 s", PAUSE), ("after 8 s, at rest", REST)] {
        let mut times: Vec<Duration> = (0..FIRST)
            .map(|_| {
                std::thread::sleep(idle);
                let since = std::time::Instant::now();
                runtime.block_on(caller.wait_nothing(&client));
                since.elapsed()
            })
            .collect();
        times.sort_unstable();
        let ms = |at: usize| times[at].as_secs_f64() * 1e3;
        println!(
            "{:<58} {:>9.2} ms   (longest {:.2})",
            format!("first POST ?wait, warm, {name}"),
            ms(FIRST / 2),
            ms(FIRST - 1)
        );
    }
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
    println!("{:<58} {median:>9} kB   (target <= 130, {} shims)", "a shim, private", private.len());
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
