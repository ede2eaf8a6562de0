//! What a check of a pack has to say: named, placed, and with what to do about it.

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Read, understood, and without effect in Bolt.
    Note,
    /// Works, but will hurt somebody.
    Warning,
    /// Bolt cannot or will not run this.
    Error,
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable name: `shell_template`.
    pub code: String,
    /// Where: `actions/rm.yaml: parameters.cmd`.
    pub at: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Finding {
    /// A finding that stops the action from being run.
    pub fn error(code: &str, at: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Error, code: code.to_owned(), at: at.into(), message: message.into() }
    }

    /// A finding that only warns.
    pub fn warning(code: &str, at: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(code, at, message) }
    }

    /// A finding that only informs.
    pub fn note(code: &str, at: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Note, ..Finding::error(code, at, message) }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}[{}]: {}: {}", self.code, self.at, self.message)
    }
}

/// True if nothing stops what was checked from being run.
pub fn is_runnable(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.severity < Severity::Error)
}
