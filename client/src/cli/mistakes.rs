//! Options and commands of other tools that people try, and the ones of `bolt` that they mean. They are only hinted at: none
//! of them is accepted.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory as _};

use super::Cli;

/// Options by other names, and the option of `bolt`. A line holds only for commands that have the option on its right.
const OPTIONS: [(&[&str], &str); 16] = [
    (&["--dry-run", "--dryrun", "--check", "--what-if", "--no-op", "--simulate"], "noop"),
    (&["--host", "--hosts", "--target", "--targets", "--limit", "--instance", "--instances"], "on"),
    (&["--node", "--nodes", "--instance-id", "--instance-ids", "--server", "--servers", "-t", "-i"], "on"),
    (&["--tail", "--lines", "--max", "--count", "-n"], "limit"),
    (&["--filter", "--selector", "--query", "--match", "-l"], "where"),
    (&["--skip", "--except", "--not", "--without"], "exclude"),
    (&["--all-hosts", "--all-instances", "--all-nodes", "--all-targets"], "everywhere"),
    (&["--concurrency", "--max-concurrency", "--forks", "--jobs", "-j"], "parallel"),
    (&["--serial", "--batch-size"], "batch"),
    (&["--max-errors", "--max-fail-percentage"], "max-failures"),
    (&["--background", "--async", "--no-wait"], "detach"),
    (&["--force", "--assume-yes", "--no-confirm", "-y"], "yes"),
    (&["--message", "--comment", "--reason", "-m"], "note"),
    (&["--vars-file", "--parameters-file", "--params"], "params-file"),
    (&["--output", "--format", "-o"], "json"),
    (&["--certificate", "--tls-cert", "--client-cert"], "cert"),
];

/// Commands by other names, and what to do instead.
const COMMANDS: [(&[&str], &str); 9] = [
    (
        &["command", "task", "plan", "script", "apply"],
        "this is not Puppet Bolt: `bolt run <pack>.<action>` runs an action",
    ),
    (&["stop", "cancel", "abort", "terminate"], "did you mean `bolt kill`?"),
    (
        &["list", "ls", "status"],
        "`bolt ps` lists executions, `bolt instances` instances, `bolt actions` what can be run",
    ),
    (&["exec", "execute", "start", "call", "invoke"], "did you mean `bolt run <pack>.<action>`?"),
    (&["hosts", "nodes", "targets", "host", "instance"], "did you mean `bolt instances`?"),
    (&["log", "output", "tail"], "did you mean `bolt logs`?"),
    (&["get", "describe", "inspect"], "did you mean `bolt show`?"),
    (&["jobs", "executions"], "did you mean `bolt ps`?"),
    (&["publish", "promote", "rollback"], "these are commands of `bolt repo`: `bolt repo --help` lists them"),
];

/// Returns what was probably meant by a command line that clap refused; `arguments` begin with the program.
pub(super) fn hint(error: &clap::Error, arguments: &[String]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let wrong = text(ContextKind::InvalidSubcommand)?;
            let before = arguments.iter().take_while(|argument| *argument != wrong);
            let is_top = command(before).get_name() == "bolt";
            COMMANDS
                .iter()
                .filter(|_| is_top)
                .find(|(names, _)| names.contains(&wrong))
                .map(|(_, hint)| (*hint).to_owned())
        }
        ErrorKind::UnknownArgument => {
            let wrong = text(ContextKind::InvalidArg)?;
            option(&command(arguments.iter()), wrong).or_else(|| several_ids(arguments, wrong))
        }
        ErrorKind::ValueValidation => {
            let (argument, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
            // An action that is only misspelt may follow --on as well: another one must be there.
            let is_elsewhere = || arguments.iter().any(|other| other.contains('.') && !other.contains(['=', '/']));
            let is_positional = !argument.starts_with('-') && (!argument.contains("ACTION") || is_elsewhere());
            is_positional.then(|| several_ids(arguments, value))?
        }
        _ => None,
    }
}

/// Returns the hint for an option that `command` does not have.
fn option(command: &Command, wrong: &str) -> Option<String> {
    if command.get_name() == "logs" && ["--tail", "--lines", "-n"].contains(&wrong) {
        return Some(
            "`bolt logs` has no such option: use `bolt logs … | tail -n 20`, or -f to follow the output".to_owned(),
        );
    }
    let has = |long: &str| {
        ["json", "cert"].contains(&long) || command.get_arguments().any(|argument| argument.get_long() == Some(long))
    };
    let found = OPTIONS.iter().find(|(names, long)| names.contains(&wrong) && has(long));
    found.map(|(_, long)| format!("did you mean --{long}?"))
}

/// Returns the hint for ids that are separated by spaces: `--on i-1 i-2`.
fn several_ids(arguments: &[String], wrong: &str) -> Option<String> {
    let on = arguments.iter().position(|argument| argument == "--on")?;
    let ids: Vec<&str> = arguments
        .iter()
        .skip(on + 1)
        .map(String::as_str)
        .take_while(|id| !id.starts_with('-') && !id.contains(['.', '=']))
        .collect();
    let are_these = ids.iter().skip(1).any(|id| *id == wrong);
    are_these.then(|| format!("several ids are separated by commas: --on {}", ids.join(",")))
}

/// Finds the command that `arguments` name.
fn command<'a>(arguments: impl Iterator<Item = &'a String>) -> Command {
    let mut found = Cli::command();
    for argument in arguments.skip(1) {
        if let Some(inner) = found.find_subcommand(argument) {
            found = inner.clone();
        }
    }
    found
}

/// Removes clap's own suggestions.
pub(super) fn remove_tips(error: &mut clap::Error) {
    use ContextKind::{Suggested, SuggestedArg, SuggestedSubcommand, SuggestedValue};
    for kind in [Suggested, SuggestedArg, SuggestedSubcommand, SuggestedValue] {
        error.remove(kind);
    }
}

/// Replaces clap's own suggestions by `hint`.
pub(super) fn replace_tips(error: &mut clap::Error, hint: &str) {
    remove_tips(error);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.to_owned().into()]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn hinted(line: &str) -> Option<String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let error = Cli::try_parse_from(&arguments).map(|_| ()).unwrap_err();
        hint(&error, &arguments)
    }

    #[test]
    fn what_other_tools_call_it_is_translated() {
        for (line, part) in [
            ("bolt run linux.x --dry-run", "--noop"),
            ("bolt run linux.x --limit i-1", "--on"),
            ("bolt run linux.x --host=i-1", "--on"),
            ("bolt --config c.toml run linux.x --targets i-1", "--on"),
            ("bolt ps --target i-1", "--on"),
            ("bolt history -n 5", "--limit"),
            ("bolt logs -n 5 6e1d4cf1b2aa", "tail -n"),
            ("bolt logs 6e1d4cf1b2aa --tail 5", "tail -n"),
            ("bolt stop 6e1d4cf1b2aa", "bolt kill"),
            ("bolt list", "bolt ps"),
            ("bolt command run uptime --targets i-1", "not Puppet Bolt"),
            ("bolt plan run x", "bolt run <pack>.<action>"),
            ("bolt run linux.x --on i-1 i-2", "--on i-1,i-2"),
            ("bolt run --on i-1 i-2 i-3 linux.x", "--on i-1,i-2,i-3"),
            ("bolt ps --on i-1 i-2 --json", "--on i-1,i-2"),
        ] {
            let hint = hinted(line).unwrap_or_default();
            assert!(hint.contains(part), "{line}: {hint:?}");
        }
    }

    #[test]
    fn nothing_is_suggested_that_the_command_does_not_have() {
        for line in [
            "bolt ps --dry-run",
            "bolt pki show --tail x",
            "bolt repo list",
            "bolt run --on i-1 linux",
            "bolt run linux.x --xyz",
        ] {
            assert_eq!(hinted(line), None, "{line}");
        }
    }

    #[test]
    fn the_table_names_options_that_exist_and_commands_that_do_not() {
        let mut whole = Cli::command();
        whole.build();
        let run = whole.find_subcommand("run").unwrap();
        for (_, long) in OPTIONS {
            let of_run = run.get_arguments().any(|argument| argument.get_long() == Some(long));
            assert!(of_run || long == "limit", "--{long}");
        }
        for name in COMMANDS.iter().flat_map(|(names, _)| *names) {
            assert!(whole.find_subcommand(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_hint_takes_the_place_of_the_suggestions() {
        let arguments = ["bolt", "run", "linux.x", "--limit", "i-1"].map(str::to_owned);
        let mut error = Cli::try_parse_from(&arguments).map(|_| ()).unwrap_err();
        let hint = hint(&error, &arguments).unwrap();
        replace_tips(&mut error, &hint);
        let text = error.to_string();
        assert!(text.contains("tip: did you mean --on?") && text.matches("tip:").count() == 1, "{text}");
    }
}
