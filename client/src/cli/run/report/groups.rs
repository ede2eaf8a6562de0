//! Groups of instances that ended the same.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use packs_schema::agent::rest::{Execution, PushInfo};
use packs_schema::base::name::{ExecutionId, InstanceId, PackVersion};
use serde_json::{Map, Value};

use crate::cli::ps;
use crate::compare::{self, Normalize};
use crate::error::Error;
use crate::fleet::{Ending, Report, Run};
use crate::inventory::Instance;
use crate::show::{self, visible};

/// Number of different texts of one error code above which they share a group.
const TEXTS: usize = 3;
/// Part of an execution that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Output,
    /// The result, as JSON.
    Result,
    /// The results of the group, as a table.
    Table,
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
    pub(super) succeeded: bool,
    pub(super) reason: Vec<String>,
    /// Content of the first member.
    pub(super) shown: Shown<'a>,
    /// True if the others differ from it, but for what is normalized.
    pub(super) is_normalized: bool,
}

/// Content of an execution.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Shown<'a> {
    Output { stdout: &'a [u8], stderr: &'a [u8], truncated: bool },
    Result(Option<&'a Map<String, Value>>),
    Table,
    Nothing,
}

/// State, reasons and content that the members of a group have in common.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    state: String,
    reason: Vec<String>,
    content: Content<'a>,
}

/// Content as it is compared.
#[derive(PartialEq, Eq, Hash)]
enum Content<'a> {
    Exact(Shown<'a>),
    Normalized(Cow<'a, str>, Cow<'a, str>, bool),
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

/// Groups instances with the same state, reason and `what`, the largest group first. `normalize` makes outputs and results equal
/// that differ in numbers, times and the like only.
pub(super) fn groups<'a>(run: &'a Run, report: &'a Report, what: What, normalize: Normalize) -> Vec<Group<'a>> {
    let texts = ErrorTexts::of(report);
    let normal = |text: &str, instance: &Instance| {
        let names = [instance.id().as_str(), instance.address.host()];
        normalize.apply(text, &names)
    };
    let key = |(instance, ending): (&Instance, &'a Ending)| {
        let state = match ending {
            Ending::Ended(execution, _) => ps::state(execution),
            _ => ending.state().to_owned(),
        };
        let shown = shown(ending, what);
        let content = match &shown {
            _ if normalize == Normalize::default() => Content::Exact(shown),
            Shown::Output { stdout, stderr, truncated } => {
                let [stdout, stderr] = [stdout, stderr].map(|bytes| normal(&String::from_utf8_lossy(bytes), instance));
                Content::Normalized(stdout.into(), stderr.into(), *truncated)
            }
            Shown::Result(Some(result)) => {
                Content::Normalized(normal(&show::json_line(result), instance).into(), Cow::Borrowed(""), false)
            }
            Shown::Result(None) | Shown::Table | Shown::Nothing => Content::Exact(shown),
        };
        Key { state, reason: reason(run, ending, &texts), content }
    };
    let keys: Vec<Key<'a>> = run.targets.iter().zip(&report.endings).map(key).collect();
    let parts = compare::group(&keys);
    let member = |at: &usize| Member { id: run.targets[*at].id(), ending: &report.endings[*at] };
    let group = |part: Vec<usize>| {
        let (first, ending) = (&keys[part[0]], &report.endings[part[0]]);
        let shown = shown(ending, what);
        let is_normalized = matches!(first.content, Content::Normalized(..))
            && part.iter().any(|at| self::shown(&report.endings[*at], what) != shown);
        Group {
            members: part.iter().map(member).collect(),
            state: first.state.clone(),
            succeeded: ending.succeeded(),
            reason: first.reason.clone(),
            shown,
            is_normalized,
        }
    };
    parts.into_iter().map(group).collect()
}

/// Returns the content of an ending that is shown.
fn shown(ending: &Ending, what: What) -> Shown<'_> {
    match (ending, what) {
        (Ending::Ended(_, output), What::Output) => {
            Shown::Output { stdout: &output.stdout, stderr: &output.stderr, truncated: output.truncated }
        }
        (Ending::Ended(execution, _), What::Result) => Shown::Result(execution.result.as_ref()),
        (Ending::Ended(..), What::Table) => Shown::Table,
        _ => Shown::Nothing,
    }
}

impl<'a> Group<'a> {
    pub(super) fn stdout(&self) -> &'a [u8] {
        match self.shown {
            Shown::Output { stdout, .. } => stdout,
            Shown::Result(_) | Shown::Table | Shown::Nothing => &[],
        }
    }

    /// Returns the complete output as it is printed, to be compared.
    pub(super) fn text(&self) -> Option<String> {
        let Shown::Output { stdout, stderr, truncated: false } = self.shown else { return None };
        let lines = [super::output_lines("", stdout), super::output_lines("stderr: ", stderr)].concat();
        (!lines.is_empty()).then(|| lines.iter().map(|line| format!("{line}\n")).collect())
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
                (_, true) if error.kind.is_refusal() => {
                    reason.extend(error.kind.hint().map(|hint| format!("hint: {hint}")));
                    reason.push(format!("an earlier request may have started it: `bolt ps --run {}` shows it", run.id));
                }
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
