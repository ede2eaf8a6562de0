//! All metric families: name, type, labels and help text. `agent/README.md` has the same table, and a test compares them.

use std::fmt;

/// Type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only rises, until the process restarts.
    Counter,
    /// Current value.
    Gauge,
    /// Distribution in cumulative buckets.
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

/// Metrics of one name.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Names of the labels, in the order of their values.
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
}

/// Defines each family, and `ALL` with all of them in the order of the table.
macro_rules! families {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) const $id: Family =
            Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// All families.
        #[cfg(test)]
        pub(crate) const ALL: &[Family] = &[$($id),*];
    };
}

families! {
    BUILD_INFO = Gauge "bolt_build_info" ["version"] "Version of the agent; the value is 1.";
    READY = Gauge "bolt_ready" [] "1 while executions are accepted.";
    HEALTH_PROBLEM = Gauge "bolt_health_problem" ["code"]
        "1 for each code of GET /v1/health, without the notes.";
    CERTIFICATE_ENDS = Gauge "bolt_certificate_ends_seconds" []
        "Expiry of the agent's certificate, in seconds since 1970.";
    ENDS = Gauge "bolt_ends_seconds" ["kind", "name"]
        "End of a certificate, authority, crl or signature by file or role, in seconds since 1970.";
    ENDS_WITHIN = Gauge "bolt_ends_within_seconds" ["kind", "name"]
        "Stage of the last warning: 30, 7 or 1 days, 0 after the end; not the time left, which is bolt_ends_seconds - time().";
    FILE_INVALID = Gauge "bolt_file_invalid" ["file"]
        "1 for each file of certificates or grants whose present content cannot be used; the previous one is in effect.";
    EXECUTIONS_RUNNING = Gauge "bolt_executions_running" [] "Running executions.";
    EXECUTIONS_MAX_RUNNING = Gauge "bolt_executions_max_running" []
        "Slots: maximum number of running executions (execution.max_running).";
    EXECUTIONS_QUEUED = Gauge "bolt_executions_queued" [] "Queued executions.";
    EXECUTIONS_MAX_QUEUED = Gauge "bolt_executions_max_queued" []
        "Maximum number of queued executions (execution.max_queued).";
    CONNECTIONS = Gauge "bolt_connections" [] "Open connections.";
    NEWEST_EVENT = Gauge "bolt_newest_event" [] "Number of the newest event.";
    DEV_PACKS = Gauge "bolt_dev_packs" [] "Packs whose active version was pushed and is not signed.";
    EXECUTIONS = Counter "bolt_executions_total" ["pack", "action", "state"]
        "Executions that entered a state, by pack, action and state.";
    DEV_EXECUTIONS = Counter "bolt_dev_executions_total" ["state"]
        "Executions of pushed versions that entered a state, by state.";
    DURATION = Histogram "bolt_execution_duration_seconds" ["pack", "action"]
        "Time from start to end of executions that ended, by pack and action.";
    QUEUE_WAIT = Histogram "bolt_execution_queue_seconds" []
        "Time from acceptance to start of executions that ended.";
    EXECUTIONS_CPU = Counter "bolt_executions_cpu_seconds_total" ["pack", "action", "mode"]
        "Processor time of executions that ended.";
    EXECUTIONS_READ = Counter "bolt_executions_read_bytes_total" ["pack", "action"]
        "Read from disks by executions that ended.";
    EXECUTIONS_WRITTEN = Counter "bolt_executions_written_bytes_total" ["pack", "action"]
        "Written to disks by executions that ended.";
    EXECUTIONS_OUTPUT = Counter "bolt_executions_output_bytes_total" ["pack", "action"]
        "Output of executions that ended.";
    EXECUTIONS_OUTPUT_DROPPED = Counter "bolt_executions_output_dropped_bytes_total" ["pack", "action"]
        "Output of executions that ended, and that was dropped.";
    RUNNING_CPU = Gauge "bolt_running_cpu_seconds" ["pack", "action", "mode"] "Processor time of running executions.";
    RUNNING_MEMORY = Gauge "bolt_running_memory_bytes" ["pack", "action"] "Memory of running executions.";
    HTTP_REQUESTS = Counter "bolt_http_requests_total" ["route", "status"] "Requests answered, by route and status.";
    HTTP_DURATION = Histogram "bolt_http_request_duration_seconds" ["route"]
        "Time until a response began, by route; with `wait` it includes the wait for the execution.";
    HTTP_PROBLEMS = Counter "bolt_http_problems_total" ["code"] "Requests refused or failed, by problem code.";
    HANDSHAKES_FAILED = Counter "bolt_handshakes_failed_total" ["listener", "reason"]
        "Sockets closed before a certificate was verified (api) or a probe answered (health), by listener and reason.";
    PACK_INFO = Gauge "bolt_pack_info" ["pack", "version", "signed"] "Active version of a pack; the value is 1.";
    SYNC_POLLS = Counter "bolt_sync_polls_total" []
        "Polls of the repository that were asked for, failed, or found something new; idle ones are not counted.";
    SYNC_FAILURES = Counter "bolt_sync_failures_total" []
        "Polls that failed, without those that were killed; bolt_health_problem has both.";
    SYNC_STEP_FAILURES = Counter "bolt_sync_step_failures_total" ["step"]
        "Failures by step: of polls (prepare, reach, verify), of packs (choose, fetch, unpack, check, environment, activate, configure).";
    ROLLOUT_REACHED = Gauge "bolt_rollout_reached" ["pack", "version"]
        "1 if the rollout of the channel's newest version has reached this instance, otherwise 0.";
    SYNC_PACKS_FAILED = Gauge "bolt_sync_packs_failed" [] "Packs of which a version could not be activated.";
    SYNC_PACK_FAILED = Gauge "bolt_sync_pack_failed" ["pack", "step"]
        "1 for each pack of which a version could not be activated, with the step that failed.";
    SYNC_EXPIRED = Gauge "bolt_sync_expired" [] "1 while the repository's metadata have expired.";
    SYNC_CHANNEL_EMPTY = Gauge "bolt_sync_channel_empty" []
        "1 while the channel has no packs although the repository has other channels.";
    SYNC_POLLED = Gauge "bolt_sync_polled_seconds" [] "Start of the last poll, in seconds since 1970.";
    SYNC_SUCCEEDED = Gauge "bolt_sync_succeeded_seconds" []
        "Start of the last successful poll, in seconds since 1970.";
    SYNC_AGE = Gauge "bolt_sync_age_seconds" [] "Time since the start of the last successful poll.";
    HISTORY_EXECUTIONS = Gauge "bolt_history_executions" [] "Executions in the history.";
    HISTORY_BYTES = Gauge "bolt_history_bytes" [] "Disk use of outputs and database in bytes.";
    HISTORY_FILES = Gauge "bolt_history_files" [] "Number of files and directories of outputs.";
    HISTORY_ARCHIVED = Counter "bolt_history_archived_total" [] "Outputs archived since the start.";
    AUDIT_ENTRIES = Counter "bolt_audit_entries_total" ["chain"] "Entries written to the audit log, by chain.";
    AUDIT_LOST = Counter "bolt_audit_lost_refusals_total" [] "Refused calls that have no entry in the audit log.";
    AUDIT_JOURNAL_DROPPED = Counter "bolt_audit_journal_dropped_total" []
        "Entries of the audit log that the journal did not take.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "Processor time of the api process.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [] "Resident memory of the api process.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" [] "Virtual memory of the api process.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [] "Open file descriptors of the api process.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" [] "Maximum number of open file descriptors of the api process.";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" []
        "Start of the api process, in seconds since 1970.";
    LAUNCHER_CPU = Counter "bolt_launcher_cpu_seconds_total" [] "Processor time of the launcher.";
    LAUNCHER_RESIDENT = Gauge "bolt_launcher_resident_memory_bytes" [] "Resident memory of the launcher.";
    LAUNCHER_OPEN_FDS = Gauge "bolt_launcher_open_fds" []
        "Open file descriptors of the launcher, told with each of its questions for signs of life.";
    LAUNCHER_START_TIME = Gauge "bolt_launcher_start_time_seconds" []
        "Start of the launcher, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::ALL;

    #[test]
    fn the_table_of_the_readme_is_the_table_of_the_source() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = fs::read_to_string(readme).unwrap();
        let section = text.split("\n## Metrics\n").nth(1).expect("a section Metrics");
        let section = section.split("\n## ").next().unwrap();
        let rows: Vec<&str> =
            section.lines().filter(|line| line.starts_with("| `bolt_") || line.starts_with("| `process_")).collect();
        let wanted: Vec<String> = ALL
            .iter()
            .map(|family| {
                let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
                let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
                format!("| `{}` | {} | {labels} |", family.name, family.kind)
            })
            .collect();
        assert_eq!(rows, wanted, "put these rows into the section:\n{}", wanted.join("\n"));
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for family in ALL {
            let is_counter = family.kind == super::Kind::Counter;
            assert_eq!(family.name.ends_with("_total"), is_counter, "{}", family.name);
            let units = ["_milliseconds", "_ms", "_us", "_kilobytes", "_minutes", "_percent"];
            assert!(!units.iter().any(|unit| family.name.contains(unit)), "{}: a base unit", family.name);
            assert!(family.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", family.name);
            assert!(!family.help.is_empty());
        }
        let mut names: Vec<&str> = ALL.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "a name occurs twice");
    }
}
