//! `bolt-sync`: one poll of the repository of packs, then the process ends. It is a separate program, so that the resident
//! `bolt-agent` contains neither the AWS SDK nor the unpacking.

use std::path::PathBuf;
use std::process::ExitCode;

use bolt_agent::sync::{self, Occasion, Work};

const HELP: &str = "\
bolt-sync: one poll of the repository of packs; bolt-launch starts it

usage: bolt-sync --config <agent.toml> [--asked]
       bolt-sync --version | --help

  --asked   a caller asked for this poll: also retry what failed before

environment: BOLT_LOG = error | warn | info | debug (default info)
  BOLT_LOG_FORMAT = text | json | journal (default journal where standard error is the journal's, otherwise text)
  for a repository in a bucket: AWS_* for credentials and region; HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE,
  SSL_CERT_DIR, AWS_CA_BUNDLE
";

/// Parsed command line.
enum Arguments {
    Work { config: PathBuf, work: Work },
    Version,
    Help,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Arguments::Work { config, work }) => sync::main(&config, work),
        Ok(Arguments::Version) => {
            println!("bolt-sync {}", bolt_agent::VERSION);
            ExitCode::SUCCESS
        }
        Ok(Arguments::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bolt-sync: {message}; see bolt-sync --help");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut config, mut work) = (None, Work::Poll(Occasion::Due));
    while let Some(option) = args.next() {
        match option.as_str() {
            "--config" => config = Some(PathBuf::from(args.next().ok_or("--config needs a value")?)),
            "--asked" => work = Work::Poll(Occasion::Asked),
            // Started by a poll, to build virtual environments in the background.
            "--environments" => {
                let launcher = args.next().and_then(|pid| pid.parse().ok());
                work = Work::Environments(launcher.ok_or("--environments needs a process id")?);
            }
            "--version" | "-V" => return Ok(Arguments::Version),
            "--help" | "-h" => return Ok(Arguments::Help),
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    let config = config.ok_or("--config <agent.toml> is missing")?;
    Ok(Arguments::Work { config, work })
}
