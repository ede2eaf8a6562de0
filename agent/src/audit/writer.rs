//! The writer's thread: the only one that writes the files.
//!
//! ```text
//!  commands ─▶ append all that wait ─▶ one fsync ─▶ answers            executions, refusals: fsync up to SYNC_DELAY later
//!                    │ error
//!                    ▼
//!  rolled back, unavailable ──every RETRY──▶ what waits and an entry about it, fsync ─▶ available
//! ```
//!
//! The thread sleeps while nothing is due.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use packs_schema::agent::audit::{Chain, Entry, Head, Outcome, RECOVER};
use packs_schema::base::name::ExecutionId;
use packs_schema::base::quantity::format_duration;
use tokio::sync::{mpsc, oneshot};

use super::chain_file::{ChainFile, make_directory};
use super::fields::journal_entry;
use super::finding::Finding;
use super::owed::{Owed, OwedEntries};
use super::{AuditError, COLLECT, Settings, Shared, UNAVAILABLE, lock};
use crate::clock;
use crate::health::Health;
use crate::journal::{Delivery, Journal};

/// Maximum number of commands that share an fsync.
const BATCH: usize = 128;
/// Time after which entries that no caller waits for are made durable.
const SYNC_DELAY: Duration = Duration::from_secs(2);
/// Interval of attempts to write again after a failure.
const RETRY: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5_000 });
/// Maximum number of kills that wait in memory for a file that can be written.
const MAX_URGENT: usize = 1024;

/// Command to the writer.
pub(super) enum Command {
    /// Record a change, and answer when it is durable.
    Record { entry: Entry, reply: oneshot::Sender<Result<(), AuditError>> },
    /// Record a change that is carried out in any case.
    Urgent { entry: Entry, reply: oneshot::Sender<()> },
    /// Record executions whose rows are durable, soon: those that wait in [`Shared`].
    Committed,
    /// Answer when everything before is durable.
    Flush { reply: oneshot::Sender<Result<(), AuditError>> },
    /// Record a refusal.
    Refusal { entry: Entry },
}

pub(super) struct Writer {
    settings: Settings,
    shared: Arc<Shared>,
    health: Arc<Health>,
    settled: mpsc::UnboundedSender<Vec<ExecutionId>>,
    journal: Option<Journal>,
    /// `None` while they cannot be opened.
    changes: Option<ChainFile>,
    refusals: Option<ChainFile>,
    /// Entries that must reach the file.
    owed: OwedEntries,
    /// Time at which the accepted executions are appended that wait.
    append_at: Option<Instant>,
    /// Time of the next sync that no caller waits for.
    sync_at: Option<Instant>,
    /// Time of the next attempt after a failure; the chain of changes is unavailable until it succeeds.
    retry_at: Option<Instant>,
    /// First failure since the chain of changes could be written.
    failing_since: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        settings: &Settings,
        shared: Arc<Shared>,
        health: Arc<Health>,
        settled: mpsc::UnboundedSender<Vec<ExecutionId>>,
    ) -> Writer {
        let journal = Journal::open(settings.journal());
        let journal = journal.inspect_err(|error| tracing::warn!(%error, "no copy of the audit log in the journal"));
        Writer {
            settings: settings.clone(),
            shared,
            health,
            settled,
            journal: journal.ok(),
            changes: None,
            refusals: None,
            owed: OwedEntries::default(),
            append_at: None,
            sync_at: None,
            retry_at: None,
            failing_since: None,
        }
    }

    /// Opens the files.
    pub(super) fn open(&mut self) {
        let opened = self.open_chain(Chain::Changes).map(|file| self.changes = Some(file));
        if let Err(error) = opened.and_then(|()| self.write_waiting()) {
            self.fail(&error);
        }
        self.open_refusals();
    }

    /// Runs until every sender is dropped.
    pub(super) fn run(mut self, commands: &Receiver<Box<Command>>) {
        loop {
            let first = match self.next_deadline() {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => commands.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match first {
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(first) => {
                    self.leave_removed();
                    self.process(std::iter::once(first).chain(commands.try_iter()).take(BATCH));
                }
            }
            self.do_what_is_due(Instant::now());
        }
        self.finish();
    }

    fn process(&mut self, batch: impl Iterator<Item = Box<Command>>) {
        let (mut answers, mut urgent) = (Vec::new(), Vec::new());
        for command in batch {
            if let Command::Committed = *command {
                self.append_at.get_or_insert_with(|| Instant::now() + COLLECT);
                continue;
            }
            // An execution is recorded before what is done to it.
            self.append_committed();
            match *command {
                Command::Committed => {}
                Command::Record { entry, reply } => match self.append(&entry) {
                    Ok(head) => answers.push((head.sequence, reply)),
                    // The caller may have been cancelled.
                    Err(error) => drop(reply.send(Err(error))),
                },
                Command::Urgent { entry, reply } => {
                    self.append_owed(Owed { entry, execution: None });
                    urgent.push(reply);
                }
                Command::Flush { reply } => answers.push((u64::MAX, reply)),
                Command::Refusal { entry } => self.append_refusal(&entry),
            }
        }
        if !answers.is_empty() || !urgent.is_empty() {
            let synced = self.sync();
            let durable = self.shared.durable.load(Ordering::Relaxed);
            for (sequence, reply) in answers {
                // A full file was made durable before the next one failed.
                let _ = reply.send(if sequence <= durable { Ok(()) } else { synced.clone() });
            }
            for reply in urgent {
                let _ = reply.send(());
            }
        }
        self.plan_sync();
    }

    fn plan_sync(&mut self) {
        let is_unsynced = |file: &Option<ChainFile>| file.as_ref().is_some_and(ChainFile::is_unsynced);
        if is_unsynced(&self.changes) || is_unsynced(&self.refusals) {
            self.sync_at.get_or_insert_with(|| Instant::now() + SYNC_DELAY);
        }
    }

    /// Appends the executions that wait.
    fn append_committed(&mut self) {
        self.append_at = None;
        let committed = std::mem::take(&mut *lock(&self.shared.committed));
        for (execution, entry) in committed {
            self.append_owed(Owed { entry, execution: Some(execution) });
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let window = lock(&self.shared.refusals).next_end();
        [self.append_at, self.sync_at, self.retry_at, window].into_iter().flatten().min()
    }

    fn do_what_is_due(&mut self, now: Instant) {
        let is_due = |at: &mut Instant| *at <= now;
        let ended = lock(&self.shared.refusals).take_ended(now, false);
        ended.iter().for_each(|entry| self.append_refusal(entry));
        if !ended.is_empty() {
            self.sync_at.get_or_insert(now + SYNC_DELAY);
        }
        if self.append_at.take_if(is_due).is_some() {
            self.leave_removed();
            self.append_committed();
            self.plan_sync();
        }
        if self.sync_at.take_if(is_due).is_some() {
            // A failure is reported in health, and no caller waits for the result.
            let _ = self.sync();
            self.sync_refusals();
        }
        if self.retry_at.take_if(is_due).is_some() {
            self.retry();
        }
    }

    /// Goes on in new files where someone has removed the present ones, and records that.
    fn leave_removed(&mut self) {
        if self.retry_at.is_some() {
            return;
        }
        if let Some(mut file) = self.changes.take() {
            let left = file.leave_removed().and_then(|finding| self.record_finding(Chain::Changes, &mut file, finding));
            self.changes = Some(file);
            if let Err(error) = left {
                self.fail(&error);
            }
        }
        if let Some(mut file) = self.refusals.take() {
            match file.leave_removed().and_then(|finding| self.record_finding(Chain::Refusals, &mut file, finding)) {
                Ok(()) => self.refusals = Some(file),
                // The next refusal opens it again.
                Err(error) => tracing::warn!(%error, "cannot continue the audit log of refusals"),
            }
        }
    }

    /// Appends a change; not durable yet.
    fn append(&mut self, entry: &Entry) -> Result<Head, AuditError> {
        let Some(changes) = self.changes.as_mut().filter(|_| self.retry_at.is_none()) else {
            return self.unavailable();
        };
        match changes.append(entry) {
            Ok(head) => {
                self.publish(Chain::Changes, entry, Some(head));
                Ok(head)
            }
            Err(error) => {
                self.fail(&error);
                self.unavailable()
            }
        }
    }

    fn append_owed(&mut self, owed: Owed) {
        match self.append(&owed.entry) {
            Ok(head) => self.owed.add_appended(head.sequence, owed),
            Err(_) => {
                if owed.execution.is_none() {
                    self.publish(Chain::Changes, &owed.entry, None);
                    if self.owed.waiting_events().count() >= MAX_URGENT {
                        return tracing::error!(entry = ?owed.entry, "a kill has no entry in the audit log: too many wait");
                    }
                }
                self.owed.add_waiting(owed);
            }
        }
    }

    /// Makes all changes durable that were appended.
    fn sync(&mut self) -> Result<(), AuditError> {
        let Some(changes) = self.changes.as_mut().filter(|_| self.retry_at.is_none()) else {
            return self.unavailable();
        };
        if let Err(error) = changes.sync() {
            self.fail(&error);
            return self.unavailable();
        }
        self.settle();
        Ok(())
    }

    /// Tells others which changes are durable.
    fn settle(&mut self) {
        let Some(changes) = &self.changes else { return };
        let durable = changes.durable();
        self.shared.durable.store(durable, Ordering::Relaxed);
        let settled = self.owed.settle(durable);
        if !settled.is_empty() {
            // The api stops: the marks stay, and the next start finds the entries.
            let _ = self.settled.send(settled);
        }
    }

    fn unavailable<T>(&self) -> Result<T, AuditError> {
        Err(AuditError::Unavailable(lock(&self.shared.reason).clone()))
    }

    /// Returns the chain of changes to its last durable entry, and refuses changes until a retry succeeds.
    fn fail(&mut self, error: &io::Error) {
        if let Some(changes) = &mut self.changes
            && let Err(error) = changes.roll_back()
        {
            tracing::warn!(%error, "cannot roll back the audit log; the next attempt does");
        }
        self.settle();
        self.owed.take_back();
        // Others than this agent have written files: they are read again.
        if error.kind() == io::ErrorKind::AlreadyExists {
            self.changes = None;
        }
        let first = !self.shared.unavailable.swap(true, Ordering::Relaxed);
        *lock(&self.shared.reason) = error.to_string();
        if first {
            tracing::error!(%error, directory = %self.settings.directory.display(), "cannot write the audit log: changes are refused");
        }
        let message = format!("the audit log cannot be written ({error}): changes are refused, kills are carried out");
        self.health.set(UNAVAILABLE, message);
        self.failing_since.get_or_insert_with(Instant::now);
        self.retry_at = Some(Instant::now() + RETRY);
    }

    fn retry(&mut self) {
        let Some(mut changes) = self.changes.take() else { return self.open() };
        let found = changes.roll_back().and_then(|()| changes.leave_removed());
        let recorded = found.and_then(|finding| self.record_finding(Chain::Changes, &mut changes, finding));
        self.changes = Some(changes);
        if let Err(error) = recorded.and_then(|()| self.write_waiting()) {
            self.fail(&error);
        }
    }

    /// Appends what could not be appended before, makes it durable, and allows changes again.
    fn write_waiting(&mut self) -> io::Result<()> {
        let Some(changes) = &mut self.changes else { return Ok(()) };
        let (published, written) = self.owed.append_waiting(changes);
        published.iter().for_each(|(head, entry)| self.publish(Chain::Changes, entry, Some(*head)));
        written?;
        self.record_failure()?;
        (self.retry_at, self.failing_since) = (None, None);
        // Before others are told that what waited is durable.
        self.health.clear(UNAVAILABLE);
        if self.shared.unavailable.swap(false, Ordering::Relaxed) {
            tracing::info!("the audit log can be written again");
        }
        self.settle();
        Ok(())
    }

    /// Records that changes could not be recorded. Without an entry nothing shows that the files can be written again.
    fn record_failure(&mut self) -> io::Result<()> {
        let (Some(since), Some(changes)) = (self.failing_since, &mut self.changes) else { return Ok(()) };
        let (duration, reason) = (format_duration(since.elapsed()), lock(&self.shared.reason).clone());
        let detail = format!("the audit log could not be written for {duration} ({reason}): changes were refused");
        let entry = Entry::new(clock::now_ms(), RECOVER, Outcome::Done).with_detail(&detail);
        let head = changes.append(&entry)?;
        changes.sync()?;
        self.publish(Chain::Changes, &entry, Some(head));
        Ok(())
    }

    /// Opens a chain, and records what was found wrong with its newest file.
    fn open_chain(&self, chain: Chain) -> io::Result<ChainFile> {
        make_directory(&self.settings.directory)?;
        let (mut file, finding) = ChainFile::open(&self.settings.directory, chain, self.settings.bounds(chain))?;
        self.record_finding(chain, &mut file, finding)?;
        Ok(file)
    }

    /// Records what was found wrong with the newest file of a chain.
    fn record_finding(&self, chain: Chain, file: &mut ChainFile, finding: Option<Finding>) -> io::Result<()> {
        let Some(finding) = finding else { return Ok(()) };
        let (outcome, detail) = finding.describe();
        tracing::warn!(%chain, "audit log: {detail}");
        let entry = Entry::new(clock::now_ms(), RECOVER, outcome).with_detail(&detail);
        let head = file.append(&entry).and_then(|head| file.sync().map(|()| head));
        let head = head.inspect_err(|_| file.return_finding(&finding))?;
        self.publish(chain, &entry, Some(head));
        Ok(())
    }

    fn open_refusals(&mut self) {
        match self.open_chain(Chain::Refusals) {
            Ok(file) => self.refusals = Some(file),
            Err(error) => tracing::warn!(%error, "cannot open the audit log of refusals"),
        }
    }

    fn append_refusal(&mut self, entry: &Entry) {
        if self.refusals.is_none() {
            self.open_refusals();
        }
        let appended = self.refusals.as_mut().map(|refusals| refusals.append(entry));
        let lost = match appended {
            Some(Ok(head)) => return self.publish(Chain::Refusals, entry, Some(head)),
            Some(Err(error)) => self.close_refusals(&error),
            None => 0,
        };
        self.publish(Chain::Refusals, entry, None);
        self.count_lost(lost + entry.count.unwrap_or(1));
    }

    fn sync_refusals(&mut self) {
        if let Some(Err(error)) = self.refusals.as_mut().map(ChainFile::sync) {
            let lost = self.close_refusals(&error);
            self.count_lost(lost);
        }
    }

    /// Returns the chain of refusals to its last durable entry, and closes it; returns the number of entries lost.
    fn close_refusals(&mut self, error: &io::Error) -> u64 {
        tracing::warn!(%error, "cannot write the audit log of refusals: they are counted only");
        let Some(mut refusals) = self.refusals.take() else { return 0 };
        let before = refusals.head().sequence;
        match refusals.roll_back() {
            Ok(()) => before.saturating_sub(refusals.head().sequence),
            // Opening it again finds what is there.
            Err(_) => 0,
        }
    }

    fn count_lost(&self, lost: u64) {
        self.shared.counters.lost_refusals.fetch_add(lost, Ordering::Relaxed);
    }

    /// Counts an entry, and sends a copy to the journal.
    fn publish(&self, chain: Chain, entry: &Entry, head: Option<Head>) {
        let counters = &self.shared.counters;
        let counter: &AtomicU64 = match chain {
            Chain::Changes => &counters.changes,
            Chain::Refusals => &counters.refusals,
        };
        counter.fetch_add(u64::from(head.is_some()), Ordering::Relaxed);
        if let Some(journal) = &self.journal
            && journal.send(&journal_entry(chain, entry, head)) == Delivery::Dropped
        {
            counters.journal_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn finish(mut self) {
        let ended = lock(&self.shared.refusals).take_ended(Instant::now(), true);
        ended.iter().for_each(|entry| self.append_refusal(entry));
        self.sync_refusals();
        self.append_committed();
        if self.retry_at.is_some() {
            self.retry();
        }
        let _ = self.sync();
        for entry in self.owed.waiting_events() {
            tracing::error!(?entry, "a kill has no entry in the audit log");
        }
    }
}
