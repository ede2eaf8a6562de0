//! Limits on the connections of this process, by its limit on open files (`RLIMIT_NOFILE`).
//!
//! ```text
//!  64 for files and the terminal │ sockets of connects in progress │ open connections: max_open()
//! ```
//!
//! A fan-out over thousands of instances makes a bounded number of connections at a time: more would not finish sooner, since
//! handshakes need processor time, and would fill queues of the kernel and of the agents. Executions in flight are bounded
//! apart from this, by the plan of a run and by [`max_open`]; they wait without connecting.

use std::sync::{Arc, LazyLock};

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that are left for files, the terminal and the runtime.
const RESERVED: u64 = 64;
/// Maximum number of connects in progress, TLS handshakes included. A distant instance needs about 0.2 s for one, and one that
/// does not answer holds its place for [`super::CONNECT_TIMEOUT`].
const MAX_CONNECTING: usize = 256;

static LIMITS: LazyLock<Limits> = LazyLock::new(|| {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((256, 256));
    Limits::of(soft)
});
static CONNECTING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(LIMITS.connecting)));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    connecting: usize,
    open: usize,
}

impl Limits {
    /// Divides a limit on open files. A connect may try two addresses of a host at once, so it counts twice.
    fn of(soft: u64) -> Limits {
        let available = usize::try_from(soft.saturating_sub(RESERVED)).unwrap_or(usize::MAX).max(3);
        let connecting = (available / 8).clamp(1, MAX_CONNECTING);
        Limits { connecting, open: available - connecting }
    }
}

/// Returns the maximum number of connections that this process may hold open.
pub fn max_open() -> usize {
    LIMITS.open
}

/// Place of a connect in progress; the next one begins when it is dropped.
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Waits for a place, first in, first out.
pub(super) async fn place() -> Place {
    // Never closed.
    Place { _permit: CONNECTING.clone().acquire_owned().await.ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_divided() {
        for (soft, connecting, open) in [
            (0, 1, 2),
            (64, 1, 2),
            (256, 24, 168),
            (1024, 120, 840),
            (4096, 256, 3776),
            (20_000, 256, 19_680),
            (u64::MAX, 256, usize::MAX - 64 - 256),
        ] {
            assert_eq!(Limits::of(soft), Limits { connecting, open }, "{soft}");
        }
        // Open connections and connects in progress fit together, with a second address for each connect.
        for soft in (100..100_000).step_by(37) {
            let limits = Limits::of(soft);
            assert!((limits.open + limits.connecting) as u64 + RESERVED <= soft, "{soft}: {limits:?}");
        }
    }
}
