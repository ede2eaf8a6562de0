//! Memory that launcher and api do not hold while nothing happens.

use std::fs;
use std::time::Duration;

use bolt_tests::{PackSource, World};
use packs_schema::agent::execution::State;
use packs_schema::agent::launch;
use serde_json::json;

use crate::calls::until;
use crate::restarts::child;

/// Limit on the code of program and libraries that a process maps at rest: windows of 64 KiB, in which the kernel maps what is near
/// a page that is touched. Without optimisation there are some twenty; one round of the api's checks touches several megabytes.
const MAX_KB: u64 = 2048;
/// Number of looks at a process, in more than three rounds of its checks.
const LOOKS: usize = 35;
const PAUSE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn at_rest_programs_are_not_mapped_between_checks() {
    let world = World::empty();
    world.publish(&PackSource::probe());
    let agent = world.agent();
    let operator = world.operator(&agent);
    let run = async || operator.wait(&operator.start("probe.hello", json!({})).await).await.state;
    assert_eq!(run().await, State::Succeeded);
    let launcher = agent.launcher_pid().unwrap();
    let api = child(launcher, "api").unwrap().cast_unsigned();
    assert!(program_kb(api) > MAX_KB, "the api works, so its program is mapped");
    let heap = format!("{}={}", launch::HEAP.0, launch::HEAP.1);
    for pid in [launcher, api] {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(environment.split(|byte| *byte == 0).any(|one| one == heap.as_bytes()), "glibc keeps freed blocks");
    }
    assert!(include_str!("../../systemd/bolt-launch.service").contains(&format!("\nEnvironment={heap}\n")));
    for (name, pid) in [("launcher", launcher), ("api", api)] {
        until(name, async || median_program_kb(pid).await <= MAX_KB).await;
    }
    assert_eq!(run().await, State::Succeeded, "what is needed is mapped again");
}

/// Returns how much of program and libraries a process maps most of the time: a look may meet a check that is under way.
async fn median_program_kb(pid: u32) -> u64 {
    let mut looks = Vec::new();
    for _ in 0..LOOKS {
        looks.push(program_kb(pid));
        tokio::time::sleep(PAUSE).await;
    }
    looks.sort_unstable();
    looks[LOOKS / 2]
}

/// Returns how many kilobytes of executable mappings are in memory.
fn program_kb(pid: u32) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut sum, mut is_program) = (0, false);
    for line in smaps.lines() {
        match line.strip_prefix("Rss:") {
            Some(rss) if is_program => sum += rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap(),
            Some(_) => {}
            None if line.contains(" r-xp ") => is_program = true,
            None if line.contains(" r--p ")
                || line.contains(" rw-p ")
                || line.contains(" ---p ")
                || line.contains(" rw-s ") =>
            {
                is_program = false;
            }
            None => {}
        }
    }
    sum
}
