//! What is wrong with the agent, as `GET /v1/health` says it.
//!
//! Parts of the agent [`set`](Health::set) and [`clear`](Health::clear) their own codes; what the sync
//! said is read from the store when someone asks.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use packs_schema::agent::rest::{self, PushInfo, Reason};
use packs_schema::base::name::{InstanceId, PackName};

use crate::registry::{ActivePack, Registry, RegistryError};

/// How much of a pack a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Not even that it is there.
    Nothing,
    /// Its name and versions, without what could name any of its actions.
    Name,
    /// Everything.
    All,
}

/// Whether the agent takes executions, and what is wrong.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    wrong: Mutex<BTreeMap<&'static str, Wrong>>,
    notes: Mutex<BTreeMap<&'static str, String>>,
}

/// One thing that is wrong.
#[derive(Debug)]
struct Wrong {
    message: String,
    /// Nothing can run, or nobody can ask for it, until it is mended.
    stops: bool,
}

impl Health {
    /// Recovery is done and the launcher is there, or no longer.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// True if executions are accepted.
    pub fn takes_executions(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// True if executions are accepted, and nothing is wrong that stops them all.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !self.lock().values().any(|wrong| wrong.stops)
    }

    /// Something is wrong from now on.
    pub fn set(&self, code: &'static str, message: String) {
        self.lock().insert(code, Wrong { message, stops: false });
    }

    /// Sets or clears a code that is looked at again and again; the log has each change. Where it `stops` everything, the
    /// agent is not ready meanwhile.
    pub fn update(&self, code: &'static str, problem: Option<String>, stops: bool) {
        let mut all = self.lock();
        match problem {
            Some(message) => {
                if all.get(code).is_none_or(|wrong| wrong.message != message) {
                    tracing::error!(code, %message, "something is wrong");
                    all.insert(code, Wrong { message, stops });
                }
            }
            None => {
                if all.remove(code).is_some() {
                    tracing::info!(code, "no longer wrong");
                }
            }
        }
    }

    /// The codes of what is wrong now, apart from what the sync says.
    pub fn codes(&self) -> Vec<&'static str> {
        self.lock().keys().copied().collect()
    }

    /// Records something that operators should know and that is as it was configured.
    pub fn note(&self, code: &'static str, message: String) {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(code, message);
    }

    /// It is mended.
    pub fn clear(&self, code: &'static str) {
        self.lock().remove(code);
    }

    /// True if it is wrong now.
    pub fn has(&self, code: &str) -> bool {
        self.lock().contains_key(code)
    }

    /// The answer of `GET /v1/health`; `detail` says how much of a pack its reader may see.
    pub(crate) fn report(
        &self,
        registry: &Registry,
        instance: &InstanceId,
        detail: &dyn Fn(&PackName) -> Detail,
    ) -> rest::Health {
        let mut reasons: Vec<Reason> =
            self.lock().iter().map(|(code, wrong)| reason(code, wrong.message.clone())).collect();
        reasons.extend(sync_reasons(registry, detail));
        let ready = self.is_ready();
        if !ready && reasons.is_empty() {
            reasons.push(reason("starting", "the agent is starting or stopping; ask again".to_owned()));
        }
        rest::Health {
            live: true,
            ready,
            degraded: !reasons.is_empty(),
            reasons,
            notes: self.noted().into_iter().chain(pushed(registry, detail)).collect(),
            instance: instance.clone(),
            version: crate::VERSION.to_owned(),
        }
    }

    fn noted(&self) -> Vec<Reason> {
        let notes = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        notes.iter().map(|(code, message)| reason(code, message.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Wrong>> {
        self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn reason(code: &str, message: String) -> Reason {
    Reason { code: code.to_owned(), message }
}

/// Not wrong where it is allowed, and over by itself. Who did it stands in `GET /v1/packs`, which not everybody may see.
fn pushed(registry: &Registry, detail: &dyn Fn(&PackName) -> Detail) -> Vec<Reason> {
    let pushed = registry.pushed().unwrap_or_default();
    let note = |(pack, dev): (ActivePack, PushInfo)| {
        if detail(&pack.pack.name) == Detail::Nothing {
            return reason("dev_pack", "a version was pushed and is not signed".to_owned());
        }
        let (name, version, until_s) = (&pack.pack.name, pack.version(), dev.until_ms / 1000);
        reason("dev_pack", format!("{name} {version} was pushed and is not signed; it goes at {until_s} s since 1970"))
    };
    pushed.into_iter().map(note).collect()
}

/// What stands in place of a reason that could name other actions.
pub(crate) fn withheld(pack: &PackName) -> String {
    format!("the reason is shown to callers with a grant on all of {pack}.*")
}

fn sync_reasons(registry: &Registry, detail: &dyn Fn(&PackName) -> Detail) -> Vec<Reason> {
    let status = match registry.status() {
        Ok(Some(status)) => status,
        Ok(None) => {
            let message = "no poll of the repository has ended yet; GET /v1/packs says when one has".to_owned();
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
        // Nothing has failed: it is on its way, and told in the list of packs.
        if !is_building {
            reasons.push(reason("pack_failed", message));
        }
    }
    reasons.dedup();
    reasons
}
