//! `bolt-agent`: the resident program of the unprivileged agent, and the check of its configuration. It contains nothing that
//! only `bolt-sync` needs.

use std::path::PathBuf;
use std::process::ExitCode;

use bolt_agent::{VERSION, check_config, serve};

const HELP: &str = "\
bolt-agent: unprivileged part of the Bolt agent; bolt-launch starts it

usage: bolt-agent api --config <agent.toml> [--launcher-fd <n>]
       bolt-agent check-config [--config <agent.toml>] [--json]
       bolt-agent --version | --help

  api            run the REST interface, the executions and their history
    --launcher-fd <n>   inherited socket to bolt-launch (default 3)

  check-config   check agent.toml, grants.toml, certificates, keys, authorities, root.json, accounts, and the owners
                 and modes of all of them and of the directories, without starting anything and without the network.
                 Run it as root: it takes the permissions of the accounts that read the files.
    --config <path>     configuration to check (default /etc/bolt/agent.toml)
    --json              report as JSON
    exit status: 0 valid (warnings included), 1 problems found, 2 usage

environment: BOLT_LOG = error | warn | info | debug (default info)
  BOLT_LOG_FORMAT = text | json | journal (default journal where standard error is the journal's, otherwise text)
";

/// Parsed command line.
enum Arguments {
    Api { config: PathBuf, launcher: i32 },
    CheckConfig { config: PathBuf, json: bool },
    Version,
    Help,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Arguments::Api { config, launcher }) => serve::main(&config, launcher),
        Ok(Arguments::CheckConfig { config, json }) => {
            let report = check_config::check(&config);
            print!("{}", if json { report.to_json(&config) } else { report.to_text(&config) });
            if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(Arguments::Version) => {
            println!("bolt-agent {VERSION}");
            ExitCode::SUCCESS
        }
        Ok(Arguments::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bolt-agent: {message}; see bolt-agent --help");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let command = args.next().ok_or("a command is missing")?;
    match command.as_str() {
        "--version" | "-V" => return Ok(Arguments::Version),
        "--help" | "-h" | "help" => return Ok(Arguments::Help),
        "api" => {}
        "check-config" => return parse_check(args),
        "sync" => return Err("the sync is a separate program: bolt-sync".to_owned()),
        other => return Err(format!("unknown command {other:?}")),
    }
    let (mut config, mut launcher) = (None, 3);
    while let Some(option) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--config" => config = Some(PathBuf::from(value()?)),
            "--launcher-fd" => {
                let text = value()?;
                launcher = text.parse().map_err(|_| format!("--launcher-fd {text:?} is not a number"))?;
            }
            "--help" | "-h" => return Ok(Arguments::Help),
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    let config = config.ok_or("--config <agent.toml> is missing")?;
    Ok(Arguments::Api { config, launcher })
}

fn parse_check(mut args: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut config, mut json) = (PathBuf::from(check_config::DEFAULT), false);
    while let Some(option) = args.next() {
        match option.as_str() {
            "--config" => config = PathBuf::from(args.next().ok_or("--config needs a value")?),
            "--json" => json = true,
            "--help" | "-h" => return Ok(Arguments::Help),
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    Ok(Arguments::CheckConfig { config, json })
}
