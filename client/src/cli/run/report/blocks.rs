//! Content that is shown of groups: in full, as differences from the output that most have, or merged line by line.
//!
//! ```text
//!  groups that ended in the same state ─▶ one has more than half of the instances? ─yes─▶ its output, and diffs from it
//!                                                          └──no──▶ groups that differ in few lines, merged
//! ```

use std::collections::{BTreeMap, HashMap};

use packs_schema::base::name::InstanceId;

use super::groups::{Group, Member, Shown};
use crate::compare::Differ;
use crate::show;

/// Maximum number of instances that are named before a line that others have differently.
const NAMED: usize = 3;

/// Groups that are shown together: one, or several with the same number of lines, most of which are the same.
pub(super) struct Block<'a> {
    pub(super) groups: Vec<Group<'a>>,
    /// Differences from the output of another group.
    pub(super) changes: Option<Changes<'a>>,
}

/// Differences of a group's output from that of most instances.
pub(super) struct Changes<'a> {
    /// First instance of the other group, and their number.
    pub(super) from: (&'a InstanceId, usize),
    /// Lines of a unified diff.
    pub(super) lines: Vec<String>,
}

impl<'a> Block<'a> {
    fn whole(group: Group<'a>) -> Block<'a> {
        Block { groups: vec![group], changes: None }
    }

    /// Returns all instances of the block.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.groups.iter().flat_map(|group| &group.members)
    }

    /// True if the executions of the block succeeded.
    pub(super) fn succeeded(&self) -> bool {
        self.groups[0].succeeded
    }

    /// Number of lines of its content, before it is cut.
    pub(super) fn lines(&self) -> usize {
        match (&self.changes, &self.groups[0].shown) {
            (Some(changes), _) => changes.lines.len(),
            (None, Shown::Output { stdout, stderr, .. }) => {
                stdout.iter().chain(*stderr).filter(|byte| **byte == b'\n').count() + self.groups.len()
            }
            (None, Shown::Result(_) | Shown::Table) => self.groups[0].members.len(),
            (None, Shown::Nothing) => 0,
        }
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
            let mut known: HashMap<&str, usize> = HashMap::new();
            for (group, output) in self.groups.iter().zip(&outputs) {
                let text = output.get(at).map_or("", String::as_str);
                let ids = group.members.iter().map(|member| member.id);
                let variant = *known.entry(text).or_insert(variants.len());
                match variants.get_mut(variant) {
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

/// Puts groups into blocks: of each state the largest first, states in the order of their first group.
pub(super) fn blocks(groups: Vec<Group<'_>>) -> Vec<Block<'_>> {
    let mut states: Vec<Vec<Group<'_>>> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for group in groups {
        let at = *known.entry(group.state.clone()).or_insert(states.len());
        match states.get_mut(at) {
            Some(same) => same.push(group),
            None => states.push(vec![group]),
        }
    }
    states.into_iter().flat_map(of_state).collect()
}

/// Returns the blocks of groups that ended in one state, the largest first.
fn of_state(mut groups: Vec<Group<'_>>) -> Vec<Block<'_>> {
    groups.sort_by_key(|group| std::cmp::Reverse(group.members.len()));
    let all: usize = groups.iter().map(|group| group.members.len()).sum();
    let most = groups[0].members.len();
    let Some(text) = groups[0].text().filter(|_| groups.len() > 1 && most * 2 > all) else { return merge(groups) };
    let from = (groups[0].members[0].id, most);
    let differ = Differ::new(&text);
    let changes = |group: &Group<'_>| {
        let lines = differ.lines(&group.text()?)?;
        Some(Changes { from, lines })
    };
    let found: Vec<Option<Changes<'_>>> =
        groups.iter().enumerate().map(|(at, group)| if at > 0 { changes(group) } else { None }).collect();
    groups.into_iter().zip(found).map(|(group, changes)| Block { groups: vec![group], changes }).collect()
}

/// Merges groups with the same number of lines, most of which are the same.
fn merge(groups: Vec<Group<'_>>) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    // Blocks by what their groups must have in common.
    let mut candidates: HashMap<(Vec<String>, Vec<u8>, usize), usize> = HashMap::new();
    for group in groups {
        if let Shown::Output { stdout, stderr, truncated: false } = group.shown
            && !group.is_normalized
        {
            let lines = stdout.split(|byte| *byte == b'\n').count();
            match candidates.entry((group.reason.clone(), stderr.to_vec(), lines)) {
                std::collections::hash_map::Entry::Occupied(at) => {
                    let block = &mut blocks[*at.get()];
                    if is_similar(stdout, block.groups[0].stdout()) {
                        block.groups.push(group);
                        continue;
                    }
                }
                std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(blocks.len())),
            }
        }
        blocks.push(Block::whole(group));
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
