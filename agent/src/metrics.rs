//! Counters, and their text in Prometheus's exposition format.
//!
//! Labels are names of routes, actions and states only: what a peer sends never becomes a label.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

use packs_schema::name::ActionRef;
use packs_schema::rest::SyncStatus;
use packs_schema::run::State;

/// Distinct actions that are counted by name; further ones count as `other`.
const MAX_ACTIONS: usize = 1000;

/// What has been counted since the start.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    executions: Mutex<BTreeMap<String, BTreeMap<State, u64>>>,
    dev: Mutex<BTreeMap<State, u64>>,
}

/// What stands at the moment of asking.
pub struct Now {
    /// Executions that run.
    pub running: u32,
    /// Executions that wait.
    pub queued: u32,
    /// Open connections.
    pub connections: u32,
    /// The agent is ready.
    pub ready: bool,
    /// What the sync said last.
    pub sync: Option<SyncStatus>,
    /// Packs whose active version was pushed and is not signed.
    pub dev_packs: u64,
    /// The newest event.
    pub newest_event: u64,
}

impl Metrics {
    /// A request was answered.
    pub fn request(&self, route: &'static str, status: u16) {
        *lock(&self.requests).entry((route, status)).or_default() += 1;
    }

    /// An execution went over to a state.
    pub fn execution(&self, action: &ActionRef, state: State) {
        let mut executions = lock(&self.executions);
        let known = executions.len() < MAX_ACTIONS || executions.contains_key(action.as_str());
        let name = if known { action.as_str() } else { "other" };
        *executions.entry(name.to_owned()).or_default().entry(state).or_default() += 1;
    }

    /// An execution of a pushed version went over to a state.
    pub fn dev_execution(&self, state: State) {
        *lock(&self.dev).entry(state).or_default() += 1;
    }

    /// Everything as text.
    pub fn text(&self, now: &Now) -> String {
        let mut out = String::new();
        family(&mut out, "bolt_build_info", "gauge", "The agent's version.");
        sample(&mut out, "bolt_build_info", &format!("{{version=\"{}\"}}", crate::VERSION), 1);
        gauge(&mut out, "bolt_ready", "1 when executions are taken.", u64::from(now.ready));
        gauge(&mut out, "bolt_executions_running", "Executions that run.", now.running.into());
        gauge(&mut out, "bolt_executions_queued", "Executions that wait.", now.queued.into());
        gauge(&mut out, "bolt_connections", "Open connections.", now.connections.into());
        gauge(&mut out, "bolt_newest_event", "The number of the newest state change.", now.newest_event);
        gauge(&mut out, "bolt_dev_packs", "Packs whose active version was pushed and is not signed.", now.dev_packs);
        family(&mut out, "bolt_executions_total", "counter", "Executions that went over to a state, by action.");
        for (action, states) in lock(&self.executions).iter() {
            for (state, count) in states {
                let labels = format!("{{action=\"{action}\",state=\"{state}\"}}");
                sample(&mut out, "bolt_executions_total", &labels, *count);
            }
        }
        let help = "Of these, executions of versions that were pushed and not signed.";
        family(&mut out, "bolt_dev_executions_total", "counter", help);
        for (state, count) in lock(&self.dev).iter() {
            sample(&mut out, "bolt_dev_executions_total", &format!("{{state=\"{state}\"}}"), *count);
        }
        family(&mut out, "bolt_http_requests_total", "counter", "Requests answered, by route and status.");
        for ((route, status), count) in lock(&self.requests).iter() {
            let labels = format!("{{route=\"{route}\",status=\"{status}\"}}");
            sample(&mut out, "bolt_http_requests_total", &labels, *count);
        }
        if let Some(sync) = &now.sync {
            counter(&mut out, "bolt_sync_polls_total", "Polls of the repository.", sync.polls);
            counter(&mut out, "bolt_sync_failures_total", "Polls that failed.", sync.failures);
            gauge(&mut out, "bolt_sync_packs_failed", "Packs not activated.", sync.failed.len() as u64);
            gauge(&mut out, "bolt_sync_expired", "1 when the metadata have expired.", sync.expired.into());
            gauge(&mut out, "bolt_sync_polled_seconds", "The last poll began, since 1970.", sync.polled_at_ms / 1000);
            if let Some(at_ms) = sync.succeeded_at_ms {
                let help = "The last poll that succeeded began, since 1970.";
                gauge(&mut out, "bolt_sync_succeeded_seconds", help, at_ms / 1000);
            }
        }
        if let Some(bytes) = resident_bytes() {
            gauge(&mut out, "process_resident_memory_bytes", "Resident memory of the api process.", bytes);
        }
        out
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "{name}{labels} {value}");
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    family(out, name, "gauge", help);
    sample(out, name, "", value);
}

fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    family(out, name, "counter", help);
    sample(out, name, "", value);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let metrics = Metrics::default();
        for i in 0..MAX_ACTIONS + 50 {
            metrics.execution(&ActionRef::new(format!("linux.a{i}")).unwrap(), State::Queued);
        }
        let now = Now { running: 0, queued: 0, connections: 0, ready: true, sync: None, dev_packs: 0, newest_event: 0 };
        let text = metrics.text(&now);
        assert!(text.contains("bolt_executions_total{action=\"other\",state=\"queued\"} 50\n"), "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("bolt_executions_total{")).count(), MAX_ACTIONS + 1);
    }
}
