//! Content of an entry: who did or was refused what, when, and with which outcome.
//!
//! Values of parameters are never in an entry: their names are, and a digest of the values as the history has them, in which
//! secrets are masked. Text of callers is bounded and has no characters that act on a terminal.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::base::log_line;
use crate::base::name::{ActionRef, ExecutionId, RunId};

/// Verb of entries about the files of the log itself, which may be in both chains.
pub const RECOVER: &str = "recover";
/// Maximum length of a text in an entry, in bytes.
const MAX_TEXT: usize = 512;
/// Maximum number of names of parameters in an entry.
const MAX_NAMES: usize = 64;

/// Outcome of a call or an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Recorded before it was carried out.
    Accepted,
    /// Carried out.
    Done,
    /// Refused, with a code.
    Refused,
    /// Begun, and not carried out.
    Failed,
    /// Not known, or of a later version.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Outcome {
    /// Returns the word in files and fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        }
    }
}

/// Parameters of an execution, without their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterSummary {
    /// Names.
    pub names: Vec<String>,
    /// SHA-256 of the values as the history has them: JSON with sorted keys, secrets masked.
    pub digest: String,
}

/// Content of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Time, in milliseconds since 1970.
    pub at_ms: u64,
    /// Kind of call or event: a verb of grants (`run`, `kill`, …), `unpush`, or of the agent itself `start` and `reload`.
    pub verb: String,
    /// Outcome.
    pub outcome: Outcome,
    /// Caller; absent for an event of the agent itself and for a peer without a principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// True for a call over the local socket.
    #[serde(skip_serializing_if = "is_false")]
    pub local: bool,
    /// Action, or `<pack>.*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// Version of the pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest of the pack, or of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<ParameterSummary>,
    /// True for a dry run.
    #[serde(skip_serializing_if = "is_false")]
    pub noop: bool,
    /// Run that the execution is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Note of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Id of the request, which is also in the agent's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Code of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Reason, or what an event was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Number of equal refusals that this entry stands for, after the one that has an entry of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Time of the first of these, in milliseconds since 1970; `at_ms` is that of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_ms: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Returns text of a caller as an entry holds it: bounded, and without characters that act on a terminal.
pub fn text(text: &str) -> String {
    let mut line = log_line::escape_line(text).into_owned();
    if line.len() > MAX_TEXT {
        line.truncate(line.floor_char_boundary(MAX_TEXT));
        line.push('…');
    }
    line
}

impl ParameterSummary {
    /// Summarises parameters as the history has them, with secrets masked.
    pub fn of(masked: &Map<String, Value>) -> ParameterSummary {
        // A value is written with the keys of its objects in the order of the map, which is sorted.
        let digest = Sha256::digest(Value::Object(masked.clone()).to_string());
        ParameterSummary {
            names: masked.keys().take(MAX_NAMES).map(|name| text(name)).collect(),
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

impl Entry {
    /// Begins an entry.
    pub fn new(at_ms: u64, verb: impl Into<String>, outcome: Outcome) -> Entry {
        Entry { at_ms, verb: verb.into(), outcome, ..Entry::default() }
    }

    /// Names the caller.
    #[must_use]
    pub fn by(mut self, principal: &str) -> Entry {
        self.principal = Some(text(principal));
        self
    }

    /// Names the action.
    #[must_use]
    pub fn on(mut self, action: &ActionRef) -> Entry {
        self.action = Some(action.to_string());
        self
    }

    /// Adds a reason, or what the event is about.
    #[must_use]
    pub fn with_detail(mut self, detail: &str) -> Entry {
        self.detail = Some(text(detail));
        self
    }

    /// Adds the note of the caller.
    #[must_use]
    pub fn with_note(mut self, note: Option<&str>) -> Entry {
        self.note = note.map(text);
        self
    }
}
