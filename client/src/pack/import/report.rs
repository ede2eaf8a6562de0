//! Report of an import: what became of each action, and why.

use std::collections::BTreeMap;
use std::fmt;

use packs_schema::base::strict::shorten;
use serde::{Serialize, Serializer};

use super::Format;

/// Code of the finding that callers give a command, so that the action is disabled.
pub(super) const ANY_COMMAND: &str = "any_command";
/// Code of the finding that a requirement is not imported.
pub(super) const REQUIREMENT_REFUSED: &str = "requirement_refused";
/// Maximum length of a finding's message, in characters. Names and patterns of a source may be long.
const MAX_MESSAGE: usize = 2000;

/// Effect of a finding on its action, from harmless to blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A difference that does not change what the action does.
    Note,
    /// Changed so that callers cannot misuse it.
    Safer,
    /// Runs, but has little to do with the instance that it runs on.
    Rare,
    /// Cannot run.
    Blocks,
}

/// Verdict on an action: the gravest effect of its findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Runs as its source would.
    RunsUnchanged,
    /// Runs, and was changed so that callers cannot misuse it.
    MadeSafer,
    /// Runs, and is a client of a web service or the like.
    RarelyUseful,
    /// Is not in the pack.
    CannotRun,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::RunsUnchanged => "runs unchanged",
            Verdict::MadeSafer => "made safer",
            Verdict::RarelyUseful => "rarely useful",
            Verdict::CannotRun => "cannot run",
        })
    }
}

/// Difference between the source and the pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportFinding {
    /// Stable code: `python2`.
    pub code: &'static str,
    /// Effect on the action.
    pub effect: Effect,
    /// File of the source.
    pub file: String,
    /// Line, counted from 1, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Difference, and what a person may do about it.
    pub message: String,
}

impl ImportFinding {
    pub(super) fn new(code: &'static str, effect: Effect, file: &str, message: impl Into<String>) -> ImportFinding {
        let message = shorten(&message.into(), MAX_MESSAGE);
        ImportFinding { code, effect, file: file.to_owned(), line: None, message }
    }

    pub(super) fn at(mut self, line: Option<usize>) -> ImportFinding {
        self.line = line;
        self
    }
}

impl fmt::Display for ImportFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        write!(f, "{}{line}: {} [{}]", self.file, self.message, self.code)
    }
}

/// Action of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionReport {
    /// Name in the pack.
    pub name: String,
    /// File of the source that describes it.
    pub file: String,
    /// Its runner, in words of the source.
    pub runner: String,
    /// Differences.
    pub findings: Vec<ImportFinding>,
}

impl ActionReport {
    /// Returns the verdict.
    pub fn verdict(&self) -> Verdict {
        match self.findings.iter().map(|finding| finding.effect).max() {
            None | Some(Effect::Note) => Verdict::RunsUnchanged,
            Some(Effect::Safer) => Verdict::MadeSafer,
            Some(Effect::Rare) => Verdict::RarelyUseful,
            Some(Effect::Blocks) => Verdict::CannotRun,
        }
    }

    /// True if it is in the pack, disabled because callers give a command.
    pub fn is_disabled(&self) -> bool {
        self.verdict() != Verdict::CannotRun && self.findings.iter().any(|finding| finding.code == ANY_COMMAND)
    }

    /// Returns the findings that decide the verdict.
    pub fn deciding(&self) -> impl Iterator<Item = &ImportFinding> {
        let gravest = self.findings.iter().map(|finding| finding.effect).max();
        self.findings.iter().filter(move |finding| Some(finding.effect) == gravest)
    }
}

impl Serialize for ActionReport {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            name: &'a str,
            file: &'a str,
            runner: &'a str,
            verdict: Verdict,
            findings: &'a [ImportFinding],
        }
        let ActionReport { name, file, runner, findings } = self;
        Shown { name, file, runner, verdict: self.verdict(), findings }.serialize(to)
    }
}

/// Part of a source that is not in the pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// File or directory of the source.
    pub file: String,
    /// The reason.
    pub why: String,
}

/// Report of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Format of the source.
    pub format: Format,
    /// The pack.
    pub pack: String,
    /// Its version.
    pub version: String,
    /// Its actions, sorted by file.
    pub actions: Vec<ActionReport>,
    /// Differences that concern no single action.
    pub findings: Vec<ImportFinding>,
    /// Parts that are not in the pack.
    pub left_out: Vec<LeftOut>,
}

impl Report {
    /// Returns why no action can run, as lines: the reasons of each, of the source, and of what was left out.
    pub(super) fn reasons(&self) -> String {
        /// Maximum number of lines.
        const MAX_LINES: usize = 20;
        let of = |action: &ActionReport| {
            action
                .deciding()
                .map(|f| format!("  {}: {}", action.name, shorten(&f.to_string(), 400)))
                .collect::<Vec<_>>()
        };
        // Their remedy makes actions run.
        let requirements = self.findings.iter().filter(|finding| finding.code == REQUIREMENT_REFUSED);
        let mut lines: Vec<String> = requirements.map(|finding| format!("  {finding}")).collect();
        lines.extend(self.actions.iter().flat_map(of));
        if self.actions.is_empty() {
            lines.push(format!("  {}", self.format.why_empty()));
            lines.extend(self.findings.iter().map(|finding| format!("  {finding}")));
        }
        lines.extend(self.left_out.iter().map(|left| format!("  {}: not imported: {}", left.file, left.why)));
        let more = lines.len().saturating_sub(MAX_LINES);
        lines.truncate(MAX_LINES);
        if more > 0 {
            lines.push(format!("  … and {more} more"));
        }
        crate::show::visible_lines(&lines.join("\n"))
    }
}

/// Numbers of actions by verdict, over any number of reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Actions found.
    pub found: usize,
    /// Actions by verdict.
    pub verdicts: BTreeMap<Verdict, usize>,
    /// Actions that cannot run, by the code of the first reason.
    pub cannot_run: BTreeMap<&'static str, usize>,
    /// Actions that are disabled until a person has reviewed them, since callers give a command.
    pub disabled: usize,
}

impl Totals {
    /// Adds a report.
    pub fn add(&mut self, report: &Report) {
        for action in &report.actions {
            self.found += 1;
            self.disabled += usize::from(action.is_disabled());
            *self.verdicts.entry(action.verdict()).or_default() += 1;
            if action.verdict() == Verdict::CannotRun
                && let Some(reason) = action.deciding().next()
            {
                *self.cannot_run.entry(reason.code).or_default() += 1;
            }
        }
    }

    /// Returns the number of actions with this verdict.
    pub fn of(&self, verdict: Verdict) -> usize {
        self.verdicts.get(&verdict).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_quotes_a_long_name_is_bounded() {
        let finding = ImportFinding::new("long_name", Effect::Note, "a.yaml", "x".repeat(1 << 20));
        assert!(finding.message.chars().count() <= MAX_MESSAGE + 1, "{}", finding.message.len());
    }
}
