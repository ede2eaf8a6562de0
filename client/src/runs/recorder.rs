//! Records the progress of a run while it is carried out: entries go to a task that writes all that have gathered as one group.

use std::sync::Arc;

use packs_schema::agent::rest::Execution;
use packs_schema::base::name::RunId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::record::{Entry, StoredEnding};
use super::{Lease, RunStore, StoreError};
use crate::fleet::{Ending, Event};

/// Largest number of entries in a group.
const GROUP: usize = 256;

/// Records a run. When the store fails, the run goes on; [`Recorder::finish`] returns the first error.
pub struct Recorder {
    entries: mpsc::UnboundedSender<Entry>,
    writer: JoinHandle<Result<(), StoreError>>,
    _lease: Box<dyn Lease>,
}

impl Recorder {
    /// Begins to record `run`. `on_failure` is called once, when the store fails for the first time.
    pub fn new(
        store: Arc<dyn RunStore>,
        run: RunId,
        lease: Box<dyn Lease>,
        on_failure: impl FnOnce(&StoreError) + Send + 'static,
    ) -> Recorder {
        let (entries, mut given) = mpsc::unbounded_channel();
        let writer = tokio::spawn(async move {
            let mut group = Vec::new();
            while given.recv_many(&mut group, GROUP).await > 0 {
                if let Err(error) = store.append(&run, &group).await {
                    on_failure(&error);
                    return Err(error);
                }
                group.clear();
            }
            Ok(())
        });
        Recorder { entries, writer, _lease: lease }
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
        // Without a receiver the store has failed, which was reported.
        let _ = self.entries.send(entry);
    }

    /// Waits until everything is written.
    pub async fn finish(self) -> Result<(), StoreError> {
        drop(self.entries);
        self.writer.await.unwrap_or(Ok(()))
    }
}
