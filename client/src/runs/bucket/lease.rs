//! The right to carry out a run whose record is in a bucket: renewed by a task, and checked by each write.

use std::sync::Arc;

use async_trait::async_trait;
use bolt_aws::{BucketError, Etag, Problem};
use packs_schema::base::name::RunId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::record::Entry;
use super::super::{Certainty, Lease, StoreError, Tally};
use super::Shared;
use super::create::{Created, create_own};
use super::objects::{self, FULL_GROUP, Group, LeaseObject};

/// Number of renewals within the time after which the lease expires.
const RENEWALS: u32 = 3;

/// Lease that this client holds. Dropping it ends its renewal, so that it expires.
pub(super) struct Held {
    shared: Arc<Shared>,
    run: RunId,
    token: String,
    /// Number of the next group.
    next: u64,
    tally: Tally,
    /// Leading entries of the next call that an earlier call, which failed, has recorded.
    recorded: usize,
    /// Group that an earlier call could not create for certain, with the number of its entries. It is tried again as it is.
    unsure: Option<(Vec<u8>, usize)>,
    /// Set by the renewal: the other client, if it is known.
    lost: watch::Receiver<Option<String>>,
    certainty: Certainty,
    stop: watch::Sender<bool>,
    renewal: JoinHandle<Option<(LeaseObject, Etag)>>,
}

impl Held {
    /// Begins to renew `lease`, which is in the state `etag`.
    pub(super) fn new(shared: Arc<Shared>, lease: LeaseObject, etag: Etag, next: u64, tally: Tally) -> Held {
        let (run, token) = (lease.run.clone(), lease.token.clone());
        let ((stop, stopped), (report, lost)) = (watch::channel(false), watch::channel(None));
        let certainty = Certainty::new(lease.expiry() / 2);
        let renewal = tokio::spawn(renew(Arc::clone(&shared), lease, etag, certainty.clone(), stopped, report));
        Held { shared, run, token, next, tally, recorded: 0, unsure: None, lost, certainty, stop, renewal }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Sets the number of the next group, and the tally of the groups before it.
    pub(super) fn continue_at(&mut self, next: u64, tally: Tally) {
        (self.next, self.tally) = (next, tally);
    }

    fn lost_to(&self, by: &str) -> StoreError {
        let by = if by.is_empty() { String::new() } else { format!(" ({by})") };
        StoreError::Lost { run: self.run.clone(), by }
    }

    /// Creates the group that is unsure.
    async fn write_unsure(&mut self) -> Result<(), StoreError> {
        let Some((bytes, count)) = &self.unsure else { return Ok(()) };
        let name = objects::group(&self.run, self.next);
        let sent_ms = Certainty::boot_ms();
        match create_own(&self.shared, &name, bytes).await? {
            Created::Own(_) => {
                // Another client would have created a group with this number first.
                self.certainty.prove(sent_ms);
                self.recorded += count;
                self.next += 1;
                self.unsure = None;
                Ok(())
            }
            Created::Taken => {
                let lease = self.shared.lease(&self.run).await.ok().flatten();
                let by = lease.filter(|(lease, _)| lease.token != self.token).map(|(lease, _)| lease.by());
                Err(self.lost_to(&by.unwrap_or_default()))
            }
        }
    }
}

#[async_trait]
impl Lease for Held {
    async fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let lost = self.lost.borrow().clone();
        if let Some(by) = lost {
            return Err(self.lost_to(&by));
        }
        self.write_unsure().await?;
        while let Some(rest) = entries.get(self.recorded..).filter(|rest| !rest.is_empty()) {
            let count = first_group(rest);
            self.tally.extend(&rest[..count]);
            let group = Group::new(&self.run, self.next, &self.token, rest[..count].to_vec(), self.tally.summary());
            self.unsure = Some((group.bytes(), count));
            self.write_unsure().await?;
        }
        self.recorded = 0;
        Ok(())
    }

    fn certainty(&self) -> Option<Certainty> {
        Some(self.certainty.clone())
    }

    async fn lost(&self) -> StoreError {
        let mut lost = self.lost.clone();
        let by = lost.wait_for(Option::is_some).await.ok().and_then(|by| by.clone());
        match by {
            Some(by) => self.lost_to(&by),
            // The renewal has ended for another reason.
            None => std::future::pending().await,
        }
    }

    async fn release(mut self: Box<Self>) -> Result<(), StoreError> {
        self.stop.send_replace(true);
        let ended = (&mut self.renewal).await.unwrap_or_default();
        let Some((mut lease, etag)) = ended else { return Ok(()) };
        lease.released = true;
        let name = objects::lease(&self.run);
        match self.shared.bucket().await?.replace(&name, &lease.bytes(), &etag).await {
            // Taken over, or in the state of a renewal whose answer was lost: then it expires.
            Ok(_) | Err(BucketError { problem: Problem::Conflict, .. }) => Ok(()),
            Err(error) => Err(self.shared.failed(error)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Returns the number of leading entries that fit into a group: at least one.
fn first_group(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += serde_json::to_vec(entry).map_or(0, |json| json.len());
        bytes <= FULL_GROUP
    };
    entries.iter().take_while(fits).count().max(1)
}

/// Renews a lease until it is stopped, and returns its last state; `None` once it is lost. An unreachable bucket is tried again:
/// as long as no other client has taken the lease, it is still this client's.
async fn renew(
    shared: Arc<Shared>,
    mut lease: LeaseObject,
    mut etag: Etag,
    certainty: Certainty,
    mut stop: watch::Receiver<bool>,
    report: watch::Sender<Option<String>>,
) -> Option<(LeaseObject, Etag)> {
    let name = objects::lease(&lease.run);
    let pause = lease.expiry() / RENEWALS;
    loop {
        if tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
            return Some((lease, etag));
        }
        let Ok(bucket) = shared.bucket().await else { continue };
        lease.renewals += 1;
        let sent_ms = Certainty::boot_ms();
        match bucket.replace(&name, &lease.bytes(), &etag).await {
            Ok(state) => {
                certainty.prove(sent_ms);
                etag = state.unwrap_or(etag);
            }
            Err(BucketError { problem: Problem::Conflict, .. }) => {
                let Ok(read) = bucket.read(&name, objects::MAX_LEASE).await else { continue };
                let now = read.and_then(|(bytes, state)| {
                    Some((LeaseObject::parse(&shared.address(&name), &lease.run, &bytes).ok()?, state?))
                });
                match now {
                    // An own renewal whose answer was lost.
                    Some((now, state)) if now.token == lease.token => etag = state,
                    other => {
                        report.send_replace(Some(other.map_or_else(String::new, |(now, _)| now.by())));
                        return None;
                    }
                }
            }
            Err(error) => drop(shared.failed(error)),
        }
    }
}
