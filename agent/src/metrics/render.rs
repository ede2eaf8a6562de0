//! All metrics as text.

use std::collections::BTreeMap;

use packs_schema::base::name::ActionRef;

use super::exposition::Exposition;
use super::families::{self as f, Family};
use super::histogram::seconds;
use super::{Counted, Metrics, Now, OTHER, Used, lock, processes};
use crate::expiry::End;

impl Metrics {
    /// Formats all metrics; of those by action only the `visible` ones.
    pub fn text(&self, now: &Now, visible: &dyn Fn(&ActionRef) -> bool) -> String {
        let mut out = Exposition::default();
        state(&mut out, now);
        ends(&mut out, now);
        self.executions(&mut out, now, visible);
        self.sockets(&mut out, now);
        packs(&mut out, now);
        sync(&mut out, now);
        out.single(&f::HISTORY_EXECUTIONS, now.history.executions);
        out.single(&f::HISTORY_BYTES, now.history.bytes);
        out.single(&f::HISTORY_FILES, now.history.files);
        out.single(&f::HISTORY_ARCHIVED, now.history.archived);
        out.begin(&f::AUDIT_ENTRIES);
        out.sample(&f::AUDIT_ENTRIES, &["changes"], now.audit.changes);
        out.sample(&f::AUDIT_ENTRIES, &["refusals"], now.audit.refusals);
        out.single(&f::AUDIT_LOST, now.audit.lost_refusals);
        out.single(&f::AUDIT_JOURNAL_DROPPED, now.audit.journal_dropped);
        processes::own(&mut out);
        if let Some(pid) = now.launcher {
            processes::launcher(&mut out, pid, self.told_descriptors());
        }
        out.finish()
    }

    fn executions(&self, out: &mut Exposition, now: &Now, visible: &dyn Fn(&ActionRef) -> bool) {
        out.single(&f::EXECUTIONS_RUNNING, now.running.0);
        out.single(&f::EXECUTIONS_MAX_RUNNING, now.running.1);
        out.single(&f::EXECUTIONS_QUEUED, now.queued.0);
        out.single(&f::EXECUTIONS_MAX_QUEUED, now.queued.1);
        let shown = self.visible_counters(visible);
        out.begin(&f::EXECUTIONS);
        for (action, counted) in &shown {
            for (state, count) in &counted.states {
                out.sample(&f::EXECUTIONS, &[pack_of(action), action, state.as_str()], count);
            }
        }
        out.begin(&f::DEV_EXECUTIONS);
        for (state, count) in lock(&self.dev).iter() {
            out.sample(&f::DEV_EXECUTIONS, &[state.as_str()], count);
        }
        out.begin(&f::DURATION);
        for (action, counted) in shown.iter().filter(|(_, counted)| counted.durations.count() > 0) {
            out.histogram(&f::DURATION, &[pack_of(action), action], &counted.durations);
        }
        out.begin(&f::QUEUE_WAIT);
        out.histogram(&f::QUEUE_WAIT, &[], &lock(&self.queue_wait).clone());
        usage(out, now, &shown);
    }

    fn sockets(&self, out: &mut Exposition, now: &Now) {
        out.single(&f::CONNECTIONS, now.connections);
        let requests = lock(&self.requests);
        out.begin(&f::HTTP_REQUESTS);
        for (route, counted) in requests.iter() {
            for (status, count) in &counted.statuses {
                out.sample(&f::HTTP_REQUESTS, &[route, &status.to_string()], count);
            }
        }
        out.begin(&f::HTTP_DURATION);
        for (route, counted) in requests.iter() {
            out.histogram(&f::HTTP_DURATION, &[route], &counted.durations);
        }
        drop(requests);
        out.begin(&f::HTTP_PROBLEMS);
        for (code, count) in lock(&self.problems).iter() {
            out.sample(&f::HTTP_PROBLEMS, &[code], count);
        }
        out.begin(&f::HANDSHAKES_FAILED);
        for ((listener, reason), count) in lock(&self.handshakes).iter() {
            out.sample(&f::HANDSHAKES_FAILED, &[listener, reason], count);
        }
    }

    /// Returns the counters of visible actions, and those of `other`.
    fn visible_counters(&self, visible: &dyn Fn(&ActionRef) -> bool) -> Vec<(String, Counted)> {
        let all: Vec<(String, Counted)> = lock(&self.executions).iter().map(|(a, c)| (a.clone(), c.clone())).collect();
        let visible = |name: &str| ActionRef::new(name).map_or(true, |action| visible(&action));
        all.into_iter().filter(|(name, _)| visible(name)).collect()
    }
}

fn state(out: &mut Exposition, now: &Now) {
    out.begin(&f::BUILD_INFO);
    out.sample(&f::BUILD_INFO, &[crate::VERSION], 1);
    out.single(&f::READY, u8::from(now.ready));
    out.begin(&f::HEALTH_PROBLEM);
    for code in &now.wrong {
        out.sample(&f::HEALTH_PROBLEM, &[code], 1);
    }
    out.single(&f::NEWEST_EVENT, now.newest_event);
}

/// Writes when certificates, authorities, revocation lists and signatures end, and the files that are not in effect.
fn ends(out: &mut Exposition, now: &Now) {
    let since_1970 = |end: &End| u64::try_from(end.end_s).unwrap_or(0);
    if let Some(own) = now.ends.iter().find(|end| end.kind == "certificate") {
        out.single(&f::CERTIFICATE_ENDS, since_1970(own));
    }
    // Of several in one file, the first end.
    let mut first: BTreeMap<(&str, &str), &End> = BTreeMap::new();
    for end in &now.ends {
        let known = first.entry((end.kind, &end.name)).or_insert(end);
        if end.end_s < known.end_s {
            *known = end;
        }
    }
    out.begin(&f::ENDS);
    for end in first.values() {
        out.sample(&f::ENDS, &[end.kind, &end.name], since_1970(end));
    }
    out.begin(&f::ENDS_WITHIN);
    let now_s = i64::try_from(crate::clock::now_ms() / 1000).unwrap_or(i64::MAX);
    for end in first.values() {
        if let Some(stage) = end.stage(now_s) {
            out.sample(&f::ENDS_WITHIN, &[end.kind, &end.name], stage.seconds());
        }
    }
    out.begin(&f::FILE_INVALID);
    for path in &now.invalid_files {
        out.sample(&f::FILE_INVALID, &[&path.display().to_string()], 1);
    }
}

fn packs(out: &mut Exposition, now: &Now) {
    out.single(&f::DEV_PACKS, now.dev_packs);
    out.begin(&f::PACK_INFO);
    for (pack, version, signed) in &now.packs {
        out.sample(&f::PACK_INFO, &[pack.as_str(), &version.to_string(), if *signed { "true" } else { "false" }], 1);
    }
}

fn sync(out: &mut Exposition, now: &Now) {
    let Some(sync) = &now.sync else { return };
    out.single(&f::SYNC_POLLS, sync.polls);
    out.single(&f::SYNC_FAILURES, sync.failures);
    out.begin(&f::SYNC_STEP_FAILURES);
    for (step, count) in &sync.failures_by_step {
        out.sample(&f::SYNC_STEP_FAILURES, &[step], count);
    }
    out.begin(&f::ROLLOUT_REACHED);
    for (pack, rollout) in &sync.rollouts {
        out.sample(&f::ROLLOUT_REACHED, &[pack.as_str(), &rollout.version.to_string()], u8::from(rollout.reached));
    }
    out.single(&f::SYNC_PACKS_FAILED, now.packs_failed);
    out.begin(&f::SYNC_PACK_FAILED);
    for (pack, failed) in sync.failed.iter().filter(|(_, failed)| !failed.is_building()) {
        out.sample(&f::SYNC_PACK_FAILED, &[pack.as_str(), &failed.step], 1);
    }
    out.single(&f::SYNC_EXPIRED, u8::from(sync.expired));
    out.single(&f::SYNC_CHANNEL_EMPTY, u8::from(sync.channel_empty.is_some()));
    out.single(&f::SYNC_POLLED, sync.polled_at_ms / 1000);
    if let Some(at_ms) = sync.succeeded_at_ms {
        out.single(&f::SYNC_SUCCEEDED, at_ms / 1000);
        out.single(&f::SYNC_AGE, crate::clock::now_ms().saturating_sub(at_ms) / 1000);
    }
}

/// Writes resource usage by action: counters of executions that ended, gauges of running ones. There are at most
/// `max_running` gauges, and none of an action that does not run.
fn usage(out: &mut Exposition, now: &Now, shown: &[(String, Counted)]) {
    let ended: Vec<(&str, Used)> = shown.iter().map(|(action, counted)| (action.as_str(), counted.used)).collect();
    cpu(out, &f::EXECUTIONS_CPU, &ended);
    let families: [(&Family, Value); 4] = [
        (&f::EXECUTIONS_READ, |used| used.read_bytes),
        (&f::EXECUTIONS_WRITTEN, |used| used.written_bytes),
        (&f::EXECUTIONS_OUTPUT, |used| used.output_bytes),
        (&f::EXECUTIONS_OUTPUT_DROPPED, |used| used.output_dropped_bytes),
    ];
    for (family, value) in families {
        bytes(out, family, &ended, value);
    }
    let mut running: BTreeMap<&str, Used> = BTreeMap::new();
    for (action, usage) in &now.using {
        running.entry(action.as_str()).or_default().add(usage);
    }
    let running: Vec<(&str, Used)> = running.into_iter().collect();
    cpu(out, &f::RUNNING_CPU, &running);
    bytes(out, &f::RUNNING_MEMORY, &running, |used| used.memory_bytes);
}

/// Selects the value of a metric family.
type Value = fn(&Used) -> u64;

fn cpu(out: &mut Exposition, family: &Family, used: &[(&str, Used)]) {
    out.begin(family);
    for (action, used) in used {
        for (mode, us) in [("user", used.user_us), ("system", used.system_us)] {
            out.sample(family, &[pack_of(action), action, mode], seconds(us));
        }
    }
}

fn bytes(out: &mut Exposition, family: &Family, used: &[(&str, Used)], value: Value) {
    out.begin(family);
    for (action, used) in used {
        out.sample(family, &[pack_of(action), action], value(used));
    }
}

/// Returns the pack of an action; `other` for those that are not counted by name.
fn pack_of(action: &str) -> &str {
    action.split_once('.').map_or(OTHER, |(pack, _)| pack)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use packs_schema::agent::execution::{State, Usage};

    use super::super::{HistorySize, MAX_ACTIONS};
    use super::*;
    use crate::audit;

    fn now(using: Vec<(ActionRef, Usage)>) -> Now {
        Now {
            running: (0, 8),
            queued: (0, 64),
            using,
            connections: 0,
            ready: true,
            wrong: BTreeSet::new(),
            ends: Vec::new(),
            invalid_files: Vec::new(),
            sync: None,
            packs_failed: 0,
            packs: Vec::new(),
            dev_packs: 0,
            newest_event: 0,
            history: HistorySize::default(),
            launcher: None,
            audit: audit::Counts::default(),
        }
    }

    #[test]
    fn usage_of_running_executions_is_summed_by_action() {
        let usage = Usage { user_us: 1_500_000, system_us: 2, memory_bytes: Some(10), ..Usage::default() };
        let of = |name: &str| (ActionRef::new(name).unwrap(), usage);
        let text = Metrics::default().text(&now(vec![of("linux.a"), of("linux.b"), of("linux.a")]), &|_| true);
        for line in [
            "# TYPE bolt_running_cpu_seconds gauge",
            "bolt_running_cpu_seconds{pack=\"linux\",action=\"linux.a\",mode=\"user\"} 3.000000",
            "bolt_running_cpu_seconds{pack=\"linux\",action=\"linux.b\",mode=\"system\"} 0.000002",
            "bolt_running_memory_bytes{pack=\"linux\",action=\"linux.a\"} 20",
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
        let other = "bolt_executions_total{pack=\"other\",action=\"other\",state=\"queued\"} 50\n";
        assert!(text.contains(other), "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("bolt_executions_total{")).count(), MAX_ACTIONS + 1);
    }
}
