//! `bolt-launch`: the privileged half of the Bolt agent. Single-threaded, no network, no parser of foreign formats: it
//! takes four requests over an inherited socket, checks them against the store of activated packs, and forks shims.
//!
//! [`host`] is prepared once; [`serve`] waits for requests and keeps `bolt-agent` running; [`start`] and [`kill`] do what
//! is asked; [`shim`] is what each execution becomes. `unsafe` is in [`sys`] and nowhere else.

mod accepted;
mod account;
mod args;
mod cgroup;
mod clock;
mod dir;
mod host;
mod ipc;
mod kill;
mod log;
mod proc;
mod serve;
mod shim;
mod start;
mod sys;
mod trust;
mod uids;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use args::Command;
use packs_schema::base::log_line;

fn main() -> ExitCode {
    let done = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(args::HELP),
        Ok(Command::Version) => print(concat!("bolt-launch ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Serve { config, attach }) => serve::run(&config, attach).map_err(|e| describe(&e)),
        Err(e) => {
            say(&e.to_string());
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::FAILURE
        }
    }
}

/// Writes why the launcher ends, as one line of the log.
fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "{}", log_line::escape_line(&format!("bolt-launch: {message}")));
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| format!("standard output: {e}"))
}

/// An error with what caused it.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}
