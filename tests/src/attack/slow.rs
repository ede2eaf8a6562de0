//! slowhttptest in all its modes on a live agent, beside a caller that behaves well.
//!
//! The tool cannot present a certificate. It attacks the port as an anonymous peer, the HTTP layer behind mutual TLS through
//! a relay that presents one, and the plain health listener. For each of these, and each mode, calls are timed before
//! the attack and during it; meanwhile descriptors and memory of the agent are sampled.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bolt_client::local::{LocalAgent, OPERATOR};
use bolt_client::pki::Validity;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::base::name::Principal;

use super::Tools;
use super::relay::Relay;
use crate::reliability::crowd::{Calls, Held, KINDS, Line, free_address, held, raise_limit};
use crate::{PackSource, World, process, spec};

/// Principal of the attacker, who has a grant.
const ATTACKER: &str = "spiffe://bolt.local/attacker";
/// Maximum number of descriptors above those at rest: connections, anonymous sockets, probes, and some for the calls.
const MORE_DESCRIPTORS: u64 = 1024 + 256 + 64 + 64;
/// Interval between two samples.
const SAMPLE: Duration = Duration::from_millis(100);
/// Time for the attack to build up, and for the agent to be at rest afterwards.
const DEADLINE: Duration = Duration::from_secs(90);

/// Parameters of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Connections of the tool.
    pub connections: u64,
    /// Connections opened per second.
    pub rate: u64,
    /// Duration of each phase (before and during the attack), in milliseconds.
    pub millis: u64,
}

/// Target of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The port, without a certificate.
    Tls,
    /// The REST interface, with the certificate of a caller with a grant.
    Http,
    /// The plain health listener.
    Health,
}

impl Layer {
    const ALL: [Layer; 3] = [Layer::Tls, Layer::Http, Layer::Health];

    fn name(self) -> &'static str {
        match self {
            Layer::Tls => "port, anonymous",
            Layer::Http => "behind mutual TLS",
            Layer::Health => "health listener",
        }
    }
}

/// Mode of the tool: its option, its name, the path, and further options.
const MODES: [(&str, &str, &str, &[&str]); 4] = [
    ("-H", "slow headers", "/v1/health", &["-i", "1", "-x", "24"]),
    ("-B", "slow body", "/v1/executions", &["-i", "1", "-s", "60000", "-f", "application/json"]),
    ("-X", "slow read", "/v1/openapi.json", &["-k", "10", "-n", "1", "-z", "32", "-w", "64", "-y", "512"]),
    ("-R", "range", "/v1/executions", &["-t", "GET", "-a", "5", "-b", "2000"]),
];

/// Figures of one attack.
#[derive(Debug, Clone)]
pub struct Row {
    layer: Layer,
    mode: &'static str,
    /// Calls before it.
    pub quiet: Calls,
    /// Calls during it.
    pub attacked: Calls,
    /// Resources of the api before, at most, and after.
    pub held: [Held; 3],
    /// Connections that the tool had open at most, and that were closed, by its own count of each second.
    pub connections: [u64; 2],
    /// False if the tool failed, for example because it did not accept an option.
    pub has_run: bool,
}

/// Figures of all attacks.
#[derive(Debug, Clone)]
pub struct Figures {
    plan: Plan,
    /// Rows, one for each attack.
    pub rows: Vec<Row>,
}

impl Figures {
    /// Returns the first broken promise: a failed call, more descriptors than allowed, or some that are not given back.
    pub fn broken(&self) -> Option<String> {
        self.rows.iter().find_map(|row| {
            let name = format!("{}, {}", row.layer.name(), row.mode);
            if let Some(failed) = row.quiet.failed.iter().chain(&row.attacked.failed).next() {
                let count = row.quiet.failed.len() + row.attacked.failed.len();
                return Some(format!("{name}: {count} calls failed, the first: {failed}"));
            }
            if !row.has_run {
                return Some(format!("{name}: the tool failed"));
            }
            let [rest, most, after] = row.held.map(|held| held.descriptors);
            if most > rest + MORE_DESCRIPTORS {
                return Some(format!("{name}: {most} descriptors, {rest} at rest"));
            }
            (after > rest + 8).then(|| format!("{name}: {after} descriptors after it, {rest} before"))
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { connections, rate, millis } = self.plan;
        let seconds = Duration::from_millis(millis).as_secs_f64();
        writeln!(f, "{connections} connections, {rate} opened a second, {seconds} s each")?;
        writeln!(f, "  {:<24}{:>18}{:>18}{:>8}", "ms", "alone p50    p99", "attack p50    p99", "x p99")?;
        for row in &self.rows {
            writeln!(f, "  {}: {}", row.layer.name(), row.mode)?;
            for ((kind, quiet), attacked) in KINDS.iter().zip(&row.quiet.times).zip(&row.attacked.times) {
                let ratio = attacked.percentile(99).as_secs_f64() / quiet.percentile(99).as_secs_f64();
                writeln!(f, "    {kind:<22}{quiet}   {attacked}{ratio:>8.1}")?;
            }
            let calls = [&row.quiet, &row.attacked].map(|calls| calls.times.iter().map(|t| t.count()).sum::<usize>());
            let [rest, most, after] = row.held;
            writeln!(
                f,
                "    open at most {}, closed {}; {} and {} calls, {} failed; api: {} descriptors, {} kB before; {}, {} at \
                 most; {}, {} after",
                row.connections[0],
                row.connections[1],
                calls[0],
                calls[1],
                row.quiet.failed.len() + row.attacked.failed.len(),
                rest.descriptors,
                rest.memory_kb,
                most.descriptors,
                most.memory_kb,
                after.descriptors,
                after.memory_kb
            )?;
        }
        write!(f, "  {}", self.broken().map_or("no call failed".to_owned(), |what| format!("BROKEN: {what}")))
    }
}

/// Runs all attacks, one after the other.
pub fn run(tools: &Tools, plan: Plan) -> Figures {
    raise_limit();
    let world = World::empty();
    world.publish(&PackSource::new("crowd", "1.0.0").action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n"));
    let health = free_address();
    let mut spec = spec("i-1").set("api", "health_listen", health.to_string());
    let grants = [OPERATOR, ATTACKER].map(|principal| {
        format!("[[grant]]\nprincipal = \"{principal}\"\nverbs = [\"read\", \"run\"]\nactions = [\"*\"]\n")
    });
    spec.grants = Some(grants.concat());
    let agent = world.start(&spec);
    let attacker = Principal::new(ATTACKER).expect("a valid principal");
    let attacker = world.site.caller("attacker", &attacker, Validity::days(1)).expect("a certificate can be issued");
    let relay = Relay::start(agent.address(), &attacker);
    let mut line = Line::new(agent.address(), health, &world.site.operator());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // Warm-up: the first calls fill caches.
        line.call_for(Duration::from_millis(plan.millis / 4)).await;
        let mut rows = Vec::new();
        for layer in Layer::ALL {
            for number in 0..MODES.len() {
                let target = match layer {
                    Layer::Tls => format!("https://{}", agent.address()),
                    Layer::Http => format!("http://{}", relay.address()),
                    Layer::Health => format!("http://{health}"),
                };
                rows.push(one((&world, tools), &agent, &mut line, (layer, number, target), plan).await);
            }
        }
        Figures { plan, rows }
    })
}

async fn one(
    (world, tools): (&World, &Tools),
    agent: &LocalAgent,
    line: &mut Line,
    (layer, number, target): (Layer, usize, String),
    plan: Plan,
) -> Row {
    let (option, mode, path, further) = MODES[number];
    let time = Duration::from_millis(plan.millis);
    let api = process::api_of(agent.launcher_pid().expect("the launcher runs")).expect("the api runs");
    let rest = held(api);
    let quiet = line.call_for(time).await;
    let path = if layer == Layer::Health { "/v1/health" } else { path };
    let attack = Attack::start(world, tools, option, &format!("{target}{path}"), further, plan);
    let mut most = rest;
    // All connections are opened: no more come while calls are timed than the agent closes.
    let built_up = Instant::now() + Duration::from_millis(plan.connections * 1000 / plan.rate.max(1));
    let sampling = async {
        loop {
            let now = held(api);
            most = Held {
                descriptors: now.descriptors.max(most.descriptors),
                memory_kb: now.memory_kb.max(most.memory_kb),
            };
            tokio::time::sleep(SAMPLE).await;
        }
    };
    let attacked = tokio::select! {
        attacked = async {
            // Half of the calls while connections are opened, half with all of them open.
            let mut calls = line.call_for(time / 2).await;
            tokio::time::sleep_until(built_up.into()).await;
            calls.extend(line.call_for(time / 2).await);
            calls
        } => attacked,
        never = sampling => never,
    };
    let (has_run, connections) = attack.stop();
    let begun = Instant::now();
    while held(api).descriptors > rest.descriptors && begun.elapsed() < DEADLINE {
        tokio::time::sleep(SAMPLE).await;
    }
    Row { layer, mode, quiet, attacked, held: [rest, most, held(api)], connections, has_run }
}

/// The running tool; ends when dropped.
struct Attack {
    tool: Child,
    /// Its statistics, one line for each second.
    statistics: PathBuf,
}

impl Attack {
    fn start(world: &World, tools: &Tools, option: &str, url: &str, further: &[&str], plan: Plan) -> Attack {
        let prefix = world.path().join("slowhttptest");
        let statistics = prefix.with_extension("csv");
        drop(fs::remove_file(&statistics));
        let mut command = Command::new(tools.slowhttptest());
        command.args([option, "-u", url, "-l", "600", "-p", "5", "-g", "-o"]).arg(&prefix).args(further);
        command.arg("-c").arg(plan.connections.to_string()).arg("-r").arg(plan.rate.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Attack { tool: command.spawn().expect("slowhttptest can be run"), statistics }
    }

    /// Ends it as a user would. Returns true if it did not fail, and the connections that it had open at most, and that were
    /// closed: none before its second line, after a second. It may have ended by itself, when it had none left.
    fn stop(mut self) -> (bool, [u64; 2]) {
        let pid = i32::try_from(self.tool.id()).expect("a process id");
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        let begun = Instant::now();
        while matches!(self.tool.try_wait(), Ok(None)) && begun.elapsed() < DEADLINE {
            std::thread::sleep(SAMPLE);
        }
        let has_run = self.tool.try_wait().is_ok_and(|status| status.is_some_and(|status| status.success()));
        // Seconds, closed, pending, connected, service available.
        let text = fs::read_to_string(&self.statistics).unwrap_or_default();
        let lines = text.lines().map(|line| line.split(',').map(|number| number.trim().parse().unwrap_or(0)).collect());
        let connections = lines.fold([0, 0], |[open, closed], line: Vec<u64>| {
            let at = |index: usize| line.get(index).copied().unwrap_or(0);
            [open.max(at(3)), closed.max(at(1))]
        });
        (has_run, connections)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        drop(self.tool.kill());
        drop(self.tool.wait());
    }
}
