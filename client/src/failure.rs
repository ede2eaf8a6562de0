//! Failures that end a command: a message and a hint for people, an exit code for programs.

use std::fmt;

use crate::error::GRANT_HINT;

/// The exit codes of `bolt`, as its manual lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked for succeeded.
    Success = 0,
    /// An execution did not succeed, a check found an error, or an instance was not reached.
    Failed = 1,
    /// The command line, a file it names or a parameter is wrong; nothing was done.
    Usage = 2,
    /// No instance could be reached, or its certificate was not the right one; nothing was done.
    Unreachable = 3,
    /// The agent refused: no grant, unknown action, busy, full; nothing was done.
    Refused = 4,
    /// A file, a key, a repository or a source of the inventory could not be read or written.
    Storage = 5,
    /// Interrupted by the user; what was started goes on.
    Interrupted = 130,
}

/// Failure of a command.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// Description of the problem, with the input that caused it.
    pub message: String,
    /// Advice what to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// Returns a failure without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: None }
    }

    /// Returns the failure of a command that was interrupted before it did anything.
    pub fn interrupted() -> Failure {
        Failure::new(Exit::Interrupted, "interrupted; nothing was done")
    }

    /// Adds advice what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the failure for an error of one instance, with its hint.
    pub fn from_instance(error: &crate::error::Error) -> Failure {
        let exit = if error.kind.is_refusal() { Exit::Refused } else { Exit::Unreachable };
        Failure { exit, message: error.to_string(), hint: error.kind.hint().map(str::to_owned) }
    }

    /// Names all verbs that `command` needs, where a grant is missing: the agent's refusal names only the first of them.
    #[must_use]
    pub fn needing(mut self, command: &str, verbs: &str) -> Failure {
        let wanted = format!("`bolt {command}` takes a grant with {verbs} in grants.toml of the instance");
        self.hint = self.hint.map(|hint| hint.replace(GRANT_HINT, &wanted));
        self
    }

    /// Returns the failure as JSON, for programs.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": { "exit": self.exit as i32, "message": self.message, "hint": self.hint } })
    }

    /// Returns a failure from an error and its sources, joined by colons.
    pub fn from_error(exit: Exit, error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            source = inner.source();
        }
        Failure::new(exit, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}
