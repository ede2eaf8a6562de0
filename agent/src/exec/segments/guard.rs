//! Readers of segments, so that retention does not remove what is being read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use packs_schema::base::name::ExecutionId;

/// Number of readers per execution.
#[derive(Debug, Default)]
pub(in crate::exec) struct SegmentReaders(Mutex<HashMap<ExecutionId, usize>>);

impl SegmentReaders {
    /// True if the output of this execution is being read.
    pub(in crate::exec) fn has_any(&self, id: &ExecutionId) -> bool {
        self.lock().contains_key(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ExecutionId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the segments of an execution in place until it is dropped.
#[derive(Debug)]
pub struct ReadGuard {
    readers: Arc<SegmentReaders>,
    id: ExecutionId,
}

impl ReadGuard {
    /// Registers a reader.
    pub(in crate::exec) fn acquire(readers: &Arc<SegmentReaders>, id: &ExecutionId) -> ReadGuard {
        *readers.lock().entry(id.clone()).or_default() += 1;
        ReadGuard { readers: readers.clone(), id: id.clone() }
    }
}

impl Clone for ReadGuard {
    fn clone(&self) -> ReadGuard {
        ReadGuard::acquire(&self.readers, &self.id)
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        let mut readers = self.readers.lock();
        if let Some(count) = readers.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.id);
            }
        }
    }
}
