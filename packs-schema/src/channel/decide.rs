//! What a channel comes to on one instance: a pure function of its rules, the instance and what is active there.

use super::{Channel, Rule};
use crate::facts::Facts;
use crate::name::PackVersion;

/// What a channel comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// This version applies. It may be the active one.
    Take(&'a PackVersion),
    /// This version applies, and is lower than the active one, which was withdrawn.
    GoBack(&'a PackVersion),
    /// This version applies, but the active one is higher and nobody withdrew it.
    Lower(&'a PackVersion),
    /// What is active was withdrawn, and nothing else applies here: nothing is active from now on.
    Withdraw,
    /// What is active stays: a rollout has not come to this instance, or left it out later.
    Keep,
    /// The channel is not meant for this instance.
    NotHere,
}

impl Channel {
    /// Decides for the instance of which `facts` are known, in whose place of the rollout is `bucket` (0 to 99).
    pub fn decide(&self, facts: &Facts, bucket: u8, active: Option<&PackVersion>) -> Decision<'_> {
        let applies = |rule: &&Rule| {
            bucket < rule.percent
                && rule.filter.as_ref().is_none_or(|filter| filter.matches(facts))
                && (!rule.paused || active == Some(&rule.version))
        };
        let taken_back = active.is_some_and(|active| self.withdrawn.contains(active));
        let Some(Rule { version, .. }) = self.rules.iter().find(applies) else {
            return match active {
                Some(_) if taken_back => Decision::Withdraw,
                Some(_) => Decision::Keep,
                None => Decision::NotHere,
            };
        };
        match active {
            Some(active) if active > version && taken_back => Decision::GoBack(version),
            // It has what is being rolled out, or what was before that was: nobody takes it away again.
            Some(active) if active > version && *active <= self.newest().version => Decision::Keep,
            Some(active) if active > version => Decision::Lower(version),
            _ => Decision::Take(version),
        }
    }
}
