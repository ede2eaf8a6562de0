//! `bolt-sync`: one poll of the repository, from metadata to activated packs; then the process ends.
//!
//! ```text
//!  Source ─▶ Metadata ─▶ Chosen ─▶ Fetched ─▶ Verified ─▶ Staged ─▶ Checked ─▶ Configured ─▶ Equipped ─▶ Activated
//!   where     signed,     which     bytes on   the right   files     actions    the site's    its venv    `current`
//!             not older   version   disk       bytes       on disk   checked    file fits     is there    points to it
//! ```
//!
//! Each step takes the type of the previous step, so none can be left out. A failure at any step leaves the active
//! version unchanged and is written to `.status.json`; the failure of one pack does not stop the others, nor does the end of the
//! process on one, out of memory or time, hold them up for longer than two polls (see `attempts`). Failed versions are
//! retried with backoff (see `retry`), and a poll that finds nothing new writes nothing (see `last_verified`).
//! The process reads the network and therefore never runs as root; it writes nothing but the store. It limits itself to
//! 256 MiB of memory of its own, 300 s of processor time and 590 s in total, at nice 10 (see `process`).

mod activate;
mod attempts;
mod cache;
mod check;
mod choose;
mod clock;
mod clock_floor;
mod directory;
mod disk;
mod error;
mod facts;
mod fetch;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod high_water_marks;
pub(crate) mod inspect;
mod last_verified;
mod lookup;
mod metadata;
mod poll;
mod process;
mod prune;
mod push;
mod push_overlay;
mod pushed;
mod retry;
pub(crate) mod root;
pub(crate) mod site_config;
mod source;
mod status;
mod store;
mod unpack;
mod venv;
mod withdrawn;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use packs_schema::agent::config::Config;
use packs_schema::base::trust::Purpose;

pub use error::SyncError;
pub use poll::{Occasion, poll};

/// Time limit for waiting for another poll.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// Work of one process of `bolt-sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Polls once.
    Poll(Occasion),
    /// Builds the virtual environments that polls have requested, until the process with this id ends.
    Environments(i32),
}

/// Runs `bolt-sync`: one poll, or the building of environments. The exit status is 0 on success, also if a single pack failed;
/// 1 on failure, with one log line that has the reason.
pub fn main(config_path: &Path, work: Work) -> ExitCode {
    crate::log::start("bolt-sync");
    match run(config_path, work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let peak_kb = process::peak_kb();
            tracing::error!(error = %error::chain(&error), peak_kb, "sync failed; active packs are unchanged");
            ExitCode::FAILURE
        }
    }
}

fn run(config_path: &Path, work: Work) -> Result<(), SyncError> {
    if nix::unistd::geteuid().is_root() {
        return Err(SyncError::Root);
    }
    // Api and launcher run as other accounts and read the files written here.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let (config_path, config) = crate::config_file::read(config_path)?;
    let config_path = &config_path;
    process::limit();
    match work {
        Work::Poll(occasion) => poll_in_turn(&config, config_path, occasion),
        Work::Environments(launcher) => {
            venv::builder::run(&config, launcher, &|| poll_in_turn(&config, config_path, Occasion::Built))
        }
    }
}

/// Polls when no other process does: a scheduled poll and a poll after a build may coincide.
fn poll_in_turn(config: &Config, config_path: &Path, occasion: Occasion) -> Result<(), SyncError> {
    let until = Instant::now() + BUSY_TIMEOUT;
    loop {
        match poll::poll_and_build(config, config_path, occasion) {
            Err(SyncError::Busy(_)) if Instant::now() < until => std::thread::sleep(Duration::from_millis(100)),
            polled => return polled,
        }
    }
}

/// Refuses a trust anchor that accounts other than root may change.
fn trusted(path: &Path) -> Result<(), SyncError> {
    let untrusted = |error| SyncError::file("trust", path)(std::io::Error::other(error));
    crate::trust::check(path, Purpose::Anchor).map_err(untrusted)
}

#[cfg(test)]
mod tests;
