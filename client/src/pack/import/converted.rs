//! Action after its conversion, and how it joins the plan of its pack.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::emit;
use super::plan::{Plan, PlannedFile, action_file};
use super::report::{ActionReport, Effect, ImportFinding};

/// Result of the conversion of one action.
pub(super) struct Converted {
    pub(super) report: ActionReport,
    /// Text of the action's file, unless it cannot run.
    pub(super) action_file: Option<String>,
    /// Further files of the pack.
    pub(super) files: BTreeMap<String, PlannedFile>,
    /// Entry in the registry of the supplied runners.
    pub(super) registered: Option<Value>,
}

impl Converted {
    pub(super) fn not_runnable(name: &str, file: &str, runner: &str, findings: Vec<ImportFinding>) -> Converted {
        let (name, file, runner) = (name.to_owned(), file.to_owned(), runner.to_owned());
        let report = ActionReport { name, file, runner, findings };
        Converted { report, action_file: None, files: BTreeMap::new(), registered: None }
    }

    /// Adds the action to `plan`, and its entry to `registry`. A second one whose name is the same but for case cannot run:
    /// some file systems would take their files for one.
    pub(super) fn add_to(self, plan: &mut Plan, registry: &mut Map<String, Value>) {
        let mut report = self.report;
        let same = |other: &&ActionReport| other.name.eq_ignore_ascii_case(&report.name);
        if let Some(other) = plan.report.actions.iter().find(same) {
            let message = format!(
                "the action {} of {} and the action {} of {} would have one name in Bolt; rename one of them",
                other.name, other.file, report.name, report.file
            );
            report.findings.push(ImportFinding::new("duplicate_action", Effect::Blocks, &report.file, message));
        } else if let Some(text) = self.action_file {
            registry.extend(self.registered.map(|entry| (report.name.clone(), entry)));
            plan.files.insert(action_file(&report.name), PlannedFile::text(text));
            plan.files.extend(self.files);
        }
        plan.report.actions.push(report);
    }
}

/// Action file to write.
pub(super) struct ActionText<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) runner_type: &'a str,
    pub(super) entry_point: &'a str,
    pub(super) enabled: bool,
    pub(super) tags: &'a [Value],
    pub(super) parameters: Map<String, Value>,
    /// The section `bolt`.
    pub(super) bolt: Value,
}

impl ActionText<'_> {
    /// Returns the text; `origin` names the system and file that it comes from.
    pub(super) fn text(self, origin: &str) -> String {
        let mut entries = vec![
            ("name", Value::from(self.name)),
            ("description", Value::from(self.description.trim())),
            ("runner_type", Value::from(self.runner_type)),
            ("entry_point", Value::from(self.entry_point)),
            ("enabled", Value::from(self.enabled)),
        ];
        if !self.tags.is_empty() {
            entries.push(("tags", Value::from(self.tags)));
        }
        if !self.parameters.is_empty() {
            entries.push(("parameters", Value::Object(self.parameters)));
        }
        entries.push(("bolt", self.bolt));
        format!("# Imported from {}\n{}", comment(origin), emit::document(&entries, 1))
    }
}

/// Returns text for a comment in YAML or a script: no character of it ends the line, whatever a file is called.
pub(super) fn comment(text: &str) -> String {
    let ends = |c: char| c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c);
    text.replace(|c: char| ends(c) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}'), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_one_line() {
        let hostile = "a\nb\rc\u{85}d\u{2028}e\u{2029}f\u{feff}g\u{b}h\u{c}i é";
        assert_eq!(comment(hostile), "a?b?c?d?e?f?g?h?i é".replace('?', "\u{fffd}"));
    }
}
