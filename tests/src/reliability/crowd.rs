//! Effect of thousands of anonymous sockets on callers with a certificate.
//!
//! A real agent, real TLS. For each [`Mode`] calls are timed without the crowd first, then with it: runs over a warm
//! connection, runs over a new one from an address that the agent has not seen before, and probes of the plain health
//! listener. Meanwhile the agent's descriptors and memory are sampled. Everything runs on this host, so the crowd's own work
//! slows down the calls as well.

mod callers;
mod sockets;

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bolt_client::local::LocalAgent;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::http::{Call, send};
use crate::{PackSource, World, process, spec};
pub(crate) use callers::Line;
pub use callers::{Calls, KINDS, Times};
pub use sockets::Mode;
use sockets::{Counts, Crowd};

/// Maximum number of descriptors above those at rest: 256 handshakes, 64 probes, and some for the
/// calls, their executions and the listeners' own.
const MORE_DESCRIPTORS: u64 = 256 + 64 + 64;
/// Interval between two samples.
const SAMPLE: Duration = Duration::from_millis(100);
/// Time for the crowd to build up, and to disappear.
const DEADLINE: Duration = Duration::from_secs(60);
/// Target: p99 with the crowd divided by p99 without.
const TARGET: f64 = 3.0;

/// Parameters of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Sockets of the crowd.
    pub sockets: u64,
    /// Maximum number of sockets opened per second.
    pub rate: u64,
    /// Duration of each phase (without and with the crowd), in milliseconds.
    pub millis: u64,
    /// Number of source addresses; of 8,388,608 hardly any repeats.
    pub addresses: u64,
    /// Seed of the source addresses.
    pub seed: u64,
}

/// Resources held by the agent.
#[derive(Debug, Default, Clone, Copy)]
pub struct Held {
    /// Open descriptors of the api.
    pub descriptors: u64,
    /// Resident memory of the api, in kilobytes.
    pub memory_kb: u64,
}

/// Figures of one mode.
#[derive(Debug, Clone)]
pub struct Row {
    /// The mode.
    pub mode: Mode,
    /// Calls without the crowd.
    pub quiet: Calls,
    /// Calls with the crowd.
    pub crowded: Calls,
    /// Sockets opened per second while calls were timed.
    pub opened_per_s: u64,
    /// Average number of open sockets of the crowd.
    pub open: u64,
    /// Failed connection attempts of the crowd.
    pub not_connected: u64,
    /// Resources of the api at rest, and at most.
    pub held: [Held; 2],
    /// Sockets closed by the agent, by reason.
    pub closed: Vec<(String, u64)>,
}

/// Figures of all modes.
#[derive(Debug, Clone)]
pub struct Figures {
    plan: Plan,
    /// Rows, one for each mode.
    pub rows: Vec<Row>,
}

impl Figures {
    /// Returns the first broken promise: a failed call, or more descriptors than allowed.
    pub fn broken(&self) -> Option<String> {
        self.rows.iter().find_map(|row| {
            let name = row.mode.name();
            let (count, first) = (row.failed().count(), row.failed().next());
            if let Some(first) = first {
                return Some(format!("{name}: {count} calls failed, the first: {first}"));
            }
            let [rest, most] = row.held.map(|held| held.descriptors);
            (most > rest + MORE_DESCRIPTORS).then(|| format!("{name}: {most} descriptors, {rest} at rest"))
        })
    }
}

impl Row {
    fn failed(&self) -> impl Iterator<Item = &String> {
        self.quiet.failed.iter().chain(&self.crowded.failed)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { sockets, rate, millis, addresses, .. } = self.plan;
        let seconds = Duration::from_millis(millis).as_secs_f64();
        writeln!(f, "{sockets} sockets from {addresses} addresses, at most {rate} opened a second, {seconds} s each")?;
        writeln!(f, "  {:<24}{:>20}{:>20}{:>8}", "ms", "alone p50     p99", "crowd p50     p99", "x p99")?;
        for row in &self.rows {
            let opened = row.opened_per_s;
            writeln!(f, "  {}: {} open on average, {opened} opened a second", row.mode.name(), row.open)?;
            for ((kind, quiet), crowded) in KINDS.iter().zip(&row.quiet.times).zip(&row.crowded.times) {
                let ratio = crowded.percentile(99).as_secs_f64() / quiet.percentile(99).as_secs_f64();
                let missed = if ratio < TARGET { "" } else { "  (target < 3)" };
                writeln!(f, "    {kind:<22}{quiet:>20}{crowded:>20}{ratio:>8.1}{missed}")?;
            }
            let [rest, most] = row.held;
            let calls = [&row.quiet, &row.crowded].map(|calls| calls.times.iter().map(|t| t.count()).sum::<usize>());
            writeln!(
                f,
                "    {} and {} calls, {} failed; api at rest {} descriptors, {} kB; at most {}, {} kB",
                calls[0],
                calls[1],
                row.failed().count(),
                rest.descriptors,
                rest.memory_kb,
                most.descriptors,
                most.memory_kb
            )?;
            let closed: Vec<String> = row.closed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            writeln!(f, "    closed by the agent: {}; not connected: {}", closed.join(", "), row.not_connected)?;
        }
        write!(f, "  {}", self.broken().map_or("no call failed".to_owned(), |what| format!("BROKEN: {what}")))
    }
}

/// Runs all modes, one after the other.
pub fn run(plan: Plan) -> Figures {
    raise_limit();
    let world = World::empty();
    let pack = PackSource::new("crowd", "1.0.0").action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n");
    world.publish(&pack);
    let health = free_address();
    let agent = world.start(&spec("i-1").set("api", "health_listen", health.to_string()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut line = Line::new(agent.address(), health, &world.site.operator());
    runtime.block_on(async {
        // Warm-up: the first calls fill caches.
        line.call_for(Duration::from_millis(plan.millis / 4)).await;
        let mut rows = Vec::new();
        for mode in Mode::ALL {
            rows.push(one(&world, &agent, &mut line, mode, plan).await);
        }
        Figures { plan, rows }
    })
}

async fn one(world: &World, agent: &LocalAgent, line: &mut Line, mode: Mode, plan: Plan) -> Row {
    let time = Duration::from_millis(plan.millis);
    let launcher = agent.launcher_pid().expect("the launcher runs");
    let api = process::api_of(launcher).expect("the api runs");
    let rest = held(api);
    let quiet = line.call_for(time).await;
    let before = closed(world, agent).await;
    let crowd = Crowd::start(agent.address(), mode, plan);
    let begun = Instant::now();
    while crowd.counts.opened.load(Ordering::Relaxed) < plan.sockets {
        assert!(begun.elapsed() < DEADLINE, "the crowd does not come: {:?}", crowd.counts);
        tokio::time::sleep(SAMPLE).await;
    }
    let (begun, opened) = (Instant::now(), crowd.counts.opened.load(Ordering::Relaxed));
    let sampling = sample(api, &crowd.counts);
    let (crowded, (most, open)) = tokio::select! {
        biased;
        never = sampling.run() => match never {},
        crowded = line.call_for(time) => (crowded, sampling.taken()),
    };
    let opened = crowd.counts.opened.load(Ordering::Relaxed) - opened;
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let not_connected = crowd.counts.failed.load(Ordering::Relaxed);
    drop(crowd);
    let after = closed(world, agent).await;
    let difference = |(reason, count): &(String, u64)| {
        let earlier = before.iter().find(|(known, _)| known == reason).map_or(0, |(_, count)| *count);
        (reason.clone(), count - earlier)
    };
    let closed = after.iter().map(difference).filter(|(_, count)| *count > 0).collect();
    wait_until_closed(api, rest).await;
    Row {
        mode,
        quiet,
        crowded,
        opened_per_s: opened * 1000 / elapsed_ms,
        open,
        not_connected,
        held: [rest, most],
        closed,
    }
}

/// Samples until dropped.
struct Sampling<'a> {
    api: u32,
    counts: &'a Counts,
    most: std::cell::Cell<Held>,
    open: std::cell::Cell<(u64, u64)>,
}

fn sample(api: u32, counts: &Counts) -> Sampling<'_> {
    Sampling { api, counts, most: std::cell::Cell::default(), open: std::cell::Cell::default() }
}

impl Sampling<'_> {
    async fn run(&self) -> std::convert::Infallible {
        loop {
            let (now, most) = (held(self.api), self.most.get());
            self.most.set(Held {
                descriptors: now.descriptors.max(most.descriptors),
                memory_kb: now.memory_kb.max(most.memory_kb),
            });
            let (sum, samples) = self.open.get();
            self.open.set((sum + self.counts.open.load(Ordering::Relaxed), samples + 1));
            tokio::time::sleep(SAMPLE).await;
        }
    }

    /// Returns the maximum held, and the average number of open sockets.
    fn taken(&self) -> (Held, u64) {
        let (sum, samples) = self.open.get();
        (self.most.get(), sum / samples.max(1))
    }
}

/// Waits until the agent has closed the crowd's sockets.
async fn wait_until_closed(api: u32, rest: Held) {
    let begun = Instant::now();
    while held(api).descriptors > rest.descriptors && begun.elapsed() < DEADLINE {
        tokio::time::sleep(SAMPLE).await;
    }
}

pub(crate) fn held(api: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{api}/status")).unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let descriptors = fs::read_dir(format!("/proc/{api}/fd")).map_or(0, |entries| entries.count() as u64);
    Held { descriptors, memory_kb: memory.unwrap_or(0) }
}

/// Returns the agent's own counts of closed sockets.
async fn closed(world: &World, agent: &LocalAgent) -> Vec<(String, u64)> {
    let metrics = send(agent.address(), Some(&world.site.operator()), Call::get("/v1/metrics")).await;
    let text = metrics.expect("metrics are served").text();
    let count = |line: &str| {
        let (labels, count) = line.strip_prefix("bolt_handshakes_failed_total{listener=\"api\",")?.split_once("} ")?;
        Some((labels.split('"').nth(1)?.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(count).collect()
}

/// Raises the limit: this process holds the other ends of all sockets.
pub(crate) fn raise_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

pub(crate) fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("a port is free")
}
