//! Log line and audit entry of a refusal: principal, verb, action and reason.
//!
//! The response may say less than the log: an execution that the caller may not see is "unknown" to the caller.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};

use packs_schema::agent::audit::{Entry, Outcome, text};
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::Code;

use super::problem::ApiError;
use crate::audit::Audit;
use crate::clock;

/// Action (or `<pack>.*`) that a request is about, set once it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject(Arc<OnceLock<String>>);

impl Subject {
    /// Records the subject; the first call counts.
    pub(super) fn set(&self, name: impl Display) {
        // A request is about one action: a second call repeats the first.
        let _ = self.0.set(name.to_string());
    }

    /// Returns the subject; `None` while it is not known.
    pub(super) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// Lists verbs for people: `read or metrics`.
pub(super) fn join_verbs(verbs: &[Verb]) -> String {
    let words: Vec<String> = verbs.iter().map(ToString::to_string).collect();
    words.join(" or ")
}

/// Properties of a refused request, for the log.
pub(super) struct Refused<'a> {
    pub(super) request_id: &'a str,
    pub(super) principal: Option<&'a str>,
    pub(super) route: &'static str,
    pub(super) verbs: &'static [Verb],
    pub(super) subject: &'a Subject,
    /// True if the call would have changed something.
    pub(super) is_change: bool,
    /// True for a call over the local socket.
    pub(super) is_local: bool,
}

impl Refused<'_> {
    /// Records it in the audit log: calls without a name or a grant, and calls that would have changed something. A read of
    /// something that does not exist is neither.
    pub(super) fn record(&self, audit: &Audit, error: &ApiError) {
        if !error.is_denied() && (!self.is_change || self.verbs.is_empty()) {
            return;
        }
        let (code, _) = error.code();
        // Of several verbs, of which one would have sufficed, the first.
        let verb = self.verbs.first().map_or_else(|| "none".to_owned(), ToString::to_string);
        let reason = error.reason_for_log().unwrap_or_else(|| code.title().to_owned());
        let entry = Entry {
            principal: self.principal.map(text),
            local: self.is_local,
            action: self.subject.get().map(text),
            request: Some(self.request_id.to_owned()),
            code: Some(code.to_string()),
            ..Entry::new(clock::now_ms(), verb, Outcome::Refused).with_detail(&reason)
        };
        audit.refuse(entry);
    }

    /// Writes the line. Faults of the agent are logged elsewhere.
    pub(super) fn log(&self, error: &ApiError) {
        let (code, _) = error.code();
        if code == Code::Internal {
            return;
        }
        let Refused { request_id, route, .. } = self;
        let principal = self.principal.unwrap_or("-");
        let verb = if self.verbs.is_empty() { "-".to_owned() } else { join_verbs(self.verbs) };
        let action = self.subject.get().unwrap_or("-");
        // Escaped: a reason may repeat the caller's text.
        let reason = error.reason_for_log().unwrap_or_else(|| code.title().to_owned());
        if error.is_denied() {
            tracing::warn!(request_id, %principal, verb, action, %code, ?reason, route, "refused");
        } else {
            tracing::info!(request_id, %principal, verb, action, %code, ?reason, route, "refused");
        }
    }
}
