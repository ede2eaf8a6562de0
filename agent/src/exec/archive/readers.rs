//! Who reads segments at this moment, so that nobody takes them away meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use packs_schema::base::name::ExecutionId;

/// How many read, by execution.
#[derive(Debug, Default)]
pub(in crate::exec) struct Readers(Mutex<HashMap<ExecutionId, usize>>);

impl Readers {
    /// True if somebody reads the output of this execution.
    pub(in crate::exec) fn any(&self, id: &ExecutionId) -> bool {
        self.lock().contains_key(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ExecutionId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody reads the output of an execution until this is dropped.
#[derive(Debug)]
pub struct Reading {
    readers: Arc<Readers>,
    id: ExecutionId,
}

impl Reading {
    pub(in crate::exec) fn begin(readers: &Arc<Readers>, id: &ExecutionId) -> Reading {
        *readers.lock().entry(id.clone()).or_default() += 1;
        Reading { readers: readers.clone(), id: id.clone() }
    }
}

impl Clone for Reading {
    fn clone(&self) -> Reading {
        Reading::begin(&self.readers, &self.id)
    }
}

impl Drop for Reading {
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
