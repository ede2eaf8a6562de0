//! Findings that the author accepts, with a reason: `bolt: {lint: {allow: {CODE: REASON}}}` in the action's file, or `#
//! bolt-lint: allow CODE REASON` in a script, on the same line or on the line above.

use crate::base::finding::Finding;

/// Minimum length of a reason, in characters: a single word is not one.
const REASON: usize = 8;
const MARK: &str = "bolt-lint: allow ";

/// Accepted finding in a script.
pub(super) struct Allowed {
    line: usize,
    code: String,
    /// True if the line has no code, so that the next line is meant.
    alone: bool,
}

/// Returns the accepted findings of a script; an invalid comment is a finding itself.
pub(super) fn in_script(path: &str, text: &str, found: &mut Vec<Finding>) -> Vec<Allowed> {
    let mut allowed = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((before, said)) = line.split_once(MARK).filter(|(before, _)| before.trim_end().ends_with('#')) else {
            continue;
        };
        let (code, reason) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
        if reason_is_none(reason) {
            let message = format!("give a reason for accepting {code}: # {MARK}{code} REASON");
            found.push(Finding::warning("lint_reason", format!("{path}:{}", index + 1), message));
            continue;
        }
        allowed.push(Allowed { line: index + 1, code: code.to_owned(), alone: before.trim() == "#" });
    }
    allowed
}

/// True if a finding with `code` on `line` is accepted.
pub(super) fn covers(allowed: &[Allowed], code: &str, line: usize) -> bool {
    allowed.iter().any(|a| a.code == code && (a.line == line || a.alone && a.line + 1 == line))
}

/// True if a text is too short to be a reason.
pub(super) fn reason_is_none(reason: &str) -> bool {
    reason.trim().chars().count() < REASON
}
