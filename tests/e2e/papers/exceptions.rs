//! Commands of the papers that are not run here, with the reason, and names that are others here.

use std::path::Path;

/// A command that is shown and not run.
#[derive(Debug)]
pub(super) struct NotRun {
    /// The paper.
    pub(super) paper: &'static str,
    /// How the command begins.
    pub(super) command: &'static str,
    /// Why it is not run.
    pub(super) why: &'static str,
}

impl NotRun {
    /// True if the entry is about this command of this paper.
    pub(super) fn covers(&self, paper: &Path, command: &str) -> bool {
        Path::new(self.paper) == paper && command.starts_with(self.command)
    }
}

/// Every command that is shown and not run. An entry that covers none is an error.
pub(super) const NOT_RUN: &[NotRun] = &[];

/// A name in a paper, and what is run instead.
#[derive(Debug)]
pub(super) struct Substitution {
    /// The name as the paper shows it.
    pub(super) shown: &'static str,
    /// What stands for it here.
    pub(super) run: &'static str,
}

/// Names that are others here.
pub(super) const SUBSTITUTIONS: &[Substitution] = &[];
