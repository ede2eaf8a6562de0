//! Runs a command and reports its peak resident memory: `bolt-peak FILE COMMAND [ARGUMENT …]` writes it to FILE, in kB.
//!
//! A program of its own because the kernel also counts, for a child, the peak of the process that started it: the tests' own is too large.

use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), Some(program)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bolt-peak FILE COMMAND [ARGUMENT ...]");
        return ExitCode::from(2);
    };
    let status = Command::new(program).args(arguments).status();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    match (status, usage) {
        (Ok(status), Ok(usage)) if std::fs::write(&file, usage.max_rss().to_string()).is_ok() => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        failed => {
            eprintln!("bolt-peak: cannot run the command or write its figure: {failed:?}");
            ExitCode::FAILURE
        }
    }
}
