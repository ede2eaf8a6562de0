//! How a run ended: answers that are the same are shown once, and every instance is named.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packs_schema::name::InstanceId;
use serde_json::{Value, json};

use crate::cli::context::{Context, error_json};
use crate::cli::failure::Exit;
use crate::cli::ps;
use crate::fleet::plan::Stopped;
use crate::fleet::{Ending, Report, Run};
use crate::show::{self, visible, when};

/// How many instances are named before the rest is counted.
const NAMED: usize = 12;

/// Prints the report and says how the command ends.
pub(super) fn print(run: &Run, report: &Report, took: Duration, context: &Context) -> Exit {
    if context.json {
        println!("{}", show::json(&to_json(run, report, took)));
    } else {
        for group in groups(run, report) {
            print_group(&group, context.colored());
        }
        println!("{}", summary(run, report, took));
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
    result: Option<String>,
}

fn groups<'a>(run: &'a Run, report: &'a Report) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut known: HashMap<Body<'a>, usize> = HashMap::new();
    for (target, ending) in run.targets.iter().zip(&report.endings) {
        let body = body(ending);
        let at = *known.entry(body.clone()).or_insert_with(|| {
            groups.push(Group { instances: Vec::new(), body });
            groups.len() - 1
        });
        groups[at].instances.push(target.id());
    }
    groups
}

fn body(ending: &Ending) -> Body<'_> {
    let (mut stdout, mut stderr, mut truncated, mut result): (&[u8], &[u8], _, _) = (&[], &[], false, None);
    let mut reason = Vec::new();
    let mut state = ending.state().to_owned();
    match ending {
        Ending::Ended(execution, output) => {
            (stdout, stderr, truncated) = (&output.stdout, &output.stderr, output.truncated);
            state = ps::state(execution);
            result = execution.result.as_ref().map(show::json_line);
            reason.extend(execution.reason.as_deref().map(visible));
            reason.extend(execution.result_error.as_deref().map(|e| format!("no result: {}", visible(e))));
            reason
                .extend(output.problem.as_deref().map(|e| format!("its output could not be fetched: {}", visible(e))));
            reason.extend(execution.unenforced.iter().map(|what| format!("not enforced: {}", visible(what))));
        }
        Ending::Unreachable { error, execution, may_run } => {
            reason.push(error.kind.to_string());
            match (execution, may_run) {
                (Some(id), _) => reason.push(format!("contact was lost; it goes on there as {id}")),
                (None, true) => reason.push("it may have been started there: look with bolt ps".to_owned()),
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

fn print_group(group: &Group<'_>, colored: bool) {
    let Group { instances, body } = group;
    let (count, named) = (show::counted(instances.len(), "instance"), show::listed(instances, NAMED));
    let (begin, end) = match (colored, body.succeeded) {
        (false, _) => ("", ""),
        (true, true) => ("\x1b[1;32m", "\x1b[0m"),
        (true, false) => ("\x1b[1;31m", "\x1b[0m"),
    };
    println!("{begin}-- {count} {}: {named}{end}", body.state);
    for reason in &body.reason {
        println!("{reason}");
    }
    print_output("", body.stdout);
    print_output("stderr: ", body.stderr);
    if body.truncated {
        println!("[there is more output: `bolt logs` has all that was kept]");
    }
    if let Some(result) = &body.result {
        println!("result: {}", visible(result));
    }
}

fn print_output(before: &str, bytes: &[u8]) {
    if !bytes.is_empty() {
        for line in show::visible_bytes(bytes).trim_end_matches('\n').split('\n') {
            println!("{before}{line}");
        }
    }
}

fn counts(report: &Report) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for ending in &report.endings {
        *counts.entry(ending.state()).or_default() += 1;
    }
    counts
}

fn summary(run: &Run, report: &Report, took: Duration) -> String {
    let counts: Vec<String> = counts(report).iter().map(|(state, count)| format!("{count} {state}")).collect();
    let total = show::counted(report.endings.len(), "instance");
    let mut text = format!("-- {total} in {}: {}", when::lasted(took), counts.join(", "));
    let more = report.endings.iter().any(|ending| matches!(ending, Ending::NotStarted));
    match report.stopped.filter(|_| more) {
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
        "stopped": report.stopped.map(|stopped| match stopped {
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
