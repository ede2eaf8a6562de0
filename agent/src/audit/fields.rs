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
    // Each field: one that is left out here is missing in the only copy that cannot be changed on this host.
    let Entry {
        at_ms,
        verb,
        outcome,
        principal,
        local,
        action,
        execution,
        version,
        digest,
        parameters,
        noop,
        run,
        note,
        request,
        code,
        detail,
        count,
        first_ms,
    } = entry;
    let who = principal.as_deref().unwrap_or(if *local { "local" } else { "-" });
    let object = action.as_deref().or(detail.as_deref()).unwrap_or("-");
    let message = format!("{verb} {} by {who}: {object}", outcome.as_str());
    let mut fields = journal::Entry::new(priority, IDENTIFIER, &message);
    fields.field("bolt_chain", chain.as_str());
    fields.field("bolt_at_ms", &at_ms.to_string());
    fields.field("bolt_verb", verb);
    fields.field("bolt_outcome", outcome.as_str());
    let [count, first_ms] = [count, first_ms].map(|number| number.map(|number| number.to_string()));
    let names = parameters.as_ref().map(|parameters| parameters.names.join(","));
    for (name, value) in [
        ("bolt_principal", principal.as_deref()),
        ("bolt_local", local.then_some("1")),
        ("bolt_action", action.as_deref()),
        ("bolt_execution", execution.as_ref().map(|execution| execution.as_str())),
        ("bolt_version", version.as_deref()),
        ("bolt_digest", digest.as_deref()),
        ("bolt_parameters", names.as_deref()),
        ("bolt_parameters_digest", parameters.as_ref().map(|parameters| &*parameters.digest)),
        ("bolt_noop", noop.then_some("1")),
        ("bolt_run", run.as_ref().map(|run| run.as_str())),
        ("bolt_note", note.as_deref()),
        ("bolt_request", request.as_deref()),
        ("bolt_code", code.as_deref()),
        ("bolt_detail", detail.as_deref()),
        ("bolt_count", count.as_deref()),
        ("bolt_first_ms", first_ms.as_deref()),
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

#[cfg(test)]
mod tests {
    use packs_schema::agent::audit::ParameterSummary;

    use super::*;

    #[test]
    fn the_copy_tells_a_dry_run_from_a_run_and_has_the_times() {
        let summary = ParameterSummary { names: vec!["keyspace".to_owned(), "n".to_owned()], digest: "ab".to_owned() };
        let run =
            |noop| Entry { noop, parameters: Some(summary.clone()), ..Entry::new(1_000, "run", Outcome::Accepted) };
        let lines = |entry: &Entry| {
            let entry = journal_entry(Chain::Changes, entry, None);
            String::from_utf8(entry.bytes().to_vec()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let dry = lines(&run(true));
        for field in ["BOLT_AT_MS=1000", "BOLT_NOOP=1", "BOLT_PARAMETERS=keyspace,n", "BOLT_PARAMETERS_DIGEST=ab"] {
            assert!(dry.iter().any(|line| line == field), "{field}: {dry:?}");
        }
        assert!(!lines(&run(false)).iter().any(|line| line.starts_with("BOLT_NOOP")));
        let counted = Entry { count: Some(7), first_ms: Some(500), ..Entry::new(900, "run", Outcome::Refused) };
        assert!(lines(&counted).contains(&"BOLT_FIRST_MS=500".to_owned()));
    }
}
