//! Records the progress of a run while it is carried out: entries go to a task that writes all that have gathered as one group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use packs_schema::agent::rest::Execution;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::record::{Entry, StoredEnding};
use super::{Certainty, Lease, StoreError};
use crate::fleet::{Ending, Event, Fence};

/// Largest number of entries that are taken at once.
const GROUP: usize = 256;
/// Shortest time between the beginnings of two writes to a store on this host: each of them costs some processor time, and in
/// a fan-out instances end at all times. The end of the run waits for no other.
const PACE: Duration = Duration::from_millis(10);
/// Time after a failed write before the next attempt. Entries gather meanwhile: a few for each instance.
const RETRY: Duration = Duration::from_secs(5);
/// Maximum time for the last writes, when the run has ended.
const LAST: Duration = Duration::from_secs(15);

/// Records a run. When the store fails, the run goes on and the store is tried again; when another client has taken over the run,
/// [`Recorder::lost`] returns, and the run must stop.
pub struct Recorder {
    entries: mpsc::UnboundedSender<Entry>,
    /// Number of entries so far.
    added: Arc<AtomicU64>,
    writer: JoinHandle<Result<(), StoreError>>,
    written: watch::Receiver<Written>,
    certainty: Option<Certainty>,
}

/// Progress of the writer.
#[derive(Debug, Default)]
struct Written {
    /// Number of entries that are durable.
    count: u64,
    /// True since the last write failed.
    is_failing: bool,
    /// True once another client has taken over the run.
    is_lost: bool,
}

impl Recorder {
    /// Begins to record the run of `lease`. `on_failure` is called once, when the store fails for the first time or the run is
    /// lost.
    pub fn new(lease: Box<dyn Lease>, on_failure: impl FnOnce(&StoreError) + Send + 'static) -> Recorder {
        let (entries, given) = mpsc::unbounded_channel();
        let (progress, written) = watch::channel(Written::default());
        let certainty = lease.certainty();
        let writer = tokio::spawn(async move {
            let mut on_failure = Some(on_failure);
            let report = |error: &StoreError| {
                if let Some(on_failure) = on_failure.take() {
                    on_failure(error);
                }
            };
            let ended = write(lease, given, report, &progress).await;
            if let Err(StoreError::Lost { .. }) = &ended {
                progress.send_modify(|written| written.is_lost = true);
            }
            // Kept until here: without a sender, a waiter would see the end of the channel.
            drop(progress);
            ended
        });
        Recorder { entries, added: Arc::default(), writer, written, certainty }
    }

    /// Waits until another client has taken over the run; then nothing more may be started here. Cancel safe.
    pub async fn lost(&self) {
        let mut written = self.written.clone();
        if written.wait_for(|written| written.is_lost).await.is_err() {
            std::future::pending().await
        }
    }

    /// True once another client has taken over the run.
    pub fn is_lost(&self) -> bool {
        self.written.borrow().is_lost
    }

    /// Returns what gives permission for starts, which must be recorded before; `None` if no other client can take over the run.
    pub fn fence(&self) -> Option<Arc<dyn Fence>> {
        let certainty = self.certainty.clone()?;
        Some(Arc::new(RecordFence { certainty, added: self.added.clone(), written: self.written.clone() }))
    }

    /// Records an event.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Starting { target } => self.add(Entry::Starting { target: *target }),
            Event::CheckEnded { batch, has_passed: true, .. } => self.add(Entry::Checked { batch: *batch }),
            _ => {}
        }
    }

    /// Records how an instance ended, after secrets are masked in it.
    pub fn ended(
        &self,
        target: usize,
        ending: &Ending,
        mask_execution: impl Fn(&mut Execution),
        mask_text: impl Fn(&str) -> String,
    ) {
        let Some(mut ending) = StoredEnding::of(ending) else { return };
        match &mut ending {
            StoredEnding::Ended { execution } => mask_execution(execution),
            StoredEnding::Unreachable { message, .. } | StoredEnding::Refused { message, .. } => {
                *message = mask_text(message);
            }
        }
        self.add(Entry::Ended { target, ending: Box::new(ending) });
    }

    /// Adds an entry.
    pub fn add(&self, entry: Entry) {
        self.added.fetch_add(1, Ordering::Relaxed);
        // Without a receiver the run is lost, which was reported.
        let _ = self.entries.send(entry);
    }

    /// Waits until everything is written, for a bounded time, and gives up the right to carry out the run. Returns the error
    /// because of which the record is not complete.
    pub async fn finish(self) -> Result<(), StoreError> {
        drop(self.entries);
        self.writer.await.unwrap_or(Ok(()))
    }
}

/// Permission by the record: a lease that was renewed lately, or else a write, which fails if another client has the run.
#[derive(Debug)]
struct RecordFence {
    certainty: Certainty,
    added: Arc<AtomicU64>,
    written: watch::Receiver<Written>,
}

#[async_trait]
impl Fence for RecordFence {
    async fn may_start(&self) -> bool {
        let mut written = self.written.clone();
        if !self.certainty.holds() {
            let wanted = self.added.load(Ordering::Relaxed);
            let is_known = |written: &Written| written.is_lost || written.is_failing || written.count >= wanted;
            // Without an answer of the store the run goes on, as it does when the store fails.
            let _ = tokio::time::timeout(self.certainty.within(), written.wait_for(is_known)).await;
        }
        !written.borrow().is_lost
    }
}

/// Gathers entries until `until`, the end of the run, or a full group.
async fn gather(given: &mut mpsc::UnboundedReceiver<Entry>, group: &mut Vec<Entry>, until: Instant) {
    let is_end = |entry: &Entry| matches!(entry, Entry::Done { .. });
    let all = async {
        while group.len() < GROUP && !group.last().is_some_and(is_end) {
            if given.recv_many(group, GROUP).await == 0 {
                return;
            }
        }
    };
    // Cancel safe: what was received is in the group.
    let _ = tokio::time::timeout_at(until, all).await;
}

/// Writes the entries until there are no more senders.
async fn write(
    mut lease: Box<dyn Lease>,
    mut given: mpsc::UnboundedReceiver<Entry>,
    mut report: impl FnMut(&StoreError),
    progress: &watch::Sender<Written>,
) -> Result<(), StoreError> {
    let mut group = Vec::new();
    let mut failure: Option<(StoreError, Instant)> = None;
    loop {
        let retry = failure.as_ref().map(|(_, at)| *at);
        let has_gathered = !group.is_empty() && retry.is_none();
        let is_over = tokio::select! {
            biased;
            () = std::future::ready(()), if has_gathered => false,
            error = lease.lost() => {
                report(&error);
                return Err(error);
            }
            count = given.recv_many(&mut group, GROUP) => count == 0,
            () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => false,
        };
        if is_over {
            break;
        }
        if retry.is_some_and(|at| Instant::now() < at) {
            continue;
        }
        let began = Instant::now();
        match lease.append(&group).await {
            Ok(()) => {
                progress.send_modify(|written| {
                    written.count += group.len() as u64;
                    written.is_failing = false;
                });
                group.clear();
                failure = None;
                if lease.certainty().is_none() {
                    gather(&mut given, &mut group, began + PACE).await;
                }
            }
            Err(error) => {
                report(&error);
                if let StoreError::Lost { .. } = error {
                    return Err(error);
                }
                progress.send_modify(|written| written.is_failing = true);
                failure = Some((error, Instant::now() + RETRY));
            }
        }
    }
    let last = async {
        if !group.is_empty() {
            lease.append(&group).await?;
        }
        lease.release().await
    };
    match tokio::time::timeout(LAST, last).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            report(&error);
            Err(error)
        }
        Err(_) => {
            let problem = format!("no answer within {LAST:?}");
            let error = failure.map_or_else(
                || StoreError::Io { verb: "write", what: "the end of the record".to_owned(), problem },
                |(error, _)| error,
            );
            report(&error);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Number of entries of each write.
    type Writes = Arc<Mutex<Vec<usize>>>;

    /// Lease that notes its writes.
    struct Noting(Writes);

    #[async_trait]
    impl Lease for Noting {
        async fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
            self.0.lock().unwrap().push(entries.len());
            Ok(())
        }

        async fn lost(&self) -> StoreError {
            std::future::pending().await
        }

        async fn release(self: Box<Self>) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn entries_gather_between_writes_and_none_is_left_out() {
        let writes = Writes::default();
        let recorder = Recorder::new(Box::new(Noting(writes.clone())), |error| panic!("{error}"));
        for target in 0..100 {
            recorder.add(Entry::Starting { target });
            // The writer runs before the next one.
            tokio::task::yield_now().await;
        }
        recorder.add(Entry::Done { at_ms: 7, stopped: None });
        recorder.finish().await.unwrap();
        let writes = writes.lock().unwrap();
        assert_eq!((writes[0], writes.iter().sum::<usize>()), (1, 101), "{writes:?}");
        // Each of them waits for an interval after the one before, which 100 entries do not take.
        assert!(writes.len() < 50, "{writes:?}");
    }

    #[tokio::test]
    async fn entries_that_do_not_end_the_run_are_written_while_it_goes_on() {
        let writes = Writes::default();
        let recorder = Recorder::new(Box::new(Noting(writes.clone())), |error| panic!("{error}"));
        for target in 0..3 {
            recorder.add(Entry::Starting { target });
            let mut written = recorder.written.clone();
            written.wait_for(|written| written.count == target as u64 + 1).await.unwrap();
        }
        assert_eq!(*writes.lock().unwrap(), [1, 1, 1]);
        recorder.finish().await.unwrap();
    }
}
