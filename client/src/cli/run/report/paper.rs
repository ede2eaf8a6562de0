//! Prints blocks, within a number of lines: a run on thousands of instances prints about a screen.

use packs_schema::base::name::InstanceId;

use super::blocks::Block;
use super::groups::Shown;
use super::{output_lines, table};
use crate::cli::find;
use crate::show;
use crate::{out, outln};

/// Maximum number of instances that are named before the rest is counted.
const NAMED: usize = 12;
/// Default of `--lines` for one group of instances.
const LINES: usize = 60;
/// Default of `--lines` for each of several groups.
const LINES_EACH: usize = 20;
/// Fewest lines of a group that is shown at all.
const LINES_LEAST: usize = 3;
/// Number of groups that are shown, with this number of lines, however little is left of the screen.
const GROUPS_LEAST: usize = 5;
/// Maximum number of groups that succeeded, and of groups that did not, unless `--lines all` is given.
const GROUPS: usize = 100;
/// Maximum number of instances of a run whose groups are all shown, up to [`LINES_EACH`].
const FEW: usize = 10;
/// Number of lines for the groups of a larger run, where the height of the terminal is not known.
const SCREEN: usize = 50;
/// Maximum number of characters of a line on a terminal.
const COLUMNS: usize = 1000;
/// Width of results if standard output is not a terminal.
const WIDTH: usize = 100;

/// Where and how the report is printed.
pub(super) struct Paper {
    colored: bool,
    /// Width of the terminal, if standard output is one.
    width: Option<usize>,
    /// Maximum number of lines of each block; `None`: as many as the screen has.
    lines: Option<usize>,
    /// Number of lines that are left of the screen; `None`: as many as are needed.
    left: Option<usize>,
    /// True once a block was printed whose instances also have results.
    pub(super) hides_results: bool,
}

impl Paper {
    /// Returns paper for a run on `targets` instances. `lines`: what `--lines` says.
    pub(super) fn new(colored: bool, size: Option<(usize, usize)>, lines: Option<usize>, targets: usize) -> Paper {
        let (width, height) = size.unzip();
        let left =
            (lines.is_none() && targets > FEW).then(|| height.map_or(SCREEN, |rows| rows.saturating_sub(6).max(20)));
        Paper { colored, width, lines, left, hides_results: false }
    }

    /// Prints blocks, failures last, next to the summary.
    pub(super) fn print(&mut self, blocks: &[&Block<'_>]) {
        let (good, bad): (Vec<&Block<'_>>, Vec<&Block<'_>>) = blocks.iter().partition(|block| block.succeeded());
        let default = if blocks.len() > 1 { LINES_EACH } else { LINES };
        let needed = |blocks: &[&Block<'_>]| blocks.iter().map(|block| 2 + block.lines().min(default)).sum::<usize>();
        let screen = self.left;
        // Failures get what they need, up to half of the screen if there is something else.
        let for_bad = screen.map(|screen| if good.is_empty() { screen } else { needed(&bad).min(screen / 2) });
        for (blocks, left) in [(good, screen.zip(for_bad).map(|(all, bad)| all - bad)), (bad, for_bad)] {
            self.left = left;
            self.print_some(&blocks, default);
        }
    }

    fn print_some(&mut self, blocks: &[&Block<'_>], default: usize) {
        let groups = if self.lines == Some(usize::MAX) { usize::MAX } else { GROUPS };
        let mut printed = 0;
        for block in blocks.iter().take(groups) {
            let after = blocks.len() - printed - 1;
            let lines = match (self.lines, self.left) {
                (Some(lines), _) => lines,
                (None, None) => default,
                // The largest come first: each gets half of what is left, the last one all.
                (None, Some(left)) if left > LINES_LEAST || printed < GROUPS_LEAST => {
                    (if after > 0 { left / 2 } else { left }).clamp(LINES_LEAST, default)
                }
                _ => break,
            };
            self.block(block, lines);
            printed += 1;
            let used = 1 + block.groups[0].reason.len() + block.lines().min(lines);
            self.left = self.left.map(|left| left.saturating_sub(used));
        }
        if blocks.len() > printed {
            let instances: usize = blocks[printed..].iter().map(|block| block.members().count()).sum();
            outln!(
                "[{} of {} not shown: use --normalize, --select, --json or --lines all]",
                show::counted(blocks.len() - printed, "more group"),
                show::counted(instances, "instance")
            );
        }
    }

    fn block(&mut self, block: &Block<'_>, most: usize) {
        let first = &block.groups[0];
        self.heading(block);
        for reason in &first.reason {
            outln!("{reason}");
        }
        if first.is_normalized {
            outln!("[of {}; the others differ in what --normalize names]", first.members[0].id);
        }
        let cut = match (&block.changes, &first.shown) {
            (Some(changes), _) => self.lines(&changes.lines, most, true),
            (None, Shown::Result(None)) => {
                outln!("(no result)");
                false
            }
            (None, Shown::Result(Some(result))) => {
                let text = show::json_fitted(&(*result).clone().into(), self.width.unwrap_or(WIDTH));
                self.lines(&text.lines().map(str::to_owned).collect::<Vec<_>>(), most, true)
            }
            (None, Shown::Table) => match table::results(first, self.width) {
                Some(lines) => self.lines(&lines, most, true),
                None => {
                    outln!("(no result)");
                    false
                }
            },
            (None, Shown::Nothing) => false,
            (None, Shown::Output { stdout: [], stderr: [], .. }) => match table::results(first, self.width) {
                Some(lines) => self.lines(&lines, most, true),
                None => false,
            },
            (None, Shown::Output { stdout, stderr, truncated }) => {
                // Programs and logs get this remark only where standard output is empty.
                self.hides_results |= block.has_result() && (self.width.is_some() || stdout.is_empty());
                let out = if block.groups.len() > 1 { block.merged_lines() } else { output_lines("", stdout) };
                let is_good = block.succeeded();
                self.lines(&out, most, is_good)
                    | self.lines(&output_lines("stderr: ", stderr), most, is_good)
                    | truncated
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
        let count = show::counted(ids.len(), "instance");
        let how = match &block.changes {
            Some(changes) => {
                format!(", compared with {} ({})", changes.from.0, show::counted(changes.from.1, "instance"))
            }
            None if block.groups.len() > 1 => " with some different lines".to_owned(),
            None => String::new(),
        };
        let before = format!("-- {count} {}{how}: ", block.groups[0].state);
        let (begin, end) = match (self.colored, block.succeeded()) {
            (false, _) => ("", ""),
            (true, true) => ("\x1b[1;32m", "\x1b[0m"),
            (true, false) => ("\x1b[1;31m", "\x1b[0m"),
        };
        show::style(begin);
        out!("{before}{}", named(&ids, self.width.map(|width| width.saturating_sub(before.len()))));
        show::style(end);
        outln!();
    }

    /// Prints at most the allowed number of lines, most of them from the beginning or from the end; true if some were cut.
    fn lines(&self, lines: &[String], most: usize, from_beginning: bool) -> bool {
        // A report has its main part first, what went wrong is at the end.
        let head = if from_beginning { most - most / 3 } else { most / 3 };
        let mut cut = lines.len() > most;
        for line in show::excerpt(lines, most, head) {
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

/// Names as many instances as fit into `room`, the first one at least.
fn named(ids: &[&InstanceId], room: Option<usize>) -> String {
    let fits = |count: &usize| room.is_none_or(|room| show::listed(ids, *count).chars().count() <= room);
    show::listed(ids, (1..=NAMED).rev().find(fits).unwrap_or(1))
}
