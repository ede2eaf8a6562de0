//! Text of commands that gets to files, and whether these are run.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Graph, Pipeline};
use crate::pack::import::shell::files::{self, Kind};
use crate::pack::import::shell::limit::Input;
use crate::pack::import::shell::limit::Limit;

/// File that the text of a command gets to.
pub(super) struct ToFile {
    pub(super) variable: String,
    pub(super) kind: Kind,
    /// How it is run.
    pub(super) run: Option<(Limit, Input)>,
}

impl Graph<'_> {
    /// Returns how text of a command is run that gets to a file.
    pub(super) fn runs_text(&self, id: usize) -> Option<(Limit, Input)> {
        let files = self.files.get(&id).into_iter().flatten().filter(|file| file.kind == Kind::Text);
        files.filter_map(|file| file.run).max()
    }

    /// True for a command whose arguments choose the text of a file that is run.
    pub(in crate::pack::import::shell::flow) fn chooses_code(&self, id: usize) -> bool {
        let files = self.files.get(&id).into_iter().flatten();
        self.facts.finders.contains(&id) || files.filter(|file| file.kind != Kind::Text).any(|file| file.run.is_some())
    }
}

/// Returns the files that each command writes: itself, or one behind it in its pipeline, or the list that it is in.
pub(super) fn files_of(facts: &Facts, pipelines: &BTreeMap<usize, Pipeline<'_>>) -> BTreeMap<usize, Vec<ToFile>> {
    let mut files: BTreeMap<usize, Vec<ToFile>> = BTreeMap::new();
    for (id, written) in &facts.writes {
        let Some(command) = facts.commands.get(*id) else { continue };
        let run = facts.run_of(written).map(|run| (run.limit, run.input));
        let run = run.or_else(|| files::run_by_host(&written.path));
        let of_pipeline = pipelines.get(&command.pipeline).map_or(&[][..], |pipeline| &pipeline.commands);
        // The commands of a list that writes it are not told from those around it.
        let all = if facts.is_list(command) { 0..facts.commands.len() } else { 0..0 };
        let before = of_pipeline.iter().copied().filter(|other| other <= id);
        for writer in before.chain(all).collect::<BTreeSet<usize>>() {
            let variable = files::text_of(&written.path);
            files.entry(writer).or_default().push(ToFile { variable, kind: written.kind, run });
        }
    }
    files
}
