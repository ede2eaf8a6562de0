//! The `bolt` command.

use std::process::ExitCode;

use bolt_client::cli::{self, Cli};
use clap::Parser as _;

fn main() -> ExitCode {
    cli::end_quietly_without_a_reader();
    let exit = cli::main(Cli::parse());
    ExitCode::from(exit as u8)
}
