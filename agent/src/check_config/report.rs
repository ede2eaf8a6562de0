//! Findings of a check, as text for people and as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use packs_schema::base::log_line;
use serde::Serialize;

/// Weight of a [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The start is refused, or the agent cannot work.
    Error,
    /// The agent works, and something needs attention.
    Warning,
}

/// Problem of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Weight.
    pub severity: Severity,
    /// File or directory.
    pub file: PathBuf,
    /// Line of the file, from 1, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Problem, and the way to fix it.
    pub message: String,
}

/// Everything that a check found, in the order of the checks.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Returns the findings.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// True if nothing prevents the agent from working.
    pub fn is_ok(&self) -> bool {
        !self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Formats the report as one line per finding and a summary.
    pub fn to_text(&self, config: &Path) -> String {
        let mut text = String::new();
        for Finding { severity, file, line, message } in &self.findings {
            let at = line.map_or_else(String::new, |line| format!(":{line}"));
            let severity = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            // Files may hold anything, and so may their names.
            let line = log_line::escape_line(&format!("{}{at}: {severity}: {message}", file.display())).into_owned();
            let _ = writeln!(text, "{line}");
        }
        let errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        let warnings = self.findings.len() - errors;
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let summary = match (errors, warnings) {
            (0, 0) => "the configuration is valid".to_owned(),
            (0, warnings) => format!("the configuration is valid, with {}", count(warnings, "warning")),
            (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
        };
        let _ = writeln!(text, "{}: {summary}", config.display());
        text
    }

    /// Formats the report as JSON: `ok`, `errors`, `warnings` and `findings`.
    pub fn to_json(&self, config: &Path) -> String {
        let errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        let value = serde_json::json!({
            "config": config,
            "ok": self.is_ok(),
            "errors": errors,
            "warnings": self.findings.len() - errors,
            "findings": self.findings,
        });
        format!("{value:#}\n")
    }

    pub(super) fn error(&mut self, file: &Path, message: impl Into<String>) {
        self.error_at(file, None, message);
    }

    pub(super) fn error_at(&mut self, file: &Path, line: Option<usize>, message: impl Into<String>) {
        self.add(Severity::Error, file, line, message.into());
    }

    pub(super) fn warn(&mut self, file: &Path, message: impl Into<String>) {
        self.add(Severity::Warning, file, None, message.into());
    }

    fn add(&mut self, severity: Severity, file: &Path, line: Option<usize>, message: String) {
        let finding = Finding { severity, file: file.to_owned(), line, message };
        // Two files in one directory find the same fault of the directory.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}
