//! Runs over the simulated fleet, which is a process of its own.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::fleet::cost::Cost;
use crate::fleet::{ACTION, Totals, handshakes};
use crate::place;
use bolt_client::local::binary;

use super::{measure, measure_on_terminal, row, simulator};

/// Handshakes of which the floor is the mean.
const FLOOR: u32 = 2_000;
/// Runs of which the one with the median processor time counts.
const RUNS: usize = 3;

/// The simulator with its ledger; ends when it is dropped.
struct Simulator {
    process: Child,
    ask: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    directory: tempfile::TempDir,
}

impl Simulator {
    fn start(instances: u32) -> Simulator {
        let directory = tempfile::Builder::new().prefix("bolt-fleet-").tempdir().expect("a temporary directory");
        let mut command = Command::new(simulator());
        command.args(["serve", "--instances", &instances.to_string(), "--directory"]).arg(directory.path());
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the simulator can be run");
        let ask = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let ready = answers.next().expect("it says that it is ready").expect("it can be read");
        assert_eq!(ready, "ready");
        Simulator { process, ask, answers, directory }
    }

    fn totals(&mut self) -> Totals {
        writeln!(self.ask.as_mut().expect("it is open"), "totals").expect("the simulator listens");
        let line = self.answers.next().expect("it answers").expect("it can be read");
        serde_json::from_str(&line).expect("its sums")
    }

    /// Returns the processor time that it has used, in milliseconds.
    fn cpu_ms(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        // utime and stime, fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
        fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.ask.take());
        drop(self.process.wait());
    }
}

/// Figures of one size.
struct Figures {
    instances: f64,
    run: Cost,
    /// A run on a terminal, with its live view.
    viewed: Cost,
    handshakes: Cost,
    seen: Totals,
    simulator_ms: f64,
}

fn figures(instances: u32) -> Figures {
    let mut simulator = Simulator::start(instances);
    let directory = simulator.directory.path().to_owned();
    let mut bolt = Command::new(binary("bolt").expect("bolt is built"));
    bolt.arg("--config").arg(directory.join("client.toml")).args(["run", ACTION, "--everywhere", "--at-once"]);
    place::set_state(&mut bolt, &directory);
    let mut runs: Vec<(Cost, Totals, f64)> = (0..RUNS)
        .map(|_| {
            let (before, used) = (simulator.totals(), simulator.cpu_ms());
            let cost = measure(&directory, &bolt);
            (cost, simulator.totals().since(before), simulator.cpu_ms() - used)
        })
        .collect();
    assert!(runs.iter().all(|(_, seen, _)| seen.starts == u64::from(instances) && seen.repeated_starts == 0));
    runs.sort_by(|(one, ..), (other, ..)| one.cpu_ms.total_cmp(&other.cpu_ms));
    let (run, seen, simulator_ms) = runs.swap_remove(RUNS / 2);
    let mut viewed: Vec<Cost> = (0..RUNS).map(|_| measure_on_terminal(&directory, &bolt)).collect();
    viewed.sort_by(|one, other| one.cpu_ms.total_cmp(&other.cpu_ms));
    let viewed = viewed.swap_remove(RUNS / 2);
    let mut connect = Command::new(super::simulator());
    connect.args(["handshakes", "--directory"]).arg(&directory);
    let handshakes = measure(&directory, &connect);
    Figures { instances: f64::from(instances), run, viewed, handshakes, seen, simulator_ms }
}

/// Prints the table for fleets of these sizes.
pub(super) fn print(sizes: &[u32]) {
    let floor_ms = handshakes::processor_time(FLOOR).as_secs_f64() * 1e3;
    let columns: Vec<Figures> = sizes.iter().map(|size| figures(*size)).collect();
    let each = |figure: &dyn Fn(&Figures) -> f64| columns.iter().map(figure).collect::<Vec<f64>>();
    let heads: String = sizes.iter().map(|size| format!("{size:>11}")).collect();
    println!("\n{:<48}{heads}   target", "simulated instances");
    row("wall time, s", &each(&|f| f.run.wall_ms / 1e3), 2, "10,000 in <= 10");
    row("instances a second", &each(&|f| f.instances / f.run.wall_ms * 1e3), 0, "");
    row("client, ms of CPU per instance", &each(&|f| f.run.cpu_ms / f.instances), 3, "");
    row("  of it in the kernel", &each(&|f| f.run.system_ms / f.instances), 3, "");
    row("  handshake alone, its side of TLS (floor)", &each(&|_| floor_ms), 3, "");
    row("  beyond the floor", &each(&|f| f.run.cpu_ms / f.instances - floor_ms), 3, "<= 0.5");
    row("  with the live view on a terminal, in all", &each(&|f| f.viewed.cpu_ms / f.instances), 3, "");
    row("client, peak memory, MB", &each(&|f| f.run.peak_kb as f64 / 1024.0), 1, "<= 200");
    row("client, descriptors at most", &each(&|f| f.run.descriptors as f64), 0, "");
    row("requests per instance", &each(&|f| f.seen.requests as f64 / f.instances), 2, "1");
    row("connections per instance", &each(&|f| f.seen.connections as f64 / f.instances), 2, "1");
    row("simulator, ms of CPU per instance", &each(&|f| f.simulator_ms / f.instances), 3, "");
    row("handshakes over sockets alone: wall time, s", &each(&|f| f.handshakes.wall_ms / 1e3), 2, "");
    row("  ms of CPU per instance", &each(&|f| f.handshakes.cpu_ms / f.instances), 3, "");
}
