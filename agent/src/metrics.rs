//! Metrics in Prometheus's text exposition format.
//!
//! Labels are names of routes, actions, states and of files of the agent only: text that a peer sends never becomes a label.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use packs_schema::agent::execution::{State, Usage};
use packs_schema::agent::rest::{Execution, SyncStatus};
use packs_schema::base::name::ActionRef;

use crate::expiry::End;

/// Maximum number of actions that are counted by name; further ones count as `other`.
const MAX_ACTIONS: usize = 1000;

/// Counters since the start.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    executions: Mutex<BTreeMap<String, Counted>>,
    dev: Mutex<BTreeMap<State, u64>>,
    handshakes: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Number of requests, changes of executions and failed handshakes.
    activity: AtomicU64,
}

/// Route of health probes, which are no activity.
const HEALTH: &str = "/v1/health";

/// Counters of one action.
#[derive(Default, Clone)]
struct Counted {
    states: BTreeMap<State, u64>,
    used: Used,
}

/// Total resource usage of executions of one action.
#[derive(Default, Clone, Copy)]
struct Used {
    user_us: u64,
    system_us: u64,
    read_bytes: u64,
    written_bytes: u64,
    memory_bytes: u64,
    output_bytes: u64,
    output_dropped_bytes: u64,
}

/// Current values, for the gauges.
pub struct Now {
    /// Executions that run.
    pub running: u32,
    /// Executions that wait.
    pub queued: u32,
    /// Resource usage of running executions so far, as far as the host counts it.
    pub using: Vec<(ActionRef, Usage)>,
    /// Open connections.
    pub connections: u32,
    /// Readiness of the agent.
    pub ready: bool,
    /// Health codes that are set.
    pub wrong: Vec<&'static str>,
    /// Ends of certificates, authorities, revocation lists and signatures.
    pub(crate) ends: Vec<End>,
    /// Files whose present content is not in effect.
    pub invalid_files: Vec<PathBuf>,
    /// Last status of the sync.
    pub sync: Option<SyncStatus>,
    /// Packs whose active version was pushed and is not signed.
    pub dev_packs: u64,
    /// Number of the newest event.
    pub newest_event: u64,
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, route: &'static str, status: u16) {
        *lock(&self.requests).entry((route, status)).or_default() += 1;
        if route != HEALTH {
            self.record_activity();
        }
    }

    /// Counts an execution that entered a state.
    pub fn execution(&self, action: &ActionRef, state: State) {
        self.counted(action, |counted| *counted.states.entry(state).or_default() += 1);
        self.record_activity();
    }

    /// Returns a number that rises with every request and change of an execution; health probes do not count.
    pub fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    fn record_activity(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the resource usage in the record of an execution that has ended.
    pub fn finished(&self, record: &Execution) {
        self.counted(&record.action, |counted| {
            counted.used.add(&record.usage.unwrap_or_default());
            for totals in [record.stdout, record.stderr].into_iter().flatten() {
                counted.used.output_bytes += totals.written_bytes;
                counted.used.output_dropped_bytes += totals.dropped_bytes;
            }
        });
    }

    fn counted(&self, action: &ActionRef, change: impl FnOnce(&mut Counted)) {
        let mut executions = lock(&self.executions);
        let known = executions.len() < MAX_ACTIONS || executions.contains_key(action.as_str());
        let name = if known { action.as_str() } else { "other" };
        change(executions.entry(name.to_owned()).or_default());
    }

    /// Counts an execution of a pushed version that entered a state.
    pub fn dev_execution(&self, state: State) {
        *lock(&self.dev).entry(state).or_default() += 1;
    }

    /// Counts a socket that ended before its peer was authenticated.
    pub fn handshake_failed(&self, listener: &'static str, reason: &'static str) {
        *lock(&self.handshakes).entry((listener, reason)).or_default() += 1;
        self.record_activity();
    }

    /// Formats all metrics; of those by action only the `visible` ones.
    pub fn text(&self, now: &Now, visible: &dyn Fn(&ActionRef) -> bool) -> String {
        let mut out = String::new();
        family(&mut out, "bolt_build_info", "gauge", "Version of the agent.");
        sample(&mut out, "bolt_build_info", &format!("{{version=\"{}\"}}", crate::VERSION), 1);
        gauge(&mut out, "bolt_ready", "1 while executions are accepted.", u64::from(now.ready));
        family(
            &mut out,
            "bolt_health_problem",
            "gauge",
            "1 for each code of GET /v1/health that the api has set itself.",
        );
        for code in &now.wrong {
            sample(&mut out, "bolt_health_problem", &format!("{{code=\"{code}\"}}"), 1);
        }
        ends(&mut out, now);
        gauge(&mut out, "bolt_executions_running", "Running executions.", now.running.into());
        gauge(&mut out, "bolt_executions_queued", "Queued executions.", now.queued.into());
        gauge(&mut out, "bolt_connections", "Open connections.", now.connections.into());
        gauge(&mut out, "bolt_newest_event", "Number of the newest event.", now.newest_event);
        gauge(&mut out, "bolt_dev_packs", "Packs whose active version was pushed and is not signed.", now.dev_packs);
        family(&mut out, "bolt_executions_total", "counter", "Executions that entered a state, by action and state.");
        let shown = self.visible_counters(visible);
        for (action, counted) in &shown {
            for (state, count) in &counted.states {
                let labels = format!("{{action=\"{action}\",state=\"{state}\"}}");
                sample(&mut out, "bolt_executions_total", &labels, *count);
            }
        }
        let help = "Executions of pushed versions that entered a state, by state.";
        family(&mut out, "bolt_dev_executions_total", "counter", help);
        for (state, count) in lock(&self.dev).iter() {
            sample(&mut out, "bolt_dev_executions_total", &format!("{{state=\"{state}\"}}"), *count);
        }
        usage(&mut out, now, &shown);
        family(&mut out, "bolt_http_requests_total", "counter", "Requests answered, by route and status.");
        for ((route, status), count) in lock(&self.requests).iter() {
            let labels = format!("{{route=\"{route}\",status=\"{status}\"}}");
            sample(&mut out, "bolt_http_requests_total", &labels, *count);
        }
        let help = "Sockets closed before a certificate was verified (api) or a probe answered (health), by listener and reason.";
        family(&mut out, "bolt_handshakes_failed_total", "counter", help);
        for ((listener, reason), count) in lock(&self.handshakes).iter() {
            let labels = format!("{{listener=\"{listener}\",reason=\"{reason}\"}}");
            sample(&mut out, "bolt_handshakes_failed_total", &labels, *count);
        }
        if let Some(sync) = &now.sync {
            counter(&mut out, "bolt_sync_polls_total", "Polls of the repository.", sync.polls);
            counter(&mut out, "bolt_sync_failures_total", "Polls that failed.", sync.failures);
            gauge(
                &mut out,
                "bolt_sync_packs_failed",
                "Packs of which a version could not be activated.",
                sync.failed.iter().filter(|(_, failed)| !failed.is_building()).count() as u64,
            );
            gauge(
                &mut out,
                "bolt_sync_expired",
                "1 while the repository's metadata have expired.",
                sync.expired.into(),
            );
            let help = "1 while the channel has no packs although the repository has other channels.";
            gauge(&mut out, "bolt_sync_channel_empty", help, sync.channel_empty.is_some().into());
            gauge(
                &mut out,
                "bolt_sync_polled_seconds",
                "Start of the last poll, in seconds since 1970.",
                sync.polled_at_ms / 1000,
            );
            if let Some(at_ms) = sync.succeeded_at_ms {
                let help = "Start of the last successful poll, in seconds since 1970.";
                gauge(&mut out, "bolt_sync_succeeded_seconds", help, at_ms / 1000);
            }
        }
        if let Some(bytes) = resident_bytes() {
            gauge(&mut out, "process_resident_memory_bytes", "Resident memory of the api process.", bytes);
        }
        out
    }

    /// Returns the counters of visible actions, and those of `other`.
    fn visible_counters(&self, visible: &dyn Fn(&ActionRef) -> bool) -> Vec<(String, Counted)> {
        let all: Vec<(String, Counted)> = lock(&self.executions).iter().map(|(a, c)| (a.clone(), c.clone())).collect();
        let visible = |name: &str| ActionRef::new(name).map_or(true, |action| visible(&action));
        all.into_iter().filter(|(name, _)| visible(name)).collect()
    }
}

/// Writes when certificates, authorities, revocation lists and signatures end, and the files that are not in effect.
fn ends(out: &mut String, now: &Now) {
    if let Some(own) = now.ends.iter().find(|end| end.kind == "certificate") {
        let help = "Expiry of the agent's certificate, in seconds since 1970.";
        gauge(out, "bolt_certificate_ends_seconds", help, u64::try_from(own.end_s).unwrap_or(0));
    }
    // Of several in one file, the first end.
    let mut first: BTreeMap<(&str, &str), &End> = BTreeMap::new();
    for end in &now.ends {
        let known = first.entry((end.kind, &end.name)).or_insert(end);
        if end.end_s < known.end_s {
            *known = end;
        }
    }
    let labels = |end: &End| format!("{{kind=\"{}\",name=\"{}\"}}", end.kind, label(&end.name));
    let help = "End of a certificate, authority, crl or signature by file or role, in seconds since 1970.";
    family(out, "bolt_ends_seconds", "gauge", help);
    for end in first.values() {
        sample(out, "bolt_ends_seconds", &labels(end), u64::try_from(end.end_s).unwrap_or(0));
    }
    let help = "Days of the last warning before the end: 30, 7, 1, or 0 after it; absent without a warning.";
    family(out, "bolt_ends_within_days", "gauge", help);
    let now_s = i64::try_from(crate::clock::now_ms() / 1000).unwrap_or(i64::MAX);
    for end in first.values() {
        if let Some(stage) = end.stage(now_s) {
            sample(out, "bolt_ends_within_days", &labels(end), stage.days());
        }
    }
    let help = "1 for each file of certificates or grants whose present content cannot be used; the previous one is in effect.";
    family(out, "bolt_file_invalid", "gauge", help);
    for path in &now.invalid_files {
        let labels = format!("{{file=\"{}\"}}", label(&path.display().to_string()));
        sample(out, "bolt_file_invalid", &labels, 1);
    }
}

/// Escapes the value of a label.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes resource usage by action: counters of executions that ended, gauges of running ones. There are at most
/// `max_running` gauges, and none of an action that does not run.
fn usage(out: &mut String, now: &Now, shown: &[(String, Counted)]) {
    let ended: Vec<(String, Used)> = shown.iter().map(|(action, counted)| (action.clone(), counted.used)).collect();
    cpu(out, "bolt_executions_cpu_seconds_total", "counter", "Processor time of executions that ended.", &ended);
    let families: [(&str, &str, Value); 4] = [
        ("bolt_executions_read_bytes_total", "Read from disks by executions that ended.", |used| used.read_bytes),
        ("bolt_executions_written_bytes_total", "Written to disks by executions that ended.", |used| {
            used.written_bytes
        }),
        ("bolt_executions_output_bytes_total", "Output of executions that ended.", |used| used.output_bytes),
        (
            "bolt_executions_output_dropped_bytes_total",
            "Output of executions that ended, and that was dropped.",
            |used| used.output_dropped_bytes,
        ),
    ];
    for (name, help, value) in families {
        bytes(out, name, "counter", help, &ended, value);
    }
    let mut running: BTreeMap<String, Used> = BTreeMap::new();
    for (action, usage) in &now.using {
        running.entry(action.to_string()).or_default().add(usage);
    }
    let running: Vec<(String, Used)> = running.into_iter().collect();
    cpu(out, "bolt_running_cpu_seconds", "gauge", "Processor time of running executions.", &running);
    let help = "Memory of running executions.";
    bytes(out, "bolt_running_memory_bytes", "gauge", help, &running, |used| used.memory_bytes);
}

/// Selects the value of a metric family.
type Value = fn(&Used) -> u64;

impl Used {
    fn add(&mut self, usage: &Usage) {
        self.user_us += usage.user_us;
        self.system_us += usage.system_us;
        self.read_bytes += usage.read_bytes.unwrap_or(0);
        self.written_bytes += usage.written_bytes.unwrap_or(0);
        self.memory_bytes += usage.memory_bytes.unwrap_or(0);
    }
}

fn cpu(out: &mut String, name: &str, kind: &str, help: &str, used: &[(String, Used)]) {
    family(out, name, kind, help);
    for (action, used) in used {
        for (mode, us) in [("user", used.user_us), ("system", used.system_us)] {
            let seconds = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
            let _ = writeln!(out, "{name}{{action=\"{action}\",mode=\"{mode}\"}} {seconds}");
        }
    }
}

fn bytes(out: &mut String, name: &str, kind: &str, help: &str, used: &[(String, Used)], value: Value) {
    family(out, name, kind, help);
    for (action, used) in used {
        sample(out, name, &format!("{{action=\"{action}\"}}"), value(used));
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

    fn now(using: Vec<(ActionRef, Usage)>) -> Now {
        Now {
            running: 0,
            queued: 0,
            using,
            connections: 0,
            ready: true,
            wrong: Vec::new(),
            ends: Vec::new(),
            invalid_files: Vec::new(),
            sync: None,
            dev_packs: 0,
            newest_event: 0,
        }
    }

    #[test]
    fn usage_of_running_executions_is_summed_by_action() {
        let usage = Usage { user_us: 1_500_000, system_us: 2, memory_bytes: Some(10), ..Usage::default() };
        let of = |name: &str| (ActionRef::new(name).unwrap(), usage);
        let text = Metrics::default().text(&now(vec![of("linux.a"), of("linux.b"), of("linux.a")]), &|_| true);
        for line in [
            "# TYPE bolt_running_cpu_seconds gauge",
            "bolt_running_cpu_seconds{action=\"linux.a\",mode=\"user\"} 3.000000",
            "bolt_running_cpu_seconds{action=\"linux.b\",mode=\"system\"} 0.000002",
            "bolt_running_memory_bytes{action=\"linux.a\"} 20",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}\n{text}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let metrics = Metrics::default();
        for i in 0..MAX_ACTIONS + 50 {
            metrics.execution(&ActionRef::new(format!("linux.a{i}")).unwrap(), State::Queued);
        }
        let text = metrics.text(&now(Vec::new()), &|_| true);
        assert!(text.contains("bolt_executions_total{action=\"other\",state=\"queued\"} 50\n"), "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("bolt_executions_total{")).count(), MAX_ACTIONS + 1);
    }
}
