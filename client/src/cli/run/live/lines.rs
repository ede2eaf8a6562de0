//! The live view as lines of text, for a size of terminal.

use std::time::Duration;

use console::{measure_text_width, truncate_str};
use packs_schema::base::quantity::format_duration;

use super::board::{Board, Phase};
use super::fold::fold;
use super::rate;
use crate::show::{counted, visible, wrapped};

/// Maximum number of lines, on however tall a terminal.
const MOST: usize = 23;
/// Heads of the columns, and what is used where these are too wide.
const HEADS: [&str; 5] = ["WAITING", "RUNNING", "SUCCEEDED", "FAILED", "UNREACHABLE"];
const SHORT_HEADS: [&str; 5] = ["WAIT", "RUN", "OK", "FAIL", "UNRCH"];
/// Width that the names of places get at least, before the heads are shortened.
const NAME: usize = 16;
/// Age from which an instance in flight is worth a mention.
const LONG: Duration = Duration::from_secs(3);

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Line of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// Meaning of a line, for its colour; the text says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Head,
    Problem,
}

/// Returns at most as many lines as fit, each at most as wide as the terminal. The last row stays free for the cursor.
pub(super) fn lines(board: &Board<'_>, now: Duration, size: Size) -> Vec<Line> {
    let plain = |text: String| Line { text, tone: Tone::Plain };
    let tone = if board.total.has_problems() { Tone::Problem } else { Tone::Plain };
    let most = size.rows.saturating_sub(1).clamp(1, MOST);
    let mut lines = vec![plain(bar(board, now, size.columns))];
    lines.extend(wrapped(&counts(board), size.columns, 0).lines().map(|text| Line { text: text.to_owned(), tone }));
    lines.extend(position(board, now).map(plain));
    lines.extend(budget(board).map(plain));
    let longest = longest(board, now, size.columns);
    let rows = most.saturating_sub(lines.len() + usize::from(longest.is_some()));
    if board.places.len() > 1 && rows > 1 && size.columns >= 30 {
        lines.extend(table(board, rows - 1, size.columns));
    }
    lines.extend(longest.map(plain));
    lines.truncate(most);
    for line in &mut lines {
        if measure_text_width(&line.text) > size.columns {
            line.text = truncate_str(&line.text, size.columns, "…").into_owned();
        }
    }
    lines
}

/// `[#####>     ] 512 of 1000 ended, 68/s, 12s, about 7s left`
fn bar(board: &Board<'_>, now: Duration, columns: usize) -> String {
    let (ended, all) = (board.ended(), board.run.targets.len());
    let mut rest = format!("in {}", format_duration(Duration::from_secs(now.as_secs())));
    if let Some(rate) = board.rate.recent(now) {
        rest.push_str(&format!(", {}", rate::describe(rate)));
    }
    if let Some(left) = board.time_left(now) {
        rest.push_str(&format!(", {}", rate::describe_left(left)));
    }
    let words = format!("{ended} of {all} ended {rest}");
    let words = if words.len() > columns { format!("{ended}/{all} {rest}") } else { words };
    let room = columns.saturating_sub(words.len() + 3);
    let width = if room >= 8 { room.min(24) } else { 0 };
    let done = (width * ended).checked_div(all).unwrap_or_default();
    match width {
        0 => words,
        _ => format!("[{}{}] {words}", "#".repeat(done), "-".repeat(width - done)),
    }
}

/// `64 running, 424 waiting; 448 succeeded, 21 failed, 3 busy`.
fn counts(board: &Board<'_>) -> String {
    let total = board.total;
    let mut now = Vec::new();
    if total.running > 0 {
        now.push(format!("{} running", total.running));
    }
    if total.waiting > 0 {
        let what = if board.phase == Phase::Stopping { "not started" } else { "waiting" };
        now.push(format!("{} {what}", total.waiting));
    }
    let (good, bad): (Vec<_>, Vec<_>) = board.states.iter().partition(|(state, _)| **state == "succeeded");
    let ended: Vec<String> = good.iter().chain(&bad).map(|(state, count)| format!("{count} {state}")).collect();
    [now.join(", "), ended.join(", ")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Describes the batch, if there are several worth a mention, and what happens between them.
fn position(board: &Board<'_>, now: Duration) -> Option<String> {
    let batches = board.run.plan.batches();
    let between = match board.phase {
        Phase::Running => None,
        Phase::Checking { targets, since } => {
            let since = format_duration(Duration::from_secs(now.saturating_sub(since).as_secs()));
            Some(format!("checking {} for {since}", counted(targets, "instance")))
        }
        Phase::Pausing { until } => {
            let left = Duration::from_secs(until.saturating_sub(now).as_millis().div_ceil(1000) as u64);
            Some(format!("the next batch begins in {}", format_duration(left)))
        }
        Phase::Asking => Some("waiting for an answer".to_owned()),
        Phase::Stopping => Some("no further instance starts".to_owned()),
    };
    let batch =
        board.batch.filter(|at| batches.len() > 1 && (batches[*at].targets.len() > 1 || !batches[*at].name.is_empty()));
    let batch = batch.map(|at| {
        let name = visible(&batches[at].name);
        let name = if name.is_empty() { name } else { format!(" ({name})") };
        let (ended, all) = (board.batch_ended, batches[at].targets.len());
        format!("batch {} of {}{name}: {ended} of {all} ended", at + 1, batches.len())
    });
    let parts: Vec<String> = batch.into_iter().chain(between).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Describes how much of the budgets is used, where they can stop the run.
fn budget(board: &Board<'_>) -> Option<String> {
    let (plan, all) = (&board.run.plan, board.run.targets.len());
    let mut used = Vec::new();
    let mut add = |count: usize, allowed: usize, of: usize, what: &str| {
        if allowed < of && plan.batches().len() > 1 {
            used.push(format!("{count} of {allowed} {what}"));
        }
    };
    add(board.failures, plan.max_failures(), all, "failures");
    add(board.unreachable, plan.max_unreachable(), all, "unreachable");
    if let Some(batch) = board.batch {
        add(
            board.batch_failed,
            plan.max_batch_failures(batch),
            plan.batches()[batch].targets.len(),
            "failures of this batch",
        );
    }
    (!used.is_empty()).then(|| format!("budget used: {}", used.join(", ")))
}

/// Names the instances that have been in flight longest, as many as fit on a line.
fn longest(board: &Board<'_>, now: Duration, columns: usize) -> Option<String> {
    let mut text = String::new();
    for (target, age) in board.longest(now).take_while(|(_, age)| *age >= LONG).take(8) {
        let id = board.run.targets[target].id();
        let one = format!("{id} {}", format_duration(Duration::from_secs(age.as_secs())));
        let separator = if text.is_empty() { "running longest: " } else { ", " };
        if !text.is_empty() && text.len() + separator.len() + one.len() > columns {
            break;
        }
        text.push_str(separator);
        text.push_str(&one);
    }
    (!text.is_empty()).then_some(text)
}

/// Returns the counts by region and zone under their heads, in at most `most` rows.
fn table(board: &Board<'_>, most: usize, columns: usize) -> Vec<Line> {
    let rows = fold(&board.places, most);
    let digits = board.run.targets.len().to_string().len();
    let widths = |heads: [&str; 5]| heads.map(|head| head.len().max(digits));
    let needed = |heads: [&str; 5]| widths(heads).iter().map(|width| width + 2).sum::<usize>();
    let heads = if needed(HEADS) + NAME <= columns { HEADS } else { SHORT_HEADS };
    // A space less between narrow columns.
    let gap = if needed(heads) + NAME <= columns { 2 } else { 1 };
    let widths = widths(heads);
    let names = rows.iter().map(|row| measure_text_width(&row.name)).max().unwrap_or(0);
    let room = columns.saturating_sub(widths.iter().map(|width| width + gap).sum());
    let name_width = names.max("PLACE".len()).min(room);
    let line = |name: &str, cells: [String; 5], tone: Tone| {
        let mut text = truncate_str(name, name_width, "…").into_owned();
        let taken = measure_text_width(&text);
        text.extend(std::iter::repeat_n(' ', name_width.saturating_sub(taken)));
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&format!("{:gap$}{cell:>width$}", ""));
        }
        Line { text, tone }
    };
    let head = line("PLACE", heads.map(str::to_owned), Tone::Head);
    let body = rows.iter().map(|row| {
        let cells = row.tally.columns().map(|count| if count == 0 { "-".to_owned() } else { count.to_string() });
        line(&row.name, cells, if row.tally.has_problems() { Tone::Problem } else { Tone::Plain })
    });
    std::iter::once(head).chain(body).collect()
}
