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
use crate::local::{self, PROGRAMS};

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
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| local::binary(program).is_err()).collect();
    check_programs(&missing)?;
    let interrupt = interrupt::Interrupt::install()?;
    let place = keep::DemoDirectory::new(options)?;
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

/// Refuses to start without a program of the agent.
fn check_programs(missing: &[&str]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let directory = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let directory = directory.map_or_else(|| "its directory".to_owned(), |directory| crate::show::path(&directory));
    let problem = format!("the demo needs {} beside bolt, in {directory}", missing.join(", "));
    Err(Failure::new(Exit::Usage, problem)
        .hint("`cargo build --release --workspace` in the source directory builds all four programs; keep them in one directory"))
}

/// Ends a fleet that `bolt demo --keep` left up, and removes its directory.
pub fn stop(directory: &std::path::Path) -> Result<Exit, Failure> {
    keep::stop(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_how_to_build_it() {
        assert!(check_programs(&[]).is_ok());
        let failure = check_programs(&["bolt-launch", "bolt-sync"]).unwrap_err();
        assert!(failure.message.contains("bolt-launch, bolt-sync"), "{failure}");
        assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains("cargo build")), "{failure}");
    }
}
