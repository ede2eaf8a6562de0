//! Decision of a channel for one instance: a pure function of its rules, the instance and its active version.

use super::{Channel, Rule};
use crate::base::name::PackVersion;
use crate::delivery::facts::Facts;

/// Decision of a channel for one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Activate this version, which may be the active one already.
    Take(&'a PackVersion),
    /// Roll back to this lower version, because the active one was withdrawn.
    RollBack(&'a PackVersion),
    /// Keep the active version: this lower version applies, but the active one was not withdrawn.
    KeepHigher(&'a PackVersion),
    /// Deactivate the pack: the active version was withdrawn and no rule applies.
    Withdraw,
    /// Keep the active version: a rollout does not include this instance, or was narrowed and no longer does.
    Keep,
    /// No rule applies to this instance, and no version is active.
    NotApplicable,
}

impl Channel {
    /// Decides for an instance with `facts` in `cohort` (0 to 99) that runs version `active`.
    pub fn decide(&self, facts: &Facts, cohort: u8, active: Option<&PackVersion>) -> Decision<'_> {
        let applies = |rule: &&Rule| {
            cohort < rule.percent
                && rule.filter.as_ref().is_none_or(|filter| filter.matches(facts))
                && (!rule.paused || active == Some(&rule.version))
        };
        let is_withdrawn = active.is_some_and(|active| self.withdrawn.contains(active));
        let Some(Rule { version, .. }) = self.rules.iter().find(applies) else {
            return match active {
                Some(_) if is_withdrawn => Decision::Withdraw,
                Some(_) => Decision::Keep,
                None => Decision::NotApplicable,
            };
        };
        match active {
            Some(active) if active > version && is_withdrawn => Decision::RollBack(version),
            // The instance has the version being rolled out, or the one before it: a rollout takes no version away.
            Some(active) if active > version && *active <= self.newest().version => Decision::Keep,
            Some(active) if active > version => Decision::KeepHigher(version),
            _ => Decision::Take(version),
        }
    }
}
