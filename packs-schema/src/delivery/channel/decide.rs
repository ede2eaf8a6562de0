//! What a channel comes to on one instance: a pure function of its rules, the instance and what is active there.

use super::{Channel, Rule};
use crate::base::name::PackVersion;
use crate::delivery::facts::Facts;

/// What a channel comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// This version applies. It may be the active one.
    Take(&'a PackVersion),
    /// This version applies, and is lower than the active one, which was withdrawn.
    RollBack(&'a PackVersion),
    /// This version applies, but the active one is higher and nobody withdrew it.
    KeepHigher(&'a PackVersion),
    /// What is active was withdrawn, and nothing else applies here: nothing is active from now on.
    Withdraw,
    /// What is active stays: a rollout has not come to this instance, or left it out later.
    Keep,
    /// The channel is not meant for this instance.
    NotApplicable,
}

impl Channel {
    /// Decides for the instance of which `facts` are known, which is in `cohort` (0 to 99).
    pub fn decide(&self, facts: &Facts, cohort: u8, active: Option<&PackVersion>) -> Decision<'_> {
        let applies = |rule: &&Rule| {
            cohort < rule.percent
                && rule.filter.as_ref().is_none_or(|filter| filter.matches(facts))
                && (!rule.paused || active == Some(&rule.version))
        };
        let taken_back = active.is_some_and(|active| self.withdrawn.contains(active));
        let Some(Rule { version, .. }) = self.rules.iter().find(applies) else {
            return match active {
                Some(_) if taken_back => Decision::Withdraw,
                Some(_) => Decision::Keep,
                None => Decision::NotApplicable,
            };
        };
        match active {
            Some(active) if active > version && taken_back => Decision::RollBack(version),
            // It has what is being rolled out, or what was before that was: nobody takes it away again.
            Some(active) if active > version && *active <= self.newest().version => Decision::Keep,
            Some(active) if active > version => Decision::KeepHigher(version),
            _ => Decision::Take(version),
        }
    }
}
