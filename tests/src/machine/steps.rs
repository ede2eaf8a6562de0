//! The report of a run of steps: one line for each, with the time since the beginning.

use std::fmt::Write as _;
use std::time::Instant;

/// Steps that were done.
#[derive(Debug)]
pub(super) struct Steps {
    began: Instant,
    report: String,
}

impl Steps {
    pub(super) fn begin() -> Steps {
        Steps { began: Instant::now(), report: String::new() }
    }

    /// Adds a step, and shows it.
    pub(super) fn done(&mut self, what: &str) {
        let line = format!("{:4} s  {what}", self.began.elapsed().as_secs());
        eprintln!("{line}");
        let _ = writeln!(self.report, "{line}");
    }

    /// Returns one line for each step.
    pub(super) fn report(self) -> String {
        self.report
    }
}
