//! Prints how a run ended: instances with the same output share it, and every instance is named or counted.
//!
//! ```text
//!  Report ──mask──▶ groups ──▶ blocks: what most have, and what others have differently ──paper──▶ about a screen
//!                      └─────▶ table, csv: results, one row per instance
//! ```

mod blocks;
mod csv;
mod groups;
mod json;
mod paper;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use packs_schema::base::name::InstanceId;
use serde_json::Value;

use super::args::{ResultFormat, View};
use super::events;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::{find, terminal};
use crate::compare::Normalize;
use crate::error::Kind;
use crate::fleet::Stopped;
use crate::fleet::{Ending, Report, Run};
use crate::show::{self, Mask, when};
use crate::{errln, outln};

use blocks::{Block, blocks};
use groups::{Group, What};
use paper::Paper;

/// Number of groups from which `--normalize` is recommended where it makes half of them.
const GROUPS_MANY: usize = 4;
/// Maximum size of their outputs, in bytes.
const MAX_TRIED: usize = 4 << 20;

/// Returns what the report says of an instance, for programs.
pub(super) fn entry(instance: &InstanceId, ending: &Ending, mask: &Mask) -> Value {
    mask.value(&json::entry(instance, ending))
}

/// Prints the report and returns the exit code of the command.
pub(super) fn print(run: &Run, report: &Report, took: Duration, view: &View, context: &Context) -> Exit {
    if context.json {
        outln!("{}", show::json(&context.with_missing(json::report(run, report, took))));
        return exit(report);
    }
    if view.ndjson {
        let mut summary = json::summary(run, report, took);
        summary["event"] = "report".into();
        outln!("{}", events::line(context.with_missing(summary)));
        return exit(report);
    }
    if view.result == Some(ResultFormat::Csv) {
        print_csv(run, report, view);
        errln!("{}", summary(run, report, took, &[]));
        return exit(report);
    }
    let what = match (view.result, view.select.is_empty()) {
        (_, false) => What::Nothing,
        (Some(ResultFormat::Json), _) => What::Result,
        (Some(_), _) => What::Table,
        (None, true) => What::Output,
    };
    let mut groups = groups::groups(run, report, what, view.normalize());
    if what == What::Nothing {
        let (heads, rows) = table::selected(run, report, &view.select);
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        context.print_table(&heads, &rows);
        // The rows tell of all executions that ended.
        groups.retain(|group| !group.has_ended());
    }
    let mut remarks = Vec::new();
    let count = groups.len();
    let blocks = blocks(groups);
    if view.normalize.is_empty() && !view.quiet && blocks.len() >= GROUPS_MANY {
        remarks.extend(recommend_normalize(run, report, what, count));
    }
    let mut paper = Paper::new(context.colored(), terminal::size(), view.lines, run.targets.len());
    let is_silent = |block: &&Block<'_>| view.quiet && what == What::Output && block.succeeded();
    let shown: Vec<&Block<'_>> = blocks.iter().filter(|block| !is_silent(block)).collect();
    paper.print(&shown);
    if paper.hides_results && !view.quiet {
        remarks.push("structured results are not shown: use --result or --select, or `bolt show ID`".to_owned());
    }
    outln!("{}", summary(run, report, took, &remarks));
    exit(report)
}

fn print_csv(run: &Run, report: &Report, view: &View) {
    let (lines, omitted) = csv::lines(run, report, &view.select);
    lines.iter().for_each(|line| outln!("{line}"));
    if omitted > 0 {
        errln!("bolt: {} left out: name the columns with --select", show::counted(omitted, "column"));
    }
}

/// Says how many groups there would be with `--normalize`, if that is few.
fn recommend_normalize(run: &Run, report: &Report, what: What, groups: usize) -> Option<String> {
    let size = |ending: &Ending| match ending {
        Ending::Ended(_, output) => output.stdout.len() + output.stderr.len(),
        _ => 0,
    };
    if report.endings.iter().map(size).sum::<usize>() > MAX_TRIED {
        return None;
    }
    let normal = groups::groups(run, report, what, Normalize::ALL).len();
    let remark = || {
        format!(
            "--normalize would make {normal} of {groups} groups: it ignores numbers, times, ids, addresses and names"
        )
    };
    (normal * 2 <= groups).then(remark)
}

/// Returns the exit code: 3 or 4 only when nothing was done anywhere.
fn exit(report: &Report) -> Exit {
    let all = |wanted: fn(&Ending) -> bool| {
        let mut asked = report.endings.iter().filter(|ending| !matches!(ending, Ending::NotStarted)).peekable();
        asked.peek().is_some() && asked.all(wanted)
    };
    if report.stopped == Some(Stopped::Asked) {
        Exit::Interrupted
    } else if report.stopped == Some(Stopped::Check) {
        Exit::Failed
    } else if report.succeeded() && report.stopped.is_none() {
        Exit::Success
    } else if all(|ending| matches!(ending, Ending::Refused(_))) {
        Exit::Refused
    } else if all(|ending| matches!(ending, Ending::Unreachable { may_run: false, .. })) {
        Exit::Unreachable
    } else {
        Exit::Failed
    }
}

/// Returns the lines of an output, each after `prefix`.
fn output_lines(prefix: &str, bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let text = show::visible_bytes(bytes);
    text.trim_end_matches('\n').split('\n').map(|line| format!("{prefix}{line}")).collect()
}

/// Counts instances by state.
fn counts(report: &Report) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for ending in &report.endings {
        *counts.entry(ending.state()).or_default() += 1;
    }
    counts
}

/// Returns the instances on which each version of the pack ran, and their states.
fn versions<'a>(run: &'a Run, report: &'a Report) -> BTreeMap<String, Vec<&'a InstanceId>> {
    let mut versions: BTreeMap<String, Vec<&InstanceId>> = BTreeMap::new();
    for (target, ending) in run.targets.iter().zip(&report.endings) {
        if let Ending::Ended(execution, _) = ending {
            versions.entry(execution.version.to_string()).or_default().push(target.id());
        }
    }
    versions
}

/// Returns why some instances were not started, if so.
fn held_back(report: &Report) -> Option<Stopped> {
    let is_unasked = |ending: &Ending| match ending {
        Ending::NotStarted => true,
        // By an earlier command, and not by this one.
        Ending::Unreachable { error, may_run, .. } => *may_run && matches!(error.kind, Kind::Recorded { .. }),
        Ending::Ended(..) | Ending::Refused(_) => false,
    };
    report.stopped.filter(|why| *why == Stopped::Check || report.endings.iter().any(is_unasked))
}

fn summary(run: &Run, report: &Report, took: Duration, remarks: &[String]) -> String {
    let counts: Vec<String> = counts(report).iter().map(|(state, count)| format!("{count} {state}")).collect();
    let total = show::counted(report.endings.len(), "instance");
    let mut text = format!("-- {total} in {}: {}", when::lasted(took), counts.join(", "));
    match held_back(report) {
        Some(Stopped::Asked) => text.push_str("; interrupted"),
        Some(stopped) => text.push_str(&format!("; stopped: {stopped}")),
        None => {}
    }
    let versions = versions(run, report);
    if versions.len() > 1 {
        let of = |(version, ids): (&String, &Vec<&InstanceId>)| {
            format!("{version} on {} ({})", show::counted(ids.len(), "instance"), show::listed(ids, 4))
        };
        let all: Vec<String> = versions.iter().map(of).collect();
        text.push_str(&format!(
            "\n-- different versions of pack {} ran: {}",
            run.request.action.pack(),
            all.join(", ")
        ));
    }
    remarks.iter().for_each(|remark| text.push_str(&format!("\n-- {remark}")));
    text.push_str(&format!("\n-- run {}", run.id));
    let first_failed = report.endings.iter().filter(|e| !e.succeeded()).find_map(Ending::execution);
    if let Some(id) = first_failed {
        text.push_str(&format!("; `bolt show {}` shows details of a failed execution", find::short(id)));
    }
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
