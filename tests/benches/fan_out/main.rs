//! Cost of a run over a fleet: the simulator with 100, 1,000 and 10,000 instances, and real agents beside `ssh`.
//!
//! ```text
//! cargo bench -p bolt-tests --bench fan_out                     everything
//! cargo bench -p bolt-tests --bench fan_out -- 100 1000         these sizes of the simulated fleet, and no agents
//! cargo bench -p bolt-tests --bench fan_out -- agents 50        real agents only, and ssh to as many hosts
//! ```
//!
//! Builds the programs first, as optimised as benchmarks are. Client, simulator and agents share the processors of this
//! host; the client is a process of its own, so that its processor time, memory and descriptors are its own. The floor is
//! the handshake alone, with the same library. The rows for `ssh` need `sshd` (Debian: openssh-server) and root.

mod agents;
mod simulated;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bolt_tests::fleet::cost::Cost;

/// Sizes of the simulated fleet.
const SIZES: [u32; 3] = [100, 1_000, 10_000];
/// Number of real agents.
const AGENTS: u32 = 100;

fn main() {
    bolt_tests::bench_binaries();
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let numbers: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let only_agents = words.first().is_some_and(|word| word == "agents");
    if !only_agents {
        simulated::print(if numbers.is_empty() { &SIZES } else { &numbers });
    }
    if only_agents || numbers.is_empty() {
        agents::print(if only_agents { numbers.first().copied().unwrap_or(AGENTS) } else { AGENTS });
    }
}

/// Returns the path of the simulator's program.
fn simulator() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_bolt-fleet-sim"))
}

/// Runs `command` to its end and returns its cost; it must succeed.
fn measure(directory: &Path, command: &Command) -> Cost {
    let file = directory.join("cost.json");
    let mut measured = Command::new(simulator());
    measured.arg("measure").arg(&file).arg(command.get_program()).args(command.get_args());
    let output = measured.stdin(Stdio::null()).stderr(Stdio::piped()).output().expect("the simulator can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(file).expect("the cost is written");
    serde_json::from_str(&text).expect("a cost")
}

/// Prints a row: one figure for each column.
fn row(name: &str, figures: &[f64], digits: usize, note: &str) {
    let figures: String = figures.iter().map(|figure| format!("{figure:>11.digits$}")).collect();
    println!("{name:<48}{figures}   {note}");
}
