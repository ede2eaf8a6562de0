//! The report of a run of steps: one line for each, with the time since the beginning.

use std::fmt::Write as _;
use std::time::Instant;

/// Steps that were done.
#[derive(Debug)]
pub(super) struct Steps {
    began: Instant,
    /// The machine, where there are several at once.
    machine: &'static str,
    report: String,
}

impl Steps {
    pub(super) fn begin() -> Steps {
        Steps::since(Instant::now(), "")
    }

    /// Steps of one machine of several, with the time since a common beginning.
    pub(super) fn since(began: Instant, machine: &'static str) -> Steps {
        Steps { began, machine, report: String::new() }
    }

    /// Adds a step, and shows it.
    pub(super) fn done(&mut self, what: &str) {
        let separator = if self.machine.is_empty() { "" } else { ": " };
        let line = format!("{:4} s  {}{separator}{what}", self.began.elapsed().as_secs(), self.machine);
        eprintln!("{line}");
        let _ = writeln!(self.report, "{line}");
    }

    /// Returns one line for each step.
    pub(super) fn report(self) -> String {
        self.report
    }
}
