//! Parses the command line with the declarations of one command where possible: to declare the options of all takes a millisecond,
//! a tenth of `bolt run` on one instance.
//!
//! ```text
//!  arguments ──names one of ALONE──▶ its declarations ──parsed──▶ Cli
//!      └──────────────no──────────────┐      └──not parsed: help, an error, another command
//!                                     └──────────▼
//!                                     the declarations of all commands ──▶ Cli | help or error
//! ```
//!
//! A line that parses with the declarations of one command means the same with those of all, since the first word that is no
//! option has to be its name.

use std::ffi::{OsStr, OsString};

use clap::{Args as _, Command, FromArgMatches as _, Parser as _};

use super::{Cli, Global, kill, logs, ps, run, show, wait};

/// Adds the options of a command.
type Declare = fn(Command) -> Command;

/// Commands that are parsed alone: those that scripts run often.
const ALONE: [(&str, Declare); 7] = [
    ("run", run::RunCommand::augment_args),
    ("ps", ps::PsCommand::augment_args),
    ("history", ps::HistoryCommand::augment_args),
    ("show", show::ShowCommand::augment_args),
    ("logs", logs::LogsCommand::augment_args),
    ("wait", wait::WaitCommand::augment_args),
    ("kill", kill::KillCommand::augment_args),
];

/// Parses the arguments of this process. The error is what clap has to say: help, or what is wrong.
pub fn parse() -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    parse_alone(&arguments).map_or_else(|| Cli::try_parse_from(&arguments), Ok)
}

/// Parses arguments that name a command of [`ALONE`]; `None` if they do not, or are to be parsed with the declarations of all commands.
fn parse_alone(arguments: &[OsString]) -> Option<Cli> {
    let named = |argument: &OsString| ALONE.iter().find(|(name, _)| argument.as_os_str() == OsStr::new(name));
    let (name, declare) = arguments.iter().skip(1).find_map(named)?;
    let command = Global::augment_args(Command::new("bolt"));
    let command = command.subcommand_required(true).subcommand(declare(Command::new(*name)));
    let mut matches = command.try_get_matches_from(arguments).ok()?;
    Cli::from_arg_matches_mut(&mut matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn a_line_means_the_same_with_the_declarations_of_one_command() {
        for line in [
            "bolt run linux.disk_usage path=/var --where app=='x' --by zone --max-failures 10% --json",
            "bolt --config c.toml run linux.disk_usage --all --batch 5 --timeout 10s --note why --yes",
            "bolt run --color=never cassandra.clear_snapshots --noop --on i-1,i-2 --params-file - --ca ca.pem",
            "bolt ps --state running --action linux.memory --since 2026-01-02 --limit 5 --run r-1",
            "bolt history --state failed --json",
            "bolt --json show 6e1d4cf1b2aa",
            "bolt logs -f 01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa --stream stderr --raw",
            "bolt wait r-1 --run-store /var/runs",
            "bolt kill --run r-1 --caller spiffe://x/ann --yes",
            "bolt --inventory ps show 6e1d4cf1b2aa",
        ] {
            let alone = parse_alone(&words(line));
            let all = Cli::try_parse_from(words(line));
            match line.contains("--inventory ps") {
                // The value of an option is taken for the command, and the line for one of another.
                true => assert!(alone.is_none() && all.is_ok(), "{line}"),
                false => assert_eq!(format!("{:?}", alone.unwrap()), format!("{:?}", all.unwrap()), "{line}"),
            }
        }
    }

    #[test]
    fn help_errors_and_other_commands_are_left_to_the_declarations_of_all() {
        for line in [
            "bolt",
            "bolt run --help",
            "bolt help run",
            "bolt run -V",
            "bolt --version",
            "bolt run",
            "bolt run linux.x --dry-run",
            "bolt actions",
            "bolt repo promote run --from test --to prod",
            "bolt runs ps",
            "bolt --config run",
        ] {
            assert!(parse_alone(&words(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn each_command_that_is_parsed_alone_is_declared() {
        let mut all = <Cli as clap::CommandFactory>::command();
        all.build();
        for (name, declare) in ALONE {
            let declared = declare(Command::new(name));
            let full = all.find_subcommand(name).unwrap();
            let missing =
                declared.get_arguments().find(|one| full.get_arguments().all(|two| one.get_id() != two.get_id()));
            assert!(missing.is_none(), "{name}: {missing:?}");
            let is_known = |id: &clap::Id| declared.get_arguments().any(|one| one.get_id() == id);
            let is_global = |id: &clap::Id| {
                ["help", "version"].contains(&id.as_str())
                    || all.get_arguments().any(|one| one.is_global_set() && one.get_id() == id)
            };
            let unknown = full.get_arguments().find(|one| !is_known(one.get_id()) && !is_global(one.get_id()));
            assert!(unknown.is_none(), "{name}: {unknown:?}");
        }
    }
}
