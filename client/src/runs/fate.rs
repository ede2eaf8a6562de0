//! How a recorded run ended on each instance, in four classes: for lists, and to choose instances by.

use packs_schema::agent::execution::State;
use packs_schema::base::name::InstanceId;

use super::StoredRun;
use super::record::{Entry, StoredEnding};

/// Class of the end of a run on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The execution succeeded.
    Succeeded,
    /// The execution ended otherwise, the agent refused, or contact was lost after it may have started.
    Failed,
    /// The instance was not reached.
    Unreachable,
    /// The instance was not asked.
    NotStarted,
}

impl Fate {
    /// All of them.
    pub const ALL: [Fate; 4] = [Fate::Succeeded, Fate::Failed, Fate::Unreachable, Fate::NotStarted];
}

impl StoredRun {
    /// Returns the class of each instance, in the order of the plan. An instance that was asked and has no recorded end counts
    /// as failed: an execution may run there.
    pub fn fates(&self) -> Vec<(InstanceId, Fate)> {
        let mut fates: Vec<(InstanceId, Fate)> =
            self.plan.instances().iter().map(|instance| (instance.id().clone(), Fate::NotStarted)).collect();
        for entry in &self.entries {
            let (target, fate) = match entry {
                Entry::Starting { target } => (*target, Fate::Failed),
                Entry::Ended { target, ending } => (*target, of(ending)),
                Entry::Checked { .. } | Entry::Done { .. } | Entry::Resumed { .. } => continue,
            };
            if let Some(known) = fates.get_mut(target) {
                known.1 = fate;
            }
        }
        fates
    }
}

fn of(ending: &StoredEnding) -> Fate {
    match ending {
        StoredEnding::Ended { execution } if execution.state == State::Succeeded => Fate::Succeeded,
        StoredEnding::Unreachable { may_run: false, .. } => Fate::Unreachable,
        StoredEnding::Ended { .. } | StoredEnding::Unreachable { .. } | StoredEnding::Refused { .. } => Fate::Failed,
    }
}
