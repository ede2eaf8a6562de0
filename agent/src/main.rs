//! `bolt-agent`: the unprivileged half of the agent.

use std::path::PathBuf;
use std::process::ExitCode;

use bolt_agent::sync::Occasion;
use bolt_agent::{VERSION, serve};

const HELP: &str = "\
bolt-agent: the unprivileged half of the Bolt agent; bolt-launch starts it

usage: bolt-agent api --config <agent.toml> [--launcher-fd <n>]
       bolt-agent sync --config <agent.toml> [--asked]
       bolt-agent --version | --help

  api    the REST interface, the executions and their history
  sync   one poll of the repository of packs

  --launcher-fd <n>   the inherited socket to bolt-launch (default 3)
  --asked             somebody asked for this poll: also try again what failed before

environment: BOLT_LOG = error | warn | info | debug (default info)
";

/// What the command line says.
enum Asked {
    Api { config: PathBuf, launcher: i32 },
    Sync { config: PathBuf, occasion: Occasion },
    Version,
    Help,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Asked::Api { config, launcher }) => serve::main(&config, launcher),
        Ok(Asked::Sync { config, occasion }) => bolt_agent::sync::main(&config, occasion),
        Ok(Asked::Version) => {
            println!("bolt-agent {VERSION}");
            ExitCode::SUCCESS
        }
        Ok(Asked::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bolt-agent: {message}; see bolt-agent --help");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let command = args.next().ok_or("a command is missing")?;
    match command.as_str() {
        "--version" | "-V" => return Ok(Asked::Version),
        "--help" | "-h" | "help" => return Ok(Asked::Help),
        "api" | "sync" => {}
        other => return Err(format!("unknown command {other:?}")),
    }
    let (mut config, mut launcher, mut occasion) = (None, 3, Occasion::Due);
    while let Some(option) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--config" => config = Some(PathBuf::from(value()?)),
            "--launcher-fd" if command == "api" => {
                let text = value()?;
                launcher = text.parse().map_err(|_| format!("--launcher-fd {text:?} is not a number"))?;
            }
            "--asked" if command == "sync" => occasion = Occasion::Asked,
            "--help" | "-h" => return Ok(Asked::Help),
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    let config = config.ok_or("--config <agent.toml> is missing")?;
    Ok(if command == "api" { Asked::Api { config, launcher } } else { Asked::Sync { config, occasion } })
}
