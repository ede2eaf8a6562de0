//! The same run over real agents on this host, beside `xargs -P 32 ssh` over as many warm master connections.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Instant;

use crate::ssh::Sshd;
use crate::{PackSource, World, place, spec};
use bolt_client::local::{LocalAgent, binary};

use super::{measure, row};

/// Script that is run everywhere: does nothing.
const NOTHING: &str = "#!/bin/true\n";
/// Runs of each, of which the median counts.
const RUNS: usize = 5;
/// Number of ssh clients at a time.
const PARALLEL: u32 = 32;

/// Prints the table for `count` agents.
pub fn print(count: u32) {
    let world = World::empty();
    let pack = PackSource::new("bench", "1.0.0").action("nothing", "bolt: {class: diagnostic}", NOTHING);
    world.publish(&pack);
    let ids: Vec<String> = (0..count).map(|number| format!("i-{number:03}")).collect();
    let prepared = |id: &String| LocalAgent::prepare(&world.site, &spec(id)).expect("an agent can be prepared");
    let mut agents: Vec<LocalAgent> = ids.iter().map(prepared).collect();
    // A few at a time: each has a time limit for its start.
    for some in agents.chunks_mut(8) {
        some.iter_mut().for_each(|agent| agent.launch().expect("an agent starts"));
        some.iter_mut().for_each(|agent| agent.wait_ready().expect("an agent becomes ready"));
        for agent in some {
            place::make_executions_top(agent);
        }
    }
    let all: Vec<&LocalAgent> = agents.iter().collect();
    let _ = world.bolt(&all);
    let mut bolt = Command::new(binary("bolt").expect("bolt is built"));
    bolt.arg("--config").arg(world.site.client_config()).args(["run", "bench.nothing", "--everywhere", "--at-once"]);
    place::set_state(&mut bolt, world.path());
    let mut runs: Vec<_> = (0..=RUNS).map(|_| measure(world.path(), &bolt)).skip(1).collect();
    runs.sort_by(|one, other| one.wall_ms.total_cmp(&other.wall_ms));
    let run = runs[RUNS / 2];

    println!("\n{:<48}{count:>11}   target", "real agents on this host");
    row("bolt run --at-once, wall time, s", &[run.wall_ms / 1e3], 2, "<= 0.28 for 100");
    row("  client, ms of CPU per instance", &[run.cpu_ms / f64::from(count)], 3, "<= 0.7");
    row("  client, peak memory, MB", &[run.peak_kb as f64 / 1024.0], 1, "");
    row("  client, descriptors at most", &[run.descriptors as f64], 0, "");
    let Some(ssh_ms) = ssh(&world, count) else { return };
    row(&format!("xargs -P {PARALLEL} ssh, warm ControlMasters, s"), &[ssh_ms / 1e3], 2, "");
    row("ssh / bolt", &[ssh_ms / run.wall_ms], 1, "> 2");
}

/// Returns the median time of `xargs ssh` over `count` masters, in milliseconds.
fn ssh(world: &World, count: u32) -> Option<f64> {
    let script = world.scratch("programs").join("nothing.sh");
    fs::write(&script, NOTHING).expect("the script can be written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    // Control sockets have short paths (sun_path).
    let directory = tempfile::Builder::new().prefix("sshd-").tempdir().expect("a directory");
    let Some(sshd) = Sshd::start(directory.path(), true).expect("sshd can be started") else {
        println!("SKIPPED ssh: it needs root and /usr/sbin/sshd (Debian: apt-get install openssh-server)");
        return None;
    };
    let masters = sshd.masters(count).expect("master connections");
    let mut times: Vec<f64> = (0..=RUNS)
        .map(|_| {
            let begun = Instant::now();
            masters.run_everywhere(PARALLEL, &script).expect("every ssh succeeds");
            begun.elapsed().as_secs_f64() * 1e3
        })
        .skip(1)
        .collect();
    times.sort_by(f64::total_cmp);
    Some(times[RUNS / 2])
}
