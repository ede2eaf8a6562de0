//! Latency from an action's `write` to its followers: with one follower, with many, and with some that
//! do not read and must not slow the action down.
//!
//! The action writes the time into each line, and a follower subtracts it from its own; both run on this host and share its
//! clock.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bolt_client::connection::{Agent, OutputFrom};
use packs_schema::agent::execution::State;
use packs_schema::base::name::ExecutionId;

use crate::http::Held;
use crate::{PackSource, World, order, spec};

/// Number of lines, and the interval between two of them in milliseconds.
const LINES: usize = 150;
const PAUSE_MS: u64 = 20;

/// Row of the figures.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Followers that read.
    pub followers: usize,
    /// Followers that opened the output and did not read.
    pub silent: usize,
    /// Median, 99th percentile and longest time from write to reader.
    pub latency: [Duration; 3],
    /// Run time of the action.
    pub ran: Duration,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, most] = self.latency.map(|time| time.as_secs_f64() * 1e3);
        write!(
            f,
            "{:>4} followers, {:>2} that do not read: p50 {p50:>6.2} ms, p99 {p99:>6.2} ms, longest {most:>6.2} ms; the action ran {:.2} s",
            self.followers,
            self.silent,
            self.ran.as_secs_f64()
        )
    }
}

/// Measures each number of followers, with the given number that do not read.
pub fn run(sets: &[(usize, usize)]) -> Vec<Row> {
    let world = World::empty();
    let script = format!(
        "#!/usr/bin/python3\nimport time\nfor n in range({LINES}):\n    print(time.time_ns(), flush=True)\n    time.sleep({PAUSE_MS} / 1000)\n"
    );
    world.publish(&PackSource::new("clock", "1.0.0").action("tell", "bolt: {class: diagnostic}", &script));
    let agent = world.start(&spec("i-1"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let one = |(followers, silent): &(usize, usize)| {
        runtime.block_on(async {
            let client = world.client(&agent);
            let id = client.create(&order("clock.tell"), None, None).await.expect("it is taken").id;
            let mut held = Vec::new();
            for _ in 0..*silent {
                let path = format!("/v1/executions/{id}/stdout?follow=true");
                held.push(Held::open(agent.address(), &world.site.operator(), Some(&path)).await.expect("it opens"));
            }
            let readers: Vec<_> =
                (0..*followers).map(|_| tokio::spawn(read(world.client(&agent), id.clone()))).collect();
            let mut times = Vec::new();
            for reader in readers {
                times.extend(reader.await.expect("a follower ends"));
            }
            times.sort_unstable();
            let end = client.execution(&id, Some(Duration::from_secs(30))).await.expect("it ends");
            assert_eq!(end.state, State::Succeeded, "{end:?}");
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            Row {
                followers: *followers,
                silent: *silent,
                latency: [at(50), at(99), at(100)],
                ran: Duration::from_millis(end.duration_ms.unwrap_or_default()),
            }
        })
    };
    sets.iter().map(one).collect()
}

/// Follows to the end and returns the latency of each line written after this reader connected.
async fn read(client: Agent, id: ExecutionId) -> Vec<Duration> {
    let mut lines = client.output(&id, OutputFrom::default(), true).await.expect("it can be followed");
    let came = now();
    let mut times = Vec::new();
    while let Some(chunk) = lines.next().await {
        let (text, at) = (chunk.expect("a chunk").text.unwrap_or_default(), now());
        let written = text.lines().filter_map(|line| line.parse().ok()).map(Duration::from_nanos);
        times.extend(written.filter(|written| *written > came).map(|written| at.saturating_sub(written)));
    }
    times
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
