//! Entries that must reach the file, whatever happens to it: appended and not durable yet, or waiting for a file that can be
//! written.
//!
//! A full file is made durable before the next one is begun, so that a failure in the next one finds some of them written. These
//! are known by their sequence numbers, and never written again.

use std::collections::VecDeque;
use std::io;

use packs_schema::agent::audit::{Entry, Head};
use packs_schema::base::name::ExecutionId;

use super::chain_file::ChainFile;

/// Entry that must reach the file.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) entry: Entry,
    /// Execution whose row has a mark until then.
    pub(super) execution: Option<ExecutionId>,
}

/// All entries that must reach the file.
#[derive(Debug, Default)]
pub(super) struct OwedEntries {
    /// Appended, and not known to be durable; with their sequence numbers, which rise.
    appended: Vec<(u64, Owed)>,
    /// Not appended, because the file cannot be written.
    waiting: VecDeque<Owed>,
}

impl OwedEntries {
    /// Takes an entry that was appended with this sequence number.
    pub(super) fn add_appended(&mut self, sequence: u64, owed: Owed) {
        self.appended.push((sequence, owed));
    }

    /// Takes an entry that waits until the file can be written.
    pub(super) fn add_waiting(&mut self, owed: Owed) {
        self.waiting.push_back(owed);
    }

    /// Returns those that wait and are of no execution: nothing else has them.
    pub(super) fn waiting_events(&self) -> impl Iterator<Item = &Entry> {
        self.waiting.iter().filter(|owed| owed.execution.is_none()).map(|owed| &owed.entry)
    }

    /// Forgets what is durable up to this sequence number; returns the executions among it.
    pub(super) fn settle(&mut self, durable: u64) -> Vec<ExecutionId> {
        let settled = self.appended.partition_point(|(sequence, _)| *sequence <= durable);
        self.appended.drain(..settled).filter_map(|(_, owed)| owed.execution).collect()
    }

    /// Has what was appended and is not settled wait again, before all that waits already: the file was rolled back.
    pub(super) fn take_back(&mut self) {
        for (_, owed) in self.appended.drain(..).rev() {
            self.waiting.push_front(owed);
        }
    }

    /// Appends what waits, and makes it durable. Returns what has become durable, also where the rest could not be written; that
    /// goes on waiting.
    pub(super) fn append_waiting(&mut self, changes: &mut ChainFile) -> (Vec<(Head, Entry)>, io::Result<()>) {
        let mut appended = Vec::new();
        let written = loop {
            let Some(owed) = self.waiting.pop_front() else { break changes.sync() };
            match changes.append(&owed.entry) {
                Ok(head) => appended.push((head, owed)),
                Err(error) => {
                    self.waiting.push_front(owed);
                    break Err(error);
                }
            }
        };
        let durable = changes.durable();
        let lost = appended.split_off(appended.partition_point(|(head, _): &(Head, Owed)| head.sequence <= durable));
        for (_, owed) in lost.into_iter().rev() {
            self.waiting.push_front(owed);
        }
        let published = appended.iter().map(|(head, owed)| (*head, owed.entry.clone())).collect();
        self.appended.extend(appended.into_iter().map(|(head, owed)| (head.sequence, owed)));
        (published, written)
    }
}
