//! Executions whose change to `running` is written later. One task sees to all of them: most have ended by then, and a timer for each
//! would wake this process twice.

use std::collections::VecDeque;

use packs_schema::base::name::ExecutionId;
use tokio::time::Instant;

/// Executions, each with the time to write its start, the oldest first.
#[derive(Debug, Default)]
pub(super) struct StartsToWrite {
    waiting: VecDeque<(Instant, ExecutionId)>,
    has_task: bool,
}

impl StartsToWrite {
    /// Adds an execution. Returns true if a task has to be started that writes them.
    pub(super) fn add(&mut self, at: Instant, id: ExecutionId) -> bool {
        self.waiting.push_back((at, id));
        !std::mem::replace(&mut self.has_task, true)
    }

    /// Returns the time of the next one, and forgets those that have been written, as with their ends. `None`: the task ends.
    pub(super) fn next(&mut self, is_unwritten: impl Fn(&ExecutionId) -> bool) -> Option<Instant> {
        while let Some((at, id)) = self.waiting.front() {
            if is_unwritten(id) {
                return Some(*at);
            }
            self.waiting.pop_front();
        }
        self.has_task = false;
        None
    }

    /// Takes those whose time has come.
    pub(super) fn take_due(&mut self) -> Vec<ExecutionId> {
        let now = Instant::now();
        let due = self.waiting.iter().take_while(|(at, _)| *at <= now).count();
        self.waiting.drain(..due).map(|(_, id)| id).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
