//! Every command that signs, against a repository that its storage's owner took over.

use clap::{CommandFactory as _, Parser};

use super::*;
use crate::cli::Color;
use crate::config::Config;
use crate::repo::tests::attacks::{in_use, take_over};
use crate::repo::tests::snapshot;

#[derive(Debug, Parser)]
struct Repo {
    #[command(subcommand)]
    command: RepoCommand,
}

/// The commands that sign, each with arguments that change something.
const SIGNING: [(&str, &str); 12] = [
    ("publish", "{demo} --channel prod"),
    ("unpublish", "demo 0.8.0"),
    ("promote", "demo --from dev --to prod --new-channel"),
    ("widen", "demo --channel dev --percent 50"),
    ("pause", "demo --channel dev"),
    ("resume", "demo --channel dev"),
    ("rollback", "demo --channel dev"),
    ("refresh", ""),
    ("rotate-root", "--root-expires 30d"),
    ("delegate", "dba demo --team-keys {dba}"),
    ("undelegate", "dba"),
    ("prune", ""),
];
/// The commands that sign nothing of an existing repository.
const NOT_SIGNING: [&str; 8] = ["init", "trust", "status", "log", "kms-key", "key-passphrase", "team-key", "help"];

fn run_in(bench: &crate::repo::tests::Bench, name: &str, arguments: &str) -> Result<Exit, Failure> {
    let at = |name: &str| bench.at(name).display().to_string();
    let arguments = arguments.replace("{demo}", &at("demo")).replace("{dba}", &at("dba"));
    let access = ["--repo", &at("repo"), "--keys", &at("keys")].map(str::to_owned);
    let words = ["repo", name].into_iter().chain(arguments.split_whitespace()).map(str::to_owned).chain(access);
    let Repo { command } = Repo::try_parse_from(words).unwrap_or_else(|e| panic!("{name}: {e}"));
    run(command, &Context::new(false, Color::Never, Config::default()))
}

#[test]
fn every_command_is_known_to_sign_or_not_to() {
    for command in Repo::command().get_subcommands() {
        let name = command.get_name();
        let is_known = SIGNING.iter().any(|(signing, _)| *signing == name) || NOT_SIGNING.contains(&name);
        assert!(is_known, "`bolt repo {name}` is in neither list: does it sign?");
    }
}

#[test]
fn no_command_signs_what_the_owner_of_the_storage_replaced() {
    for (name, arguments) in SIGNING {
        let bench = in_use();
        let before = snapshot(&bench.at("repo"));
        assert!(run_in(&bench, name, arguments).is_ok(), "{name} works otherwise");
        assert!(snapshot(&bench.at("repo")) != before || ["resume", "prune"].contains(&name), "{name} signs");

        let bench = in_use();
        take_over(&bench);
        let before = (snapshot(&bench.at("repo")), snapshot(&bench.at("keys")));
        let refused = run_in(&bench, name, arguments);
        assert!(matches!(&refused, Err(failure) if failure.exit == Exit::Storage), "{name}: {refused:?}");
        assert_eq!((snapshot(&bench.at("repo")), snapshot(&bench.at("keys"))), before, "{name} changed something");
    }
}
