//! Cost of a run over a fleet: the simulator with 100, 1,000 and 10,000 instances, and real agents beside `ssh`.
//!
//! Client, simulator and agents share the processors of this host; the client is a process of its own, so that its
//! processor time, memory and descriptors are its own. The floor is the handshake alone, with the same library. The rows for
//! `ssh` need `sshd` (Debian: openssh-server) and root. Under cargo the programs are built first, as optimised as benchmarks
//! are.

mod agents;
mod simulated;

pub use agents::print as print_agents;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bolt_client::local::binary;

use crate::Screen;
use crate::fleet::cost::Cost;

/// Sizes of the simulated fleet.
const SIZES: [u32; 3] = [100, 1_000, 10_000];
/// Number of real agents.
pub const AGENTS: u32 = 100;

/// Prints the tables: all of them; for sizes, those of the simulated fleet; for `agents` and a number, that of real agents.
/// Returns false if `words` are something else.
pub fn run(words: &[String]) -> bool {
    crate::bench_binaries();
    let numbers = |words: &[String]| words.iter().map(|word| word.parse().ok()).collect::<Option<Vec<u32>>>();
    match words {
        [] => {
            simulated::print(&SIZES);
            agents::print(AGENTS);
        }
        [first, rest @ ..] if first == "agents" => match numbers(rest).as_deref() {
            Some([]) => agents::print(AGENTS),
            Some([count]) => agents::print(*count),
            _ => return false,
        },
        sizes => match numbers(sizes) {
            Some(sizes) => simulated::print(&sizes),
            None => return false,
        },
    }
    true
}

/// Returns the path of the simulator's program.
fn simulator() -> PathBuf {
    binary("bolt-fleet-sim").expect("the simulator is built")
}

/// Runs `command` to its end and returns its cost; it must succeed.
fn measure(directory: &Path, command: &Command) -> Cost {
    let file = directory.join("cost.json");
    let mut measured = Command::new(simulator());
    measured.arg("measure").arg(&file).arg(command.get_program()).args(command.get_args());
    measured.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = measured.stdin(Stdio::null()).stderr(Stdio::piped()).output().expect("the simulator can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(file).expect("the cost is written");
    serde_json::from_str(&text).expect("a cost")
}

/// The same on a terminal, where the command shows its live view.
fn measure_on_terminal(directory: &Path, command: &Command) -> Cost {
    let file = directory.join("cost.json");
    let mut measured = Command::new(simulator());
    measured.arg("measure").arg(&file).arg(command.get_program()).args(command.get_args());
    measured.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (status, screen) = Screen::start(measured, 24, 100).wait();
    assert!(status.success(), "{command:?}: {screen}");
    let text = std::fs::read_to_string(file).expect("the cost is written");
    serde_json::from_str(&text).expect("a cost")
}

/// Prints a row: one figure for each column.
fn row(name: &str, figures: &[f64], digits: usize, note: &str) {
    let figures: String = figures.iter().map(|figure| format!("{figure:>11.digits$}")).collect();
    println!("{name:<48}{figures}   {note}");
}
