//! Time until which this client certainly has the right to carry out a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time of the last proof that a lease is this client's, and how long it is a proof: shorter than the time after which another
/// client may take over the run.
#[derive(Debug, Clone)]
pub struct Certainty {
    proved_ms: Arc<AtomicU64>,
    within: Duration,
}

impl Certainty {
    /// Returns a certainty that lasts for `within` from now on.
    pub fn new(within: Duration) -> Certainty {
        Certainty { proved_ms: Arc::new(AtomicU64::new(Certainty::boot_ms())), within }
    }

    /// Returns the time by the clock of the boot, which also counts while the host sleeps, in milliseconds.
    pub fn boot_ms() -> u64 {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
        time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// Notes a proof. `sent_ms` is the time before the request that was answered.
    pub fn prove(&self, sent_ms: u64) {
        self.proved_ms.fetch_max(sent_ms, Ordering::Relaxed);
    }

    /// Returns how long a proof lasts.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// True while the last proof is recent enough.
    pub fn holds(&self) -> bool {
        let age = Certainty::boot_ms().saturating_sub(self.proved_ms.load(Ordering::Relaxed));
        Duration::from_millis(age) < self.within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_lasts_from_its_request_on() {
        let certainty = Certainty::new(Duration::from_secs(3600));
        assert!(certainty.holds());
        let old = Certainty { proved_ms: Arc::new(AtomicU64::new(0)), within: Duration::from_millis(1) };
        assert!(!old.holds());
        old.prove(1);
        assert!(!old.holds(), "an answer to a request of long ago proves nothing");
        let long = Certainty { within: Duration::from_secs(3600), ..old };
        long.prove(Certainty::boot_ms());
        assert!(long.holds());
        long.prove(0);
        assert!(long.holds(), "proofs may arrive in any order");
    }
}
