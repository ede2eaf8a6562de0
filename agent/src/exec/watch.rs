//! Watching the directories of all live executions with one inotify descriptor.
//!
//! ```text
//!  exit renamed in, started written ──▶ Exec::reconcile_exit, reconcile_started, which read that file
//!  lock closed ───────────────────────▶ Exec::reconcile_released, which waits for its release and reads the directory
//!  output grew (only with followers) ─▶ Exec::notify_followers
//!  events were lost ──────────────────▶ Exec::reconcile and notify_followers, for every execution
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use packs_schema::agent::execution::file;
use packs_schema::base::name::ExecutionId;

use super::Exec;

/// Size of the read buffer: some hundred events.
const BUFFER: usize = 8 << 10;

/// Adds and removes watches.
pub(super) struct Watcher {
    /// `None`: the kernel has no inotify instance left for this user.
    watches: Mutex<Option<Watches>>,
    /// Execution of each watch.
    ids: Mutex<HashMap<WatchDescriptor, ExecutionId>>,
}

/// Events to watch in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchLevel {
    /// Starts and ends.
    States,
    /// Every write of output as well.
    Output,
}

impl Watcher {
    /// Creates a watcher that cannot watch anything yet.
    pub(super) fn new() -> Watcher {
        Watcher { watches: Mutex::new(None), ids: Mutex::new(HashMap::new()) }
    }

    /// Creates the inotify descriptor, from which [`run`] reads.
    pub(super) fn enable(&self) -> io::Result<Inotify> {
        let inotify = Inotify::init()?;
        lock(&self.ids).clear();
        *lock(&self.watches) = Some(inotify.watches());
        Ok(inotify)
    }

    /// Makes the watcher unavailable.
    pub(super) fn disable(&self) {
        lock(&self.watches).take();
    }

    /// True if the watcher has an inotify descriptor.
    pub(super) fn is_available(&self) -> bool {
        lock(&self.watches).is_some()
    }

    /// Watches a directory, or changes the level of its watch.
    pub(super) fn watch(&self, directory: &Path, id: &ExecutionId, level: WatchLevel) -> io::Result<WatchDescriptor> {
        let states = WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::ONLYDIR | WatchMask::DONT_FOLLOW;
        let mask = match level {
            WatchLevel::States => states,
            WatchLevel::Output => states | WatchMask::MODIFY | WatchMask::CREATE,
        };
        let mut watches = lock(&self.watches);
        let watches = watches.as_mut().ok_or(io::ErrorKind::Unsupported)?;
        let descriptor = watches.add(directory, mask)?;
        lock(&self.ids).insert(descriptor.clone(), id.clone());
        Ok(descriptor)
    }

    /// Returns the number of watches.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.ids).len()
    }

    /// Removes a watch.
    pub(super) fn forget(&self, descriptor: WatchDescriptor) {
        lock(&self.ids).remove(&descriptor);
        // Fails if the directory was removed, and its watch with it.
        if let Some(watches) = lock(&self.watches).as_mut() {
            let _ = watches.remove(descriptor);
        }
    }
}

/// Events of one execution in one read.
#[derive(Debug, Default, Clone, Copy)]
struct Changes {
    started: bool,
    exit: bool,
    output: bool,
    /// The lock was closed for the last time.
    lock_closed: bool,
}

/// Dispatches events until reading the descriptor fails.
pub(super) async fn run(inotify: Inotify, exec: Arc<Exec>) -> io::Result<()> {
    let mut descriptor = crate::sys::register(inotify)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut ready = descriptor.readable_mut().await?;
        let read = ready.try_io(|inner| collect(inner.get_mut(), &mut buffer, &exec.watcher));
        let changes = match read {
            Ok(changes) => changes?,
            Err(_would_block) => continue,
        };
        let Some(changes) = changes else {
            tracing::warn!("inotify events were lost; reconciling all executions");
            for id in exec.live_ids() {
                exec.notify_followers(&id);
                exec.reconcile(&id);
            }
            continue;
        };
        for (id, change) in changes {
            if change.output {
                exec.notify_followers(&id);
            }
            if change.exit && exec.reconcile_exit(&id) {
                continue;
            }
            if change.lock_closed {
                exec.reconcile_released(&id);
            } else if change.started {
                exec.reconcile_started(&id);
            }
        }
    }
}

/// Reads events, grouped by execution; `None` when events were lost.
fn collect(
    inotify: &mut Inotify,
    buffer: &mut [u8],
    watcher: &Watcher,
) -> io::Result<Option<BTreeMap<ExecutionId, Changes>>> {
    let mut changes: BTreeMap<ExecutionId, Changes> = BTreeMap::new();
    let mut overflow = false;
    for event in inotify.read_events(buffer)? {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            overflow = true;
            continue;
        }
        let Some(id) = lock(&watcher.ids).get(&event.wd).cloned() else { continue };
        let Some(name) = event.name.and_then(|name| name.to_str()) else { continue };
        let entry = changes.entry(id).or_default();
        match name {
            file::EXIT => entry.exit |= event.mask.contains(EventMask::MOVED_TO),
            file::STARTED => entry.started |= event.mask.intersects(EventMask::MOVED_TO | EventMask::CLOSE_WRITE),
            file::LOCK => entry.lock_closed |= event.mask.contains(EventMask::CLOSE_WRITE),
            file::OUTPUT => entry.output = true,
            tail if tail.starts_with("tail.") => entry.output = true,
            _ => {}
        }
    }
    Ok((!overflow).then_some(changes))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
