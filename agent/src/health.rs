//! Health: readiness and problems of the agent, as `GET /v1/health` reports them.
//!
//! Parts of the agent [`set`](Health::set) and [`clear`](Health::clear) their own codes; problems of the sync are read from
//! the store at each request.

pub(crate) mod signatures;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use packs_schema::agent::rest::{self, PushInfo, Reason};
use packs_schema::base::name::{InstanceId, PackName};

use crate::expiry::Stage;
use crate::registry::{ActivePack, Registry, RegistryError};

/// Amount of detail about a pack that a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Nothing, not even its name.
    Nothing,
    /// Name and versions, without texts that could name its actions.
    Name,
    /// Everything.
    All,
}

/// Readiness, problems and notes of the agent.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    problems: Mutex<BTreeMap<&'static str, Problem>>,
    notes: Mutex<BTreeMap<&'static str, String>>,
}

/// Problem of one code.
#[derive(Debug)]
struct Problem {
    message: String,
    /// True if no execution can run, or no caller can ask for one, until it is fixed.
    stops: bool,
}

impl Health {
    /// Sets whether recovery is done and the launcher is connected.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// True if executions are accepted.
    pub fn takes_executions(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// True if executions are accepted, and no problem stops all of them.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !self.lock().values().any(|problem| problem.stops)
    }

    /// Sets a problem that does not stop executions.
    pub fn set(&self, code: &'static str, message: String) {
        self.lock().insert(code, Problem { message, stops: false });
    }

    /// Sets or clears a code that is checked repeatedly; each change is logged. While a problem `stops` everything, the agent
    /// is not ready.
    pub fn update(&self, code: &'static str, problem: Option<String>, stops: bool) {
        let mut all = self.lock();
        match problem {
            Some(message) => {
                if all.get(code).is_none_or(|problem| problem.message != message) {
                    tracing::error!(code, %message, "problem found");
                    all.insert(code, Problem { message, stops });
                }
            }
            None => {
                if all.remove(code).is_some() {
                    tracing::info!(code, "problem solved");
                }
            }
        }
    }

    /// Updates the warning of something that ends soon, with its message: a note a month before, a problem in the last week.
    pub(crate) fn update_ending(&self, code: &'static str, soon: Option<(Stage, String)>) {
        let (note, problem) = match soon {
            Some((stage, message)) if stage.degrades() => (None, Some(message)),
            Some((_, message)) => (Some(message), None),
            None => (None, None),
        };
        self.update_note(code, note);
        self.update(code, problem, false);
    }

    /// Records or removes a note that is checked repeatedly; a new one is logged.
    fn update_note(&self, code: &'static str, note: Option<String>) {
        let mut notes = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match note {
            Some(message) => {
                if notes.get(code) != Some(&message) {
                    tracing::warn!(code, %message, "noted");
                    notes.insert(code, message);
                }
            }
            None => {
                notes.remove(code);
            }
        }
    }

    /// Returns the codes of `GET /v1/health`, each once, without the notes.
    pub(crate) fn codes(&self, registry: &Registry) -> BTreeSet<String> {
        let (problems, _) = self.problems(self.is_ready(), registry, &|_| Detail::Nothing);
        problems.into_iter().map(|reason| reason.code).collect()
    }

    /// Returns the codes that parts of the agent have set.
    #[cfg(test)]
    pub(crate) fn own_codes(&self) -> Vec<&'static str> {
        self.lock().keys().copied().collect()
    }

    /// Records a fact that operators should know and that is no problem, because it was configured.
    pub fn note(&self, code: &'static str, message: String) {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(code, message);
    }

    /// Clears a problem.
    pub fn clear(&self, code: &'static str) {
        self.lock().remove(code);
    }

    /// True if the code is set.
    pub fn has(&self, code: &str) -> bool {
        self.lock().contains_key(code)
    }

    /// Builds the response of `GET /v1/health`; `detail` returns how much of a pack its reader may see.
    pub(crate) fn report(
        &self,
        registry: &Registry,
        instance: &InstanceId,
        detail: &dyn Fn(&PackName) -> Detail,
    ) -> rest::Health {
        let ready = self.is_ready();
        let (reasons, note) = self.problems(ready, registry, detail);
        rest::Health {
            live: true,
            ready,
            degraded: !reasons.is_empty(),
            reasons,
            notes: self.noted().into_iter().chain(pushed_notes(registry, detail)).chain(note).collect(),
            instance: instance.clone(),
            version: crate::VERSION.to_owned(),
        }
    }

    /// Returns all problems, and the note about signatures that end later.
    fn problems(
        &self,
        ready: bool,
        registry: &Registry,
        detail: &dyn Fn(&PackName) -> Detail,
    ) -> (Vec<Reason>, Option<Reason>) {
        let mut reasons: Vec<Reason> =
            self.lock().iter().map(|(code, problem)| reason(code, problem.message.clone())).collect();
        reasons.extend(sync_reasons(registry, detail));
        let signatures = registry.status().ok().flatten();
        let signatures = signatures.and_then(|status| signatures::warning(&status, now_s()));
        let (problem, note) = match signatures {
            Some((stage, warning)) if stage.degrades() => (Some(warning), None),
            Some((_, warning)) => (None, Some(warning)),
            None => (None, None),
        };
        reasons.extend(problem);
        if !ready && reasons.is_empty() {
            reasons.push(reason("starting", "the agent is starting or stopping; retry".to_owned()));
        }
        (reasons, note)
    }

    fn noted(&self) -> Vec<Reason> {
        let notes = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        notes.iter().map(|(code, message)| reason(code, message.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Problem>> {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn now_s() -> i64 {
    i64::try_from(crate::clock::now_ms() / 1000).unwrap_or(i64::MAX)
}

fn reason(code: &str, message: String) -> Reason {
    Reason { code: code.to_owned(), message }
}

/// Returns a note for each pushed version: it is no problem where it is allowed, and it expires by itself. The principal that
/// pushed it is only in `GET /v1/packs`, which not every caller may see.
fn pushed_notes(registry: &Registry, detail: &dyn Fn(&PackName) -> Detail) -> Vec<Reason> {
    let pushed = registry.pushed().unwrap_or_default();
    let note = |(pack, dev): (ActivePack, PushInfo)| {
        if detail(&pack.pack.name) == Detail::Nothing {
            return reason("dev_pack", "a version was pushed and is not signed".to_owned());
        }
        let (name, version, until) = (&pack.pack.name, pack.version(), crate::clock::rfc3339(dev.until_ms));
        reason("dev_pack", format!("{name} {version} was pushed and is not signed; it expires at {until}"))
    };
    pushed.into_iter().map(note).collect()
}

/// Returns the text that replaces a reason which could name other actions.
pub(crate) fn withheld(pack: &PackName) -> String {
    format!("the reason is shown to callers with a grant on all of {pack}.*")
}

fn sync_reasons(registry: &Registry, detail: &dyn Fn(&PackName) -> Detail) -> Vec<Reason> {
    let status = match registry.status() {
        Ok(Some(status)) => status,
        Ok(None) => {
            let message = "no poll of the repository has ended yet; GET /v1/packs shows the last one".to_owned();
            return vec![reason("never_synced", message)];
        }
        Err(error @ (RegistryError::Read { .. } | RegistryError::Damaged { .. })) => {
            return vec![reason("sync_failed", crate::log::chain(&error))];
        }
    };
    let mut reasons = Vec::new();
    if status.succeeded_at_ms.is_none() && status.failure.is_none() {
        reasons.push(reason("never_synced", "no poll of the repository has succeeded yet".to_owned()));
    }
    if let Some(failure) = status.failure {
        reasons.push(reason(if status.expired { "metadata_expired" } else { "sync_failed" }, failure));
    }
    if let Some(empty) = status.channel_empty {
        reasons.push(reason("channel_empty", empty.to_string()));
    }
    for (pack, failed) in status.failed {
        let is_building = failed.is_building();
        let version = failed.version.map_or_else(String::new, |v| format!(" {v}"));
        let message = match detail(&pack) {
            Detail::All => format!("{pack}{version}: {}: {}", failed.step, failed.message),
            Detail::Name => format!("{pack}{version}: {}: {}", failed.step, withheld(&pack)),
            Detail::Nothing => "a version of a pack could not be activated".to_owned(),
        };
        // Nothing has failed: its environment is being built, as the list of packs shows.
        if !is_building {
            reasons.push(reason("pack_failed", message));
        }
    }
    reasons.dedup();
    reasons
}
