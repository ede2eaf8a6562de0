//! Groups of instances that ended the same, and blocks of groups whose outputs differ in a few lines only.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use packs_schema::agent::rest::{Execution, PushInfo};
use packs_schema::base::name::{ExecutionId, InstanceId, PackVersion};
use serde_json::{Map, Value};

use crate::cli::ps;
use crate::error::Error;
use crate::fleet::{Ending, Report, Run};
use crate::show::{self, visible};

/// Number of different texts of one error code above which they share a group.
const TEXTS: usize = 3;
/// Maximum number of instances that are named before a line that others have differently.
const NAMED: usize = 3;

/// Part of an execution that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Output,
    Result,
    Nothing,
}

/// Instance of a group.
pub(super) struct Member<'a> {
    pub(super) id: &'a InstanceId,
    ending: &'a Ending,
}

/// Instances that ended the same.
pub(super) struct Group<'a> {
    pub(super) members: Vec<Member<'a>>,
    pub(super) state: String,
    succeeded: bool,
    pub(super) reason: Vec<String>,
    pub(super) shown: Shown<'a>,
}

/// Content that all executions of a group share.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Shown<'a> {
    Output { stdout: &'a [u8], stderr: &'a [u8], truncated: bool },
    Result(Option<&'a Map<String, Value>>),
    Nothing,
}

/// Groups that are shown together: one, or several with the same number of lines, most of which are the same.
pub(super) struct Block<'a> {
    pub(super) groups: Vec<Group<'a>>,
}

impl<'a> Member<'a> {
    /// Returns the structured result of the instance's execution.
    pub(super) fn result(&self) -> Option<&'a Map<String, Value>> {
        match self.ending {
            Ending::Ended(execution, _) => execution.result.as_ref(),
            _ => None,
        }
    }
}

impl Group<'_> {
    /// Returns the execution of the first instance.
    pub(super) fn execution(&self) -> Option<&ExecutionId> {
        self.members[0].ending.execution()
    }

    /// True if the executions of the group ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.members[0].ending, Ending::Ended(..))
    }
}

/// Groups instances with the same state, reason and `what`, in the order of their first instance.
pub(super) fn groups<'a>(run: &'a Run, report: &'a Report, what: What) -> Vec<Group<'a>> {
    let texts = ErrorTexts::of(report);
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut known: HashMap<(String, Vec<String>, Shown<'a>), usize> = HashMap::new();
    for (target, ending) in run.targets.iter().zip(&report.endings) {
        let state = match ending {
            Ending::Ended(execution, _) => ps::state(execution),
            _ => ending.state().to_owned(),
        };
        let reason = reason(run, ending, &texts);
        let shown = match (ending, what) {
            (Ending::Ended(_, output), What::Output) => {
                Shown::Output { stdout: &output.stdout, stderr: &output.stderr, truncated: output.truncated }
            }
            (Ending::Ended(execution, _), What::Result) => Shown::Result(execution.result.as_ref()),
            _ => Shown::Nothing,
        };
        let at = *known.entry((state.clone(), reason.clone(), shown.clone())).or_insert_with(|| {
            groups.push(Group { members: Vec::new(), state, succeeded: ending.succeeded(), reason, shown });
            groups.len() - 1
        });
        groups[at].members.push(Member { id: target.id(), ending });
    }
    groups
}

/// Puts groups into blocks, in the order of their first group.
pub(super) fn blocks(groups: Vec<Group<'_>>) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    // Blocks by what their groups must have in common.
    let mut candidates: HashMap<(String, Vec<String>, Vec<u8>, usize), usize> = HashMap::new();
    for group in groups {
        if let Shown::Output { stdout, stderr, truncated: false } = group.shown {
            let lines = stdout.split(|byte| *byte == b'\n').count();
            let key = (group.state.clone(), group.reason.clone(), stderr.to_vec(), lines);
            match candidates.get(&key) {
                Some(at) if is_similar(stdout, blocks[*at].groups[0].stdout()) => {
                    blocks[*at].groups.push(group);
                    continue;
                }
                Some(_) => {}
                None => {
                    candidates.insert(key, blocks.len());
                }
            }
        }
        blocks.push(Block { groups: vec![group] });
    }
    blocks
}

/// True if more than half of the lines of two outputs with the same number of lines are the same.
fn is_similar(one: &[u8], other: &[u8]) -> bool {
    let is_newline = |byte: &u8| *byte == b'\n';
    let ended = |bytes: &'_ [u8]| bytes.ends_with(b"\n");
    let pairs = one.split(is_newline).zip(other.split(is_newline));
    let (mut lines, mut same) = (0, 0);
    for (one, other) in pairs {
        lines += 1;
        same += usize::from(one == other);
    }
    // The text after the last line break is not a line.
    let empty = usize::from(ended(one) && ended(other));
    (same - empty) * 2 > lines - empty
}

impl<'a> Group<'a> {
    fn stdout(&self) -> &'a [u8] {
        match self.shown {
            Shown::Output { stdout, .. } => stdout,
            Shown::Result(_) | Shown::Nothing => &[],
        }
    }
}

impl<'a> Block<'a> {
    /// Returns all instances of the block.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.groups.iter().flat_map(|group| &group.members)
    }

    /// True if the executions of the block succeeded.
    pub(super) fn succeeded(&self) -> bool {
        self.groups[0].succeeded
    }

    /// True if an execution of the block has a structured result.
    pub(super) fn has_result(&self) -> bool {
        self.members().any(|member| member.result().is_some())
    }

    /// Returns the lines of all groups: each line once that all have, otherwise each different one with its instances.
    pub(super) fn merged_lines(&self) -> Vec<String> {
        let outputs: Vec<Vec<String>> =
            self.groups.iter().map(|group| super::output_lines("", group.stdout())).collect();
        let count = outputs.iter().map(Vec::len).max().unwrap_or(0);
        let mut lines = Vec::new();
        for at in 0..count {
            let mut variants: Vec<(&str, Vec<&InstanceId>)> = Vec::new();
            for (group, output) in self.groups.iter().zip(&outputs) {
                let text = output.get(at).map_or("", String::as_str);
                let ids = group.members.iter().map(|member| member.id);
                match variants.iter_mut().find(|(other, _)| *other == text) {
                    Some((_, all)) => all.extend(ids),
                    None => variants.push((text, ids.collect())),
                }
            }
            match &variants[..] {
                [(text, _)] => lines.push((*text).to_owned()),
                _ => lines.extend(variants.iter().map(|(text, ids)| format!("[{}] {text}", show::listed(ids, NAMED)))),
            }
        }
        lines
    }
}

/// Texts of the errors of a report, by code.
struct ErrorTexts(BTreeMap<&'static str, (String, BTreeSet<String>)>);

impl ErrorTexts {
    fn of(report: &Report) -> ErrorTexts {
        let mut texts: BTreeMap<&'static str, (String, BTreeSet<String>)> = BTreeMap::new();
        for ending in &report.endings {
            if let Ending::Unreachable { error, .. } | Ending::Refused(error) = ending {
                let text = error.kind.to_string();
                let (_, all) = texts.entry(error.kind.code()).or_insert_with(|| (text.clone(), BTreeSet::new()));
                if all.len() <= TEXTS {
                    all.insert(text);
                }
            }
        }
        ErrorTexts(texts)
    }

    /// Returns the text of `error`, or one example for all errors of its code when there are many texts, such as the names of
    /// instances that answered in place of others.
    fn text(&self, error: &Error) -> String {
        match self.0.get(error.kind.code()) {
            Some((first, all)) if all.len() > TEXTS => format!("{}, such as: {first}", error.kind.code()),
            _ => error.kind.to_string(),
        }
    }
}

/// Returns the lines that explain how an instance ended. Nothing in them differs between instances without need.
fn reason(run: &Run, ending: &Ending, texts: &ErrorTexts) -> Vec<String> {
    let mut reason = Vec::new();
    match ending {
        Ending::Ended(execution, output) => {
            reason.extend(execution.dev.as_ref().map(|dev| pushed(&execution.version, dev)));
            reason.extend(execution.reason.as_deref().map(visible));
            reason.extend(left_over(execution));
            reason.extend(execution.result_error.as_deref().map(|e| format!("no result: {}", visible(e))));
            reason
                .extend(output.problem.as_deref().map(|e| format!("its output could not be fetched: {}", visible(e))));
            reason.extend(execution.unenforced.iter().map(|what| format!("not enforced: {}", visible(what))));
        }
        Ending::Unreachable { error, execution, may_run } => {
            reason.push(texts.text(error));
            match (execution, may_run) {
                (None, false) => reason.extend(error.kind.hint().map(|hint| format!("hint: {hint}"))),
                (Some(_), _) => reason.push(format!(
                    "contact was lost while it ran: `bolt ps --run {}` shows its state once the instance answers",
                    run.id
                )),
                (None, true) => reason.push(format!(
                    "it may have been started: `bolt ps --run {}` shows it once the instance answers",
                    run.id
                )),
            }
        }
        Ending::Refused(error) => {
            reason.push(texts.text(error));
            reason.extend(error.kind.hint().map(|hint| format!("hint: {hint}")));
        }
        Ending::NotStarted => {}
    }
    reason
}

/// Describes a pushed version, without its time: so instances to which it was pushed one after the other share a group.
fn pushed(version: &PackVersion, dev: &PushInfo) -> String {
    format!("pushed version: {version} was pushed by {} and is not signed", visible(dev.by.as_str()))
}

/// Describes processes that remained after the action, for people who start services with it.
fn left_over(execution: &Execution) -> Option<String> {
    let left = execution.leftovers.as_ref()?;
    let text = visible(&left.describe(execution.state)?);
    let hint = if left.kept == 0 && left.after_subreaper == 0 {
        "; an action that starts a service says `bolt: {leftovers: keep}` in its file"
    } else {
        ""
    };
    Some(format!("{text}{hint}"))
}
