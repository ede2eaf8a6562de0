//! Prints how a run ended: instances with the same output share it, and every instance is named or counted.
//!
//! ```text
//!  Report ──mask──▶ groups ──▶ blocks: groups whose outputs differ in a few lines ──▶ text
//!                      └─────▶ table: results, one row per instance
//! ```

mod groups;
mod json;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use packs_schema::base::name::InstanceId;

use super::args::View;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::{find, terminal};
use crate::fleet::Stopped;
use crate::fleet::{Ending, Report, Run};
use crate::show::{self, when};
use crate::{out, outln};

use groups::{Block, Group, Shown, What};

/// Maximum number of instances that are named before the rest is counted.
const NAMED: usize = 12;
/// Default of `--lines` for one group of instances.
const LINES: usize = 60;
/// Default of `--lines` for each of several groups.
const LINES_EACH: usize = 20;
/// Maximum number of groups that succeeded, and of groups that did not, unless `--lines all` is given.
const GROUPS: usize = 100;
/// Maximum number of characters of a line on a terminal.
const COLUMNS: usize = 1000;
/// Width of results if standard output is not a terminal.
const WIDTH: usize = 100;

/// Prints the report and returns the exit code of the command.
pub(super) fn print(run: &Run, report: &Report, took: Duration, view: &View, context: &Context) -> Exit {
    if context.json {
        outln!("{}", show::json(&context.with_missing(json::report(run, report, took))));
        return exit(report);
    }
    let what = match (view.result, view.select.is_empty()) {
        (true, _) => What::Result,
        (false, true) => What::Output,
        (false, false) => What::Nothing,
    };
    let mut groups = groups::groups(run, report, what);
    if what == What::Nothing {
        let (heads, rows) = table::selected(run, report, &view.select);
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        context.print_table(&heads, &rows);
        // The rows tell of all executions that ended.
        groups.retain(|group| !group.has_ended());
    }
    let blocks = groups::blocks(groups);
    let lines = view.lines.unwrap_or(if blocks.len() > 1 { LINES_EACH } else { LINES });
    let mut paper = Paper { colored: context.colored(), width: terminal::width(), lines, hides_results: false };
    let is_silent = |block: &&Block<'_>| view.quiet && what == What::Output && block.succeeded();
    let (good, bad): (Vec<&Block<'_>>, Vec<&Block<'_>>) =
        blocks.iter().filter(|block| !is_silent(block)).partition(|block| block.succeeded());
    // Failures come last, next to the summary.
    for blocks in [good, bad] {
        let most = if lines == usize::MAX { usize::MAX } else { GROUPS };
        blocks.iter().take(most).for_each(|block| paper.print(block));
        if blocks.len() > most {
            let more = blocks.len() - most;
            outln!("[{more} more groups of instances with other outputs: use --select, --json or --lines all]");
        }
    }
    let hides_results = paper.hides_results && !view.quiet;
    outln!("{}", summary(run, report, took, hides_results));
    exit(report)
}

/// Returns the exit code: 3 or 4 only when nothing was done anywhere.
fn exit(report: &Report) -> Exit {
    let all = |wanted: fn(&Ending) -> bool| {
        report.endings.iter().all(|ending| wanted(ending) || matches!(ending, Ending::NotStarted))
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

/// Where and how the report is printed.
struct Paper {
    colored: bool,
    /// Width of the terminal, if standard output is one.
    width: Option<usize>,
    /// Maximum number of lines of each block.
    lines: usize,
    /// True once a block was printed whose instances also have results.
    hides_results: bool,
}

impl Paper {
    fn print(&mut self, block: &Block<'_>) {
        let first = &block.groups[0];
        self.heading(block);
        for reason in &first.reason {
            outln!("{reason}");
        }
        let cut = match (&first.shown, block.groups.len()) {
            (Shown::Result(None), _) => {
                outln!("(no result)");
                false
            }
            (Shown::Result(Some(result)), _) => {
                let text = show::json_fitted(&(*result).clone().into(), self.width.unwrap_or(WIDTH));
                self.lines(text.lines().map(str::to_owned).collect(), true)
            }
            (Shown::Nothing, _) => false,
            (Shown::Output { stdout: [], stderr: [], .. }, _) => match table::results(first, self.width) {
                Some(lines) => self.lines(lines, true),
                None => false,
            },
            (Shown::Output { stdout, stderr, truncated }, groups) => {
                // Programs and logs get this remark only where standard output is empty.
                self.hides_results |= block.has_result() && (self.width.is_some() || stdout.is_empty());
                let out = if groups > 1 { block.merged_lines() } else { output_lines("", stdout) };
                let is_good = block.succeeded();
                self.lines(out, is_good) | self.lines(output_lines("stderr: ", stderr), is_good) | truncated
            }
        };
        if let Some(id) = first.execution()
            && cut
        {
            let (id, on) = (find::short(id), first.members[0].id);
            let what = if matches!(first.shown, Shown::Output { .. }) { "logs" } else { "show" };
            outln!("[for all of it: `bolt {what} {id} --on {on}`, or run it with --lines all]");
        }
    }

    fn heading(&self, block: &Block<'_>) {
        let ids: Vec<&InstanceId> = block.members().map(|member| member.id).collect();
        let (count, named) = (show::counted(ids.len(), "instance"), show::listed(&ids, NAMED));
        let (begin, end) = match (self.colored, block.succeeded()) {
            (false, _) => ("", ""),
            (true, true) => ("\x1b[1;32m", "\x1b[0m"),
            (true, false) => ("\x1b[1;31m", "\x1b[0m"),
        };
        let differing = if block.groups.len() > 1 { " with some different lines" } else { "" };
        show::style(begin);
        out!("-- {count} {}{differing}: {named}", block.groups[0].state);
        show::style(end);
        outln!();
    }

    /// Prints at most the allowed number of lines, most of them from the beginning or from the end; true if some were cut.
    fn lines(&self, lines: Vec<String>, from_beginning: bool) -> bool {
        // A report has its main part first, what went wrong is at the end.
        let head = if from_beginning { self.lines - self.lines / 3 } else { self.lines / 3 };
        let mut cut = lines.len() > self.lines;
        for line in show::excerpt(&lines, self.lines, head) {
            match line.char_indices().nth(COLUMNS) {
                Some((end, _)) if self.width.is_some() => {
                    cut = true;
                    outln!("{}…", &line[..end]);
                }
                _ => outln!("{line}"),
            }
        }
        cut
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
    report.stopped.filter(|why| {
        *why == Stopped::Check || report.endings.iter().any(|ending| matches!(ending, Ending::NotStarted))
    })
}

fn summary(run: &Run, report: &Report, took: Duration, hides_results: bool) -> String {
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
    if hides_results {
        text.push_str("\n-- structured results are not shown: use --result or --select, or `bolt show ID`");
    }
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
