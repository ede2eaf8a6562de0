//! The `bolt` command.

use std::process::ExitCode;

use bolt_client::cli;

fn main() -> ExitCode {
    cli::answer_completion();
    cli::end_when_nothing_can_be_printed();
    let exit = match cli::parse() {
        Ok(cli) => cli::main(cli),
        Err(error) => cli::run_external(&error).unwrap_or_else(|| cli::explain(error)),
    };
    ExitCode::from(exit as u8)
}
