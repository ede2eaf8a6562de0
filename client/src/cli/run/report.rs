//! How a run ended: answers that are the same are shown once, and every instance is named.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packs_schema::agent::rest::{Execution, PushInfo};
use packs_schema::base::name::{ExecutionId, InstanceId, PackVersion};
use serde_json::{Map, Value, json};

use crate::cli::context::{Context, error_json};
use crate::cli::failure::Exit;
use crate::cli::{find, ps, terminal};
use crate::fleet::plan::Stopped;
use crate::fleet::{Ending, Report, Run};
use crate::show::{self, visible, when};
use crate::{out, outln};

/// How many instances are named before the rest is counted.
const NAMED: usize = 12;
/// How many lines of an output or a result a terminal is shown; a file or a pipe gets all of them.
const LINES: usize = 60;
/// How many lines of a result: people have read the output by then.
const RESULT_LINES: usize = 24;
/// How many characters of a line a terminal is shown.
const COLUMNS: usize = 1000;
/// How wide a result is when there is no terminal to ask.
const WIDTH: usize = 100;

/// Prints the report and says how the command ends.
pub(super) fn print(run: &Run, report: &Report, took: Duration, context: &Context) -> Exit {
    if context.json {
        outln!("{}", show::json(&to_json(run, report, took)));
    } else {
        let paper = Paper { colored: context.colored(), width: terminal::width() };
        for group in groups(run, report) {
            paper.print(&group);
        }
        outln!("{}", summary(run, report, took));
    }
    exit(report)
}

/// 3 or 4 only when nothing was done anywhere.
fn exit(report: &Report) -> Exit {
    let all = |wanted: fn(&Ending) -> bool| {
        report.endings.iter().all(|ending| wanted(ending) || matches!(ending, Ending::NotStarted))
    };
    if report.stopped == Some(Stopped::Asked) {
        Exit::Interrupted
    } else if report.succeeded() {
        Exit::Success
    } else if all(|ending| matches!(ending, Ending::Refused(_))) {
        Exit::Refused
    } else if all(|ending| matches!(ending, Ending::Unreachable { may_run: false, .. })) {
        Exit::Unreachable
    } else {
        Exit::Failed
    }
}

/// Instances that answered the same.
struct Group<'a> {
    instances: Vec<&'a InstanceId>,
    /// The execution on the first of them.
    execution: Option<&'a ExecutionId>,
    body: Body<'a>,
}

/// What was answered: what makes two answers the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Body<'a> {
    state: String,
    succeeded: bool,
    reason: Vec<String>,
    stdout: &'a [u8],
    stderr: &'a [u8],
    truncated: bool,
    result: Option<&'a Map<String, Value>>,
}

fn groups<'a>(run: &'a Run, report: &'a Report) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut known: HashMap<Body<'a>, usize> = HashMap::new();
    for (target, ending) in run.targets.iter().zip(&report.endings) {
        let body = body(ending);
        let at = *known.entry(body.clone()).or_insert_with(|| {
            groups.push(Group { instances: Vec::new(), execution: ending.execution(), body });
            groups.len() - 1
        });
        groups[at].instances.push(target.id());
    }
    groups
}

/// Without its time, so that instances with the same answer are one group.
fn pushed(version: &PackVersion, dev: &PushInfo) -> String {
    format!("of a dev pack: {version} was pushed by {} and is not signed", visible(dev.by.as_str()))
}

/// What became of the processes that an action left, which people who started a service with it want to know.
fn left_over(execution: &Execution) -> Option<String> {
    let left = execution.leftovers.as_ref()?;
    let said = visible(&left.describe(execution.state)?);
    let hint = if left.kept == 0 && left.after_subreaper == 0 {
        "; an action that starts a service says `bolt: {leftovers: keep}` in its file"
    } else {
        ""
    };
    Some(format!("{said}{hint}"))
}

fn body(ending: &Ending) -> Body<'_> {
    let (mut stdout, mut stderr, mut truncated, mut result): (&[u8], &[u8], _, _) = (&[], &[], false, None);
    let mut reason = Vec::new();
    let mut state = ending.state().to_owned();
    match ending {
        Ending::Ended(execution, output) => {
            (stdout, stderr, truncated) = (&output.stdout, &output.stderr, output.truncated);
            state = ps::state(execution);
            result = execution.result.as_ref();
            reason.extend(execution.dev.as_ref().map(|dev| pushed(&execution.version, dev)));
            reason.extend(execution.reason.as_deref().map(visible));
            reason.extend(left_over(execution));
            reason.extend(execution.result_error.as_deref().map(|e| format!("no result: {}", visible(e))));
            reason
                .extend(output.problem.as_deref().map(|e| format!("its output could not be fetched: {}", visible(e))));
            reason.extend(execution.unenforced.iter().map(|what| format!("not enforced: {}", visible(what))));
        }
        Ending::Unreachable { error, execution, may_run } => {
            reason.push(error.kind.to_string());
            match (execution, may_run) {
                (Some(id), _) => {
                    reason.push(format!("contact was lost; whatever became of it there: `bolt show {id}`"))
                }
                (None, true) => {
                    reason.push("it may have been started there: `bolt ps` tells once it answers".to_owned())
                }
                (None, false) => reason.extend(error.kind.hint().map(|hint| format!("hint: {hint}"))),
            }
        }
        Ending::Refused(error) => {
            reason.push(error.kind.to_string());
            reason.extend(error.kind.hint().map(|hint| format!("hint: {hint}")));
        }
        Ending::NotStarted => {}
    }
    Body { state, succeeded: ending.succeeded(), reason, stdout, stderr, truncated, result }
}

/// What the report is printed on.
struct Paper {
    colored: bool,
    /// The width of the terminal, when it is one.
    width: Option<usize>,
}

impl Paper {
    fn print(&self, group: &Group<'_>) {
        let Group { instances, execution, body } = group;
        let (count, named) = (show::counted(instances.len(), "instance"), show::listed(instances, NAMED));
        let (begin, end) = match (self.colored, body.succeeded) {
            (false, _) => ("", ""),
            (true, true) => ("\x1b[1;32m", "\x1b[0m"),
            (true, false) => ("\x1b[1;31m", "\x1b[0m"),
        };
        show::style(begin);
        out!("-- {count} {}: {named}", body.state);
        show::style(end);
        outln!();
        for reason in &body.reason {
            outln!("{reason}");
        }
        let cut = self.output("", body.stdout) | self.output("stderr: ", body.stderr) | self.result(body.result);
        if let Some(id) = execution
            && (cut || body.truncated)
        {
            outln!("[all that was kept: `bolt logs {id}` and `bolt show {id}`]", id = find::short(id));
        }
    }

    /// Prints an output; true when it was cut.
    fn output(&self, before: &str, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return false;
        }
        let text = show::visible_bytes(bytes);
        let lines = text.trim_end_matches('\n').split('\n').map(|line| format!("{before}{line}")).collect();
        self.lines(lines, LINES)
    }

    fn result(&self, result: Option<&Map<String, Value>>) -> bool {
        let Some(result) = result else { return false };
        let width = self.width.unwrap_or(WIDTH);
        let text = show::json_fitted(&Value::Object(result.clone()), width.saturating_sub("result: ".len()));
        self.lines(format!("result: {text}").lines().map(str::to_owned).collect(), RESULT_LINES)
    }

    fn lines(&self, lines: Vec<String>, most: usize) -> bool {
        if self.width.is_none() {
            lines.iter().for_each(|line| outln!("{line}"));
            return false;
        }
        let mut cut = lines.len() > most;
        for line in show::excerpt(&lines, most) {
            match line.char_indices().nth(COLUMNS) {
                Some((end, _)) => {
                    cut = true;
                    outln!("{}…", &line[..end]);
                }
                None => outln!("{line}"),
            }
        }
        cut
    }
}

fn counts(report: &Report) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for ending in &report.endings {
        *counts.entry(ending.state()).or_default() += 1;
    }
    counts
}

/// Why some were not started, if so.
fn held_back(report: &Report) -> Option<Stopped> {
    report.stopped.filter(|_| report.endings.iter().any(|ending| matches!(ending, Ending::NotStarted)))
}

fn summary(run: &Run, report: &Report, took: Duration) -> String {
    let counts: Vec<String> = counts(report).iter().map(|(state, count)| format!("{count} {state}")).collect();
    let total = show::counted(report.endings.len(), "instance");
    let mut text = format!("-- {total} in {}: {}", when::lasted(took), counts.join(", "));
    match held_back(report) {
        Some(Stopped::Budget) => text.push_str(&format!("; stopped, since {}", Stopped::Budget)),
        Some(Stopped::Asked) => text.push_str("; interrupted"),
        None => {}
    }
    text.push_str(&format!("\n-- run {}", run.id));
    let first_failed = report.endings.iter().filter(|e| !e.succeeded()).find_map(Ending::execution);
    if let Some(id) = first_failed {
        text.push_str(&format!("; `bolt show {}` has more on one that failed", crate::cli::find::short(id)));
    }
    text
}

fn to_json(run: &Run, report: &Report, took: Duration) -> Value {
    let instances: Vec<Value> =
        run.targets.iter().zip(&report.endings).map(|(target, ending)| ending_json(target.id(), ending)).collect();
    json!({
        "run": run.id,
        "action": run.request.action,
        "noop": run.request.noop,
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "stopped": held_back(report).map(|stopped| match stopped {
            Stopped::Budget => "max_failures",
            Stopped::Asked => "interrupted",
        }),
        "summary": counts(report),
        "instances": instances,
    })
}

fn ending_json(instance: &InstanceId, ending: &Ending) -> Value {
    let mut entry = json!({ "instance": instance, "state": ending.state() });
    match ending {
        Ending::Ended(execution, output) => {
            entry["execution"] = json!(execution);
            for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
                match std::str::from_utf8(bytes) {
                    Ok(text) => entry[name] = json!(text),
                    Err(_) => entry[format!("{name}_base64")] = json!(STANDARD.encode(bytes)),
                }
            }
            entry["output_truncated"] = json!(output.truncated);
            if let Some(problem) = &output.problem {
                entry["output_error"] = json!(problem);
            }
        }
        Ending::Unreachable { error, execution, may_run } => {
            entry["error"] = error_json(error);
            entry["execution_id"] = json!(execution);
            entry["may_run"] = json!(may_run);
        }
        Ending::Refused(error) => entry["error"] = error_json(error),
        Ending::NotStarted => {}
    }
    entry
}
