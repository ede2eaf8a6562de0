//! Findings: results of checking a pack, each with a stable code, a place and a remedy.

use serde::{Deserialize, Serialize};

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Valid, but has no effect in Bolt.
    Note,
    /// Works, but is likely to cause problems.
    Warning,
    /// Prevents the pack from being used.
    Error,
}

/// Result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Severity.
    pub severity: Severity,
    /// Stable code: `shell_template`.
    pub code: String,
    /// Place: `actions/rm.yaml: parameters.cmd`.
    pub at: String,
    /// Problem and remedy.
    pub message: String,
}

impl Finding {
    /// Creates a finding that prevents the action from being run.
    pub fn error(code: &str, at: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Error, code: code.to_owned(), at: at.into(), message: message.into() }
    }

    /// Creates a warning.
    pub fn warning(code: &str, at: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(code, at, message) }
    }

    /// Creates a note.
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

/// True if no finding is an error.
pub fn is_runnable(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.severity < Severity::Error)
}
