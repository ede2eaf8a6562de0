//! Actions whose callers give a whole command, or name a program. They are imported disabled: agents run them only after a
//! person has enabled them, and should have restricted the parameter.

use super::report::{ANY_COMMAND, Effect, ImportFinding};
use super::schema::Sink;

/// Part of an action that callers give without a restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// Text that a shell or another program runs.
    Command,
    /// The name of a program, and nothing that a shell reads.
    Program,
}

/// Notes that callers give this with a parameter.
pub(super) fn note(sink: &mut Sink<'_>, place: &[&str], parameter: &str, given: Given) {
    let freedom = match given {
        Given::Command => "give any command",
        Given::Program => "choose any program",
    };
    let message = format!(
        "callers would {freedom} with {parameter}; the action is disabled: restrict the parameter by an enum or a pattern, and set \
         enabled: true after a review"
    );
    sink.add(ANY_COMMAND, Effect::Safer, place, message);
}

/// True if an action with these findings is written disabled.
pub(super) fn disables(findings: &[ImportFinding]) -> bool {
    findings.iter().any(|finding| finding.code == ANY_COMMAND)
}
