//! Packs, from the repository to activated: one poll, then the process ends.
//!
//! ```text
//!  Source ─▶ Metadata ─▶ Chosen ─▶ Fetched ─▶ Verified ─▶ Staged ─▶ Checked ─▶ Configured ─▶ Equipped ─▶ Activated
//!   where     signed,     which     bytes on   the right   files     actions    the site's    its venv    `current`
//!             not older   version   disk       bytes       on disk   checked    file fits     is there    points to it
//! ```
//!
//! Each step takes the type of the step before, so none can be left out. A failure at any step leaves the active
//! version as it was and is written to `.status.json`; the failure of one pack does not stop the others. What failed is
//! tried again after a while, and a poll that finds nothing new writes nothing.
//! The process reads the network and therefore never runs as root; it writes nothing but the store.

mod activate;
mod cache;
mod check;
mod choose;
mod clock;
mod disk;
mod error;
mod facts;
mod fetch;
mod floor;
mod lookup;
mod marks;
mod metadata;
mod poll;
mod process;
mod prune;
mod push;
mod pushed;
mod retry;
pub(crate) mod root;
mod seen;
mod shadow;
mod site_config;
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

/// How long a poll waits for another one.
const IN_TURN: Duration = Duration::from_secs(60);

/// What one process of `bolt-sync` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// One poll.
    Poll(Occasion),
    /// Builds the virtual environments that polls have asked for, until the process with this number ends.
    Environments(i32),
}

/// The whole of `bolt-sync`: one poll, or the building of environments. 0 when it worked, also when a single pack failed; 1 when it did not, with one
/// line that says why.
pub fn main(config_path: &Path, work: Work) -> ExitCode {
    crate::log::start();
    match run(config_path, work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let peak_kb = process::peak_kb();
            tracing::error!(error = %error::chain(&error), peak_kb, "sync failed; active packs stay as they are");
            ExitCode::FAILURE
        }
    }
}

fn run(config_path: &Path, work: Work) -> Result<(), SyncError> {
    if nix::unistd::geteuid().is_root() {
        return Err(SyncError::Root);
    }
    // Api and launcher run as others and read what is written here.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let (config_path, config) = crate::config_file::read(config_path)?;
    let config_path = &config_path;
    process::bound();
    match work {
        Work::Poll(occasion) => poll_in_turn(&config, config_path, occasion),
        Work::Environments(launcher) => {
            venv::builder::run(&config, launcher, &|| poll_in_turn(&config, config_path, Occasion::Built))
        }
    }
}

/// Polls when no other process does: one that is due and one after a build may meet.
fn poll_in_turn(config: &Config, config_path: &Path, occasion: Occasion) -> Result<(), SyncError> {
    let until = Instant::now() + IN_TURN;
    loop {
        match poll::poll_and_build(config, config_path, occasion) {
            Err(SyncError::Busy(_)) if Instant::now() < until => std::thread::sleep(Duration::from_millis(100)),
            polled => return polled,
        }
    }
}

/// Refuses a trust anchor that others than root may change.
fn trusted(path: &Path) -> Result<(), SyncError> {
    let untrusted = |error| SyncError::file("trust", path)(std::io::Error::other(error));
    crate::trust::check(path, Purpose::Anchor).map_err(untrusted)
}

#[cfg(test)]
mod tests;
