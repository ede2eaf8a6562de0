//! `bolt-launch`: the privileged part of the Bolt agent. Single-threaded, without network access or parsers of foreign formats.
//! Accepts four requests over an inherited socket, checks them against the store of activated packs, and forks shims.
//!
//! [`host`] is prepared once; [`serve`] waits for requests and keeps `bolt-agent` running; [`start`], [`accept`] and [`kill`]
//! carry out requests; [`shim`] supervises one execution. `unsafe` is only in [`sys`]. Modules import without circles: `sys`,
//! `dir`, `proc`, `log` ← `cgroup`, `uids`, `accepted` ← `shim` ← `shims` ← `host` ← `execution_dir` ← `start` ← `accept`, `kill` ←
//! `clean_up` ← `serve`.

mod accept;
mod accepted;
mod account;
mod args;
mod cgroup;
mod clean_up;
mod clock;
mod dir;
mod execution_dir;
mod exit_file;
mod host;
mod ipc;
mod kill;
mod log;
mod parsed;
mod preparations;
mod proc;
#[cfg(test)]
#[path = "../../../tests/fixtures/records.rs"]
mod records;
mod refusal;
mod runtime_dir;
mod search_path;
mod serve;
mod shim;
mod shims;
mod start;
mod sys;
mod trust;
mod uids;

use std::io::Write;
use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    let result = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(args::HELP),
        Ok(Command::Version) => print(concat!("bolt-launch ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Serve { config, attach }) => serve::run(&config, attach).map_err(|e| log::error_chain(&e)),
        Err(e) => {
            log::exit(&e.to_string());
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            log::exit(&message);
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| format!("standard output: {e}"))
}
