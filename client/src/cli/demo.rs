//! The `bolt demo` command.

use std::path::PathBuf;

use clap::Args;

use super::failure::{Exit, Failure};
use crate::demo::{self, DemoOptions};

/// A small signed fleet on loopback, end to end, with nothing to set up.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  bolt demo
  bolt demo --keep
  bolt demo --stop /tmp/bolt-demo-Ab12Cd")]
pub struct DemoCommand {
    /// Leave the fleet up, and say how to use and stop it.
    #[arg(long, conflicts_with = "stop")]
    keep: bool,
    /// Put the fleet here; a new or an empty directory.
    #[arg(long, value_name = "DIR", conflicts_with = "stop")]
    directory: Option<PathBuf>,
    /// Stop the fleet that --keep left in this directory, and remove it.
    #[arg(long, value_name = "DIR")]
    stop: Option<PathBuf>,
}

/// Runs the command. It has nothing to say in JSON: its output is a story for people.
pub fn run(command: DemoCommand, json: bool) -> Result<Exit, Failure> {
    if json {
        return Err(Failure::new(Exit::Usage, "bolt demo has no --json output").hint("leave out --json"));
    }
    // On a thread of its own: the script blocks, and the caller may be inside a runtime.
    let story = std::thread::spawn(move || match &command.stop {
        Some(directory) => demo::stop(directory),
        None => demo::run(&DemoOptions { keep: command.keep, directory: command.directory }),
    });
    story.join().unwrap_or_else(|_| Err(Failure::new(Exit::Failed, "the demo panicked; please report this")))
}
