//! Authorization: the one place that turns a principal and `grants.toml` into a permit.
//!
//! ```text
//!  principal ──enter(verbs)──▶ Caller ──may(action)──▶ Permit ──▶ exec
//! ```
//!
//! Constraints on facts and times decide which grants of the file are in effect here and now; that is evaluated when the file, the
//! facts or the minute change, so that the end of a window ends requests in progress as the removal of a grant does.
//! Constraints on values of parameters are checked before an execution is queued ([`Caller::may_run`]), and all constraints
//! again before it starts ([`Access::lets_run`]): the file, the facts and the time may have changed while it waited.
//!
//! A [`Caller`] exists only when some grant gives the principal one of the verbs; a [`Permit`] only when one
//! covers the action. Both are made here and nowhere else. The file is checked for changes
//! at each request and each second, so that a revoked grant also ends requests in progress; one that is written in place has to
//! settle first (`site_file`). A file that cannot be used leaves the previous grants in effect, and the agent degraded. Where
//! there are none because the file could not be used since the start, the interface answers no caller and nothing leaves the
//! queue; root has local access all the same (`Access::enter_local`).

mod caller;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packs_schema::agent::grants::{Grants, Limit, Verb};
use packs_schema::base::name::{ActionRef, Principal};
use packs_schema::base::trust::{Purpose, TrustError};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::clock;
use crate::health::Health;
use crate::site_file::{self, Stamp};
use crate::trust;
pub(crate) use caller::Decision;
pub use caller::{Caller, Permit};

/// Grant of root of this instance: nothing can be started with it.
const LOCAL: &str = "[[grant]]\nprincipal = \"local://root\"\nverbs = [\"read\", \"kill\"]\nactions = [\"*\"]\n";
/// Health code while the file cannot be used.
const BROKEN: &str = "grants_invalid";

/// Error returned when the grants cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("cannot read the grants {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// Other users may change the file, or a directory above it.
    #[error("the grants cannot be used")]
    Trust(#[from] TrustError<std::io::Error>),
    /// The file has an error.
    #[error("the grants {path:?} are wrong: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Position and error.
        message: String,
        /// The line, where one can be named.
        line: Option<usize>,
    },
}

impl AccessError {
    /// True if the file may be read later although it does not change.
    fn may_pass(&self) -> bool {
        matches!(self, AccessError::Read { .. })
    }

    /// Describes the error without the text of the file, which callers may not see.
    fn brief(&self) -> String {
        match self {
            AccessError::Parse { line, .. } => {
                let at = line.map_or_else(String::new, |line| format!(" at line {line}"));
                format!("grants.toml is wrong{at}; the agent's log has the details")
            }
            other => crate::log::chain(other),
        }
    }
}

/// Grants in effect, and the file they come from.
pub struct Access {
    path: PathBuf,
    health: Arc<Health>,
    state: Mutex<InEffect>,
    /// Grant of local access: [`LOCAL`].
    local: Arc<Grants>,
    /// Generation: rises with each change of the grants.
    generation: watch::Sender<u64>,
}

struct InEffect {
    stamp: Option<Stamp>,
    /// False while owner or mode of the file, or of a directory above it, forbid its use.
    trusted: bool,
    /// True if the file could not be read, which may end without a change of it: a lack of descriptors.
    is_unread: bool,
    /// False until the file could be used for the first time.
    is_known: bool,
    /// Grants of the file.
    file: Grants,
    /// The same, with those marked that are in effect here and now.
    grants: Arc<Grants>,
    /// Facts of this instance; `None` until they are known.
    facts: Option<Facts>,
    /// Minute, since 1970, for which the grants in effect were determined.
    minute: i64,
}

impl InEffect {
    /// Determines the grants in effect now; true if they differ from those before.
    fn determine(&mut self) -> bool {
        self.minute = minute();
        let grants = self.file.in_effect(self.facts.as_ref(), self.minute * 60);
        let is_changed = grants != *self.grants;
        if is_changed {
            self.grants = Arc::new(grants);
        }
        is_changed
    }
}

/// Returns the present minute since 1970: windows of time begin and end with one.
fn minute() -> i64 {
    i64::try_from(clock::now_ms() / 60_000).unwrap_or(i64::MAX / 60)
}

impl Access {
    /// Reads the grants; fails if they cannot be used.
    pub fn load(path: &Path, health: Arc<Health>) -> Result<Access, AccessError> {
        let stamp = Stamp::of(path);
        Ok(Access::new(path, health, stamp, Some(read(path)?), true))
    }

    /// Reads the grants. While they cannot be used, they are not known ([`Access::is_known`]): no one has any, and health says why.
    pub(crate) fn begin(path: &Path, health: Arc<Health>) -> Access {
        // Before the file is read, so that a change in between is seen.
        let stamp = Stamp::of(path);
        match read(path) {
            Ok(file) => Access::new(path, health, stamp, Some(file), true),
            Err(error) => {
                let message = crate::log::chain(&error);
                tracing::error!(%message, "cannot use grants.toml; no grants are in effect");
                health.set(BROKEN, format!("{}; no grants are in effect, fix the file", error.brief()));
                let access = Access::new(path, health, stamp, None, !matches!(error, AccessError::Trust(_)));
                access.lock().is_unread = error.may_pass();
                access
            }
        }
    }

    fn new(path: &Path, health: Arc<Health>, stamp: Option<Stamp>, file: Option<Grants>, trusted: bool) -> Access {
        let is_known = file.is_some();
        let file = file.unwrap_or_default();
        let grants = Arc::new(file.in_effect(None, minute() * 60));
        let state =
            InEffect { stamp, trusted, is_unread: false, is_known, file, grants, facts: None, minute: minute() };
        let (state, generation) = (Mutex::new(state), watch::Sender::new(0));
        Access { path: path.to_owned(), health, state, local: local(), generation }
    }

    /// True once the file could be used: from then on some grants are in effect.
    pub(crate) fn is_known(&self) -> bool {
        if !self.lock().is_known {
            self.current();
        }
        self.lock().is_known
    }

    /// Waits until the grants are known.
    pub(crate) async fn known(&self) {
        let mut changed = self.changed();
        while !self.is_known() {
            if changed.changed().await.is_err() {
                // Never: this has the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Admits root of this instance, through the socket of local access, to verbs of [`LOCAL`]. `grants.toml` does not concern it:
    /// local access works also while the file cannot be used.
    pub(crate) fn enter_local(&self, verbs: &'static [Verb]) -> Option<Caller> {
        let principal = Principal::local_root();
        let granted = verbs.iter().any(|verb| self.local.allows_any(&principal, *verb));
        granted.then(|| Caller { principal, verbs, grants: self.local.clone(), generation: self.generation() })
    }

    /// Admits a principal that has one of `verbs` on anything. A name that is reserved for local access is never admitted here.
    pub fn enter(&self, principal: Principal, verbs: &'static [Verb]) -> Option<Caller> {
        if principal.is_local() {
            return None;
        }
        let (grants, generation) = self.current();
        let granted = verbs.iter().any(|verb| grants.allows_any(&principal, *verb));
        granted.then_some(Caller { principal, verbs, grants, generation })
    }

    /// Admits the caller again with the grants now in effect, if these still give one of its verbs on anything.
    pub fn renew(&self, caller: &Caller) -> Option<Caller> {
        if Arc::ptr_eq(&caller.grants, &self.local) {
            return self.enter_local(caller.verbs);
        }
        self.enter(caller.principal.clone(), caller.verbs)
    }

    /// True if a grant names the principal, with any verb.
    pub fn knows(&self, principal: &Principal) -> bool {
        self.current().0.knows(principal)
    }

    /// True if the grants now in effect let the principal run the action, which is of `class` where that is known, with these
    /// values of its parameters. A value that is missing fits no constraint.
    pub fn lets_run(
        &self,
        principal: &Principal,
        action: &ActionRef,
        class: Option<Class>,
        parameters: &Map<String, Value>,
    ) -> bool {
        self.current().0.find_with(principal, Verb::Run, action, class, parameters).is_some()
    }

    /// Returns the limits of the principal that are now in effect.
    pub fn limits_of(&self, principal: &Principal) -> Vec<Limit> {
        self.current().0.limits_of(principal)
    }

    /// Sets the facts of this instance, on which grants may depend; `None` while they are not known.
    pub(crate) fn set_facts(&self, facts: Option<Facts>) {
        let mut state = self.lock();
        if state.facts != facts {
            state.facts = facts;
            if state.determine() {
                self.generation.send_modify(|generation| *generation += 1);
            }
        }
    }

    /// True if a grant of the file depends on facts or times.
    pub(crate) fn depends_on_situation(&self) -> bool {
        self.lock().file.depends_on_situation()
    }

    fn lock(&self) -> MutexGuard<'_, InEffect> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the generation of the grants in effect.
    pub fn generation(&self) -> u64 {
        self.current().1
    }

    /// Subscribes to changes of the grants.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Checks the file for changes, and its owner and mode.
    pub fn check_for_changes(&self) {
        let trusted = trust::check(&self.path, Purpose::Anchor).is_ok();
        self.refresh(Some(trusted));
    }

    /// Returns the file while its present content is not in effect.
    pub fn invalid_file(&self) -> Option<PathBuf> {
        self.health.has(BROKEN).then(|| self.path.clone())
    }

    fn current(&self) -> (Arc<Grants>, u64) {
        self.refresh(None)
    }

    /// Reads the file again if it changed; `trusted` is the result of a check of owners and modes, if one was made.
    fn refresh(&self, trusted: Option<bool>) -> (Arc<Grants>, u64) {
        let mut state = self.lock();
        let stamp = Stamp::of(&self.path);
        let try_again = |trusted| trusted != state.trusted || state.is_unread;
        let is_changed = stamp != state.stamp || trusted.is_some_and(try_again);
        if is_changed && !site_file::is_being_written(stamp, state.stamp, clock::now_ms()) {
            state.stamp = stamp;
            let read = read(&self.path);
            state.trusted = !matches!(read, Err(AccessError::Trust(_)));
            let was_unread = std::mem::replace(&mut state.is_unread, read.as_ref().is_err_and(AccessError::may_pass));
            match read {
                Ok(grants) => {
                    tracing::info!(path = %self.path.display(), "grants read again");
                    self.health.clear(BROKEN);
                    state.file = grants;
                    let was_known = std::mem::replace(&mut state.is_known, true);
                    if state.determine() || !was_known {
                        self.generation.send_modify(|generation| *generation += 1);
                    }
                }
                Err(error) => {
                    let message = crate::log::chain(&error);
                    let those =
                        if state.is_known { "previous grants remain in effect" } else { "no grants are in effect" };
                    if !(was_unread && state.is_unread) {
                        tracing::error!(%message, "cannot use grants.toml; {those}");
                    }
                    self.health.set(BROKEN, format!("{}; {those}, fix the file", error.brief()));
                }
            }
        }
        if state.minute != minute() && state.determine() {
            self.generation.send_modify(|generation| *generation += 1);
        }
        (state.grants.clone(), *self.generation.borrow())
    }
}

/// Returns the grant of local access.
fn local() -> Arc<Grants> {
    let grants = Grants::parse(LOCAL).expect("a constant that a test enters with");
    Arc::new(grants.in_effect(None, 0))
}

/// Reads the file, as a start does.
pub(crate) fn read(path: &Path) -> Result<Grants, AccessError> {
    trust::check(path, Purpose::Anchor)?;
    let text = site_file::open(path).and_then(std::io::read_to_string);
    let text = text.map_err(|source| AccessError::Read { path: path.to_owned(), source })?;
    Grants::parse(&text).map_err(|e| AccessError::Parse {
        path: path.to_owned(),
        message: e.to_string(),
        line: e.line(),
    })
}

#[cfg(test)]
mod tests;
