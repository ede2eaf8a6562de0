//! Values of `agent.toml` that are valid, and hardly meant.

use std::path::Path;
use std::time::Duration;

use packs_schema::agent::config::Config;
use packs_schema::base::quantity::format_duration;

use super::Report;
use crate::sync::inspect::LONGEST_BUILD;

/// Interval of polls below which the sync hardly rests.
const SHORTEST_POLL: Duration = Duration::from_secs(10);
/// Interval of polls above which the alert `BoltSyncStale`, an hour after the last one, fires although nothing is wrong.
const LONGEST_POLL: Duration = Duration::from_secs(40 * 60);
/// Number of executions above which the packaged unit has too few tasks: each has a process there, beside those of the agent.
const MOST_SHIMS: u32 = 400;
/// Retention below which callers may lose what they still ask for.
const SHORTEST_KEEP: Duration = Duration::from_secs(3600);

/// Warns of values whose effect is hardly wanted.
pub(super) fn check(path: &Path, config: &Config, report: &mut Report) {
    let poll = config.repository.poll.0;
    if !poll.is_zero() && poll < SHORTEST_POLL {
        report.warn(
            path,
            format!(
                "repository.poll = {}: each poll starts a process and asks the repository; use {} or more, such as 2m",
                format_duration(poll),
                format_duration(SHORTEST_POLL)
            ),
        );
    }
    if poll > LONGEST_POLL {
        report.warn(
            path,
            format!(
                "repository.poll = {}: withdrawn versions stay active that long, and the alert BoltSyncStale fires an hour after a \
                 poll; use {} or less, or raise its threshold",
                format_duration(poll),
                format_duration(LONGEST_POLL)
            ),
        );
    }
    let shims = config.execution.max_shims();
    if shims > MOST_SHIMS {
        report.warn(
            path,
            format!(
                "execution.max_shims = {shims} (by default twice max_running): each running execution has a process in \
                 bolt-launch.service, whose TasksMax is 512; raise it too, or lower max_running"
            ),
        );
    }
    let keep = config.history.keep.0;
    if !keep.is_zero() && keep < SHORTEST_KEEP {
        report.warn(
            path,
            format!(
                "history.keep = {}: a caller that repeats a start after that starts the action again; use {} or more",
                format_duration(keep),
                format_duration(SHORTEST_KEEP)
            ),
        );
    }
    let timeout = config.python.timeout.0;
    if timeout > LONGEST_BUILD {
        report.warn(
            path,
            format!(
                "python.timeout = {}: a virtual environment has {} at most",
                format_duration(timeout),
                format_duration(LONGEST_BUILD)
            ),
        );
    }
}
