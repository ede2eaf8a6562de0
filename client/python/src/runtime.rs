//! The runtime of this process, made at its first use. A child that was forked after that gets an error: its copy of the runtime
//! has no threads, and locks of theirs may be held for ever.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fmt, io, process};

use nix::sys::signal::SigSet;
use tokio::runtime::{Builder, Handle, Runtime};

/// Id of the process that made the runtime; 0 before. Read without a lock: a child may be forked while one is held.
static OWNER: AtomicU32 = AtomicU32::new(0);
static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();

/// Error returned where the runtime cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// The process was forked from this one, which had made the runtime.
    Forked(u32),
    /// The runtime cannot be made.
    Failed(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Forked(owner) => write!(
                f,
                "process {} was forked from process {owner}, which had used bolt_fleet: threads are not copied by a fork; use the \
                 start method \"spawn\" or \"forkserver\", or make the first call in the child",
                process::id()
            ),
            Unusable::Failed(problem) => write!(f, "cannot start the threads of bolt_fleet: {problem}"),
        }
    }
}

/// Checks that this process did not get its runtime by a fork.
pub(crate) fn check() -> Result<(), Unusable> {
    match OWNER.load(Ordering::Acquire) {
        0 => Ok(()),
        owner if owner == process::id() => Ok(()),
        owner => Err(Unusable::Forked(owner)),
    }
}

/// Returns the runtime of this process.
pub(crate) fn handle() -> Result<Handle, Unusable> {
    // The first of several threads decides; all have the same id.
    let _ = OWNER.compare_exchange(0, process::id(), Ordering::AcqRel, Ordering::Acquire);
    check()?;
    let made = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().enable_all().thread_name("bolt-fleet").on_thread_start(block_signals).build()
    });
    match made {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(error) => Err(Unusable::Failed(error.to_string())),
    }
}

/// Leaves all signals to Python's threads.
pub(crate) fn block_signals() {
    // Cannot fail for a valid set; programs of the inventory start with an empty mask.
    let _ = SigSet::all().thread_block();
}
