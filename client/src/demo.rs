//! `bolt demo`: a small signed fleet on loopback, end to end, with nothing to set up.
//!
//! ```text
//!  fleet     lays out a local site, publishes the packs, starts six agents
//!  script    the story: what is shown, in which order, through the real command line
//!  interrupt turns Ctrl-C into a flag that every wait checks
//!  keep      leaves the fleet up for `--keep`, and stops it for `--stop`
//! ```
//!
//! Each step runs the same `bolt` that the user has, as a process, and prints its command line before it.

mod fleet;
mod interrupt;
mod keep;
mod packs;
mod say;
mod script;

use std::io::Write as _;
use std::path::PathBuf;

use crate::failure::{Exit, Failure};

/// Options of `bolt demo`.
#[derive(Debug, Clone, Default)]
pub struct DemoOptions {
    /// Leave the fleet up.
    pub keep: bool,
    /// Directory of the fleet; a new temporary one when absent.
    pub directory: Option<PathBuf>,
}

/// Shows the demo; with `keep` the fleet stays up and the end of the output says how to use and stop it.
pub fn run(options: &DemoOptions) -> Result<Exit, Failure> {
    let interrupt = interrupt::Interrupt::install()?;
    let place = keep::Place::new(options)?;
    let outcome = fleet::start(place.path(), &interrupt).and_then(|fleet| {
        script::play(&fleet, &interrupt)?;
        Ok(fleet)
    });
    match outcome {
        Ok(fleet) if options.keep => {
            let pids = fleet.detach();
            place.leave_up(&pids)?;
            Ok(Exit::Success)
        }
        Ok(fleet) => {
            fleet.stop();
            place.remove()?;
            say::say(
                "\nThe fleet is down and its directory is gone. `bolt demo --keep` leaves one up, to try for yourself:\n",
            );
            script::TO_TRY.iter().for_each(|line| say::say(&format!("  {line}")));
            Ok(Exit::Success)
        }
        // The fleet was dropped, and with it every process; the place goes when it is dropped.
        Err(failure) if interrupt.is_set() => {
            drop(failure);
            let _ = writeln!(std::io::stderr(), "\ninterrupted: the fleet is down");
            Ok(Exit::Interrupted)
        }
        Err(failure) => Err(failure),
    }
}

/// Ends a fleet that `bolt demo --keep` left up, and removes its directory.
pub fn stop(directory: &std::path::Path) -> Result<Exit, Failure> {
    keep::stop(directory)
}
