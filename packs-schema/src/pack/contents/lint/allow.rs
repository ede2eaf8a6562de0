//! What an author has looked at and lets stand, with a reason: `bolt: {lint: {allow: {CODE: REASON}}}` in the action's file,
//! or `# bolt-lint: allow CODE REASON` in a script, on the line itself or on the one above it.

use crate::base::finding::Finding;

/// The shortest reason, in characters: a word is none.
const REASON: usize = 8;
const MARK: &str = "bolt-lint: allow ";

/// A permission in a script.
pub(super) struct Allowed {
    line: usize,
    code: String,
    /// The line holds nothing else, so the next one is meant.
    alone: bool,
}

/// The permissions of a script; what is wrong with one is a finding.
pub(super) fn in_script(path: &str, text: &str, found: &mut Vec<Finding>) -> Vec<Allowed> {
    let mut allowed = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((before, said)) = line.split_once(MARK).filter(|(before, _)| before.trim_end().ends_with('#')) else {
            continue;
        };
        let (code, reason) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
        if reason_is_none(reason) {
            let message = format!("say why {code} may stand: # {MARK}{code} the reason");
            found.push(Finding::warning("lint_reason", format!("{path}:{}", index + 1), message));
            continue;
        }
        allowed.push(Allowed { line: index + 1, code: code.to_owned(), alone: before.trim() == "#" });
    }
    allowed
}

/// True if a finding with `code` on `line` may stand.
pub(super) fn covers(allowed: &[Allowed], code: &str, line: usize) -> bool {
    allowed.iter().any(|a| a.code == code && (a.line == line || a.alone && a.line + 1 == line))
}

/// True if a text gives no reason.
pub(super) fn reason_is_none(reason: &str) -> bool {
    reason.trim().chars().count() < REASON
}
