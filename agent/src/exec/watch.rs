//! One inotify descriptor on the directories of all executions that have not ended.
//!
//! ```text
//!  exit renamed in, started written, lock closed ──▶ Exec::reconcile, which reads the directory
//!  output grew (only while someone follows) ───────▶ Exec::stir, which wakes followers
//!  events were lost ───────────────────────────────▶ both, for every execution
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use packs_schema::agent::execution::file;
use packs_schema::base::name::ExecutionId;

use super::Exec;

/// Room for some hundred events.
const BUFFER: usize = 8 << 10;

/// What is watched.
pub(super) struct Watcher {
    /// `None`: the kernel has no instance for us.
    watches: Mutex<Option<Watches>>,
    ids: Mutex<HashMap<WatchDescriptor, ExecutionId>>,
}

/// How closely a directory is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Starts and ends.
    States,
    /// Each write of output as well.
    Output,
}

impl Watcher {
    /// The descriptor and its bookkeeping.
    pub(super) fn new() -> io::Result<(Option<Inotify>, Watcher)> {
        let inotify = Inotify::init()?;
        let watches = Mutex::new(Some(inotify.watches()));
        Ok((Some(inotify), Watcher { watches, ids: Mutex::new(HashMap::new()) }))
    }

    /// One that watches nothing.
    pub(super) fn none() -> Watcher {
        Watcher { watches: Mutex::new(None), ids: Mutex::new(HashMap::new()) }
    }

    /// Watches nothing from here on.
    pub(super) fn lose(&self) {
        lock(&self.watches).take();
    }

    /// True if it can watch at all.
    pub(super) fn works(&self) -> bool {
        lock(&self.watches).is_some()
    }

    /// Watches a directory, or changes how closely.
    pub(super) fn watch(&self, directory: &Path, id: &ExecutionId, care: Care) -> io::Result<WatchDescriptor> {
        let states = WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::ONLYDIR | WatchMask::DONT_FOLLOW;
        let mask = match care {
            Care::States => states,
            Care::Output => states | WatchMask::MODIFY | WatchMask::CREATE,
        };
        let mut watches = lock(&self.watches);
        let watches = watches.as_mut().ok_or(io::ErrorKind::Unsupported)?;
        let descriptor = watches.add(directory, mask)?;
        lock(&self.ids).insert(descriptor.clone(), id.clone());
        Ok(descriptor)
    }

    /// Stops watching.
    pub(super) fn forget(&self, descriptor: WatchDescriptor) {
        lock(&self.ids).remove(&descriptor);
        // The directory may have gone, and its watch with it.
        if let Some(watches) = lock(&self.watches).as_mut() {
            let _ = watches.remove(descriptor);
        }
    }
}

/// What was seen of one execution in one read.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    state: bool,
    output: bool,
    /// The lock was closed for the last time.
    lock_closed: bool,
}

/// Runs until the descriptor fails, which it does not.
pub(super) async fn run(inotify: Inotify, exec: Arc<Exec>) -> io::Result<()> {
    let mut descriptor = crate::sys::register(inotify)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut ready = descriptor.readable_mut().await?;
        let read = ready.try_io(|inner| collect(inner.get_mut(), &mut buffer, &exec.watcher));
        let seen = match read {
            Ok(seen) => seen?,
            Err(_would_block) => continue,
        };
        let Some(seen) = seen else {
            tracing::warn!("events of execution directories were lost; looking at all of them");
            for id in exec.live_ids() {
                exec.stir(&id);
                exec.reconcile(&id);
            }
            continue;
        };
        for (id, what) in seen {
            if what.output {
                exec.stir(&id);
            }
            if what.lock_closed {
                exec.reconcile_released(&id);
            } else if what.state {
                exec.reconcile(&id);
            }
        }
    }
}

/// The executions that something happened to; `None` when events were lost.
fn collect(
    inotify: &mut Inotify,
    buffer: &mut [u8],
    watcher: &Watcher,
) -> io::Result<Option<BTreeMap<ExecutionId, Seen>>> {
    let mut seen: BTreeMap<ExecutionId, Seen> = BTreeMap::new();
    let mut lost = false;
    for event in inotify.read_events(buffer)? {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            lost = true;
            continue;
        }
        let Some(id) = lock(&watcher.ids).get(&event.wd).cloned() else { continue };
        let Some(name) = event.name.and_then(|name| name.to_str()) else { continue };
        let entry = seen.entry(id).or_default();
        match name {
            file::EXIT => entry.state |= event.mask.contains(EventMask::MOVED_TO),
            file::STARTED => entry.state |= event.mask.intersects(EventMask::MOVED_TO | EventMask::CLOSE_WRITE),
            file::LOCK => entry.lock_closed |= event.mask.contains(EventMask::CLOSE_WRITE),
            file::OUTPUT => entry.output = true,
            tail if tail.starts_with("tail.") => entry.output = true,
            _ => {}
        }
    }
    Ok((!lost).then_some(seen))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
