//! Entries in the journal: the same facts as fields, which `journalctl` finds by name. Sequence number and hash are
//! the head of the chain after the entry: a copy that is not in the agent's files. The journal has the names in capitals.

use packs_schema::agent::audit::{Chain, Entry, Head, Outcome};

use crate::journal::{self, Priority};

/// Program in the journal.
const IDENTIFIER: &str = "bolt-audit";

/// Makes the journal's entry. Without a head, the entry could not be written to its file yet.
pub(super) fn journal_entry(chain: Chain, entry: &Entry, head: Option<Head>) -> journal::Entry {
    let priority = match entry.outcome {
        Outcome::Refused | Outcome::Failed => Priority::Warning,
        Outcome::Accepted | Outcome::Done | Outcome::Unknown => Priority::Notice,
    };
    let who = entry.principal.as_deref().unwrap_or(if entry.local { "local" } else { "-" });
    let object = entry.action.as_deref().or(entry.detail.as_deref()).unwrap_or("-");
    let message = format!("{} {} by {who}: {object}", entry.verb, entry.outcome.as_str());
    let mut fields = journal::Entry::new(priority, IDENTIFIER, &message);
    fields.field("bolt_chain", chain.as_str());
    fields.field("bolt_verb", &entry.verb);
    fields.field("bolt_outcome", entry.outcome.as_str());
    let run = entry.run.as_ref().map(|run| run.as_str());
    let execution = entry.execution.as_ref().map(|execution| execution.as_str());
    let count = entry.count.map(|count| count.to_string());
    for (name, value) in [
        ("bolt_principal", entry.principal.as_deref()),
        ("bolt_local", entry.local.then_some("1")),
        ("bolt_action", entry.action.as_deref()),
        ("bolt_execution", execution),
        ("bolt_version", entry.version.as_deref()),
        ("bolt_digest", entry.digest.as_deref()),
        ("bolt_run", run),
        ("bolt_note", entry.note.as_deref()),
        ("bolt_request", entry.request.as_deref()),
        ("bolt_code", entry.code.as_deref()),
        ("bolt_detail", entry.detail.as_deref()),
        ("bolt_count", count.as_deref()),
    ] {
        if let Some(value) = value {
            fields.field(name, value);
        }
    }
    if let Some(head) = head {
        fields.field("bolt_sequence", &head.sequence.to_string());
        fields.field("bolt_hash", &head.hash.to_string());
    }
    fields
}
