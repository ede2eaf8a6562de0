//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// Text of `--help`.
pub(crate) const HELP: &str = "\
Starts actions of activated packs, enforces their limits, and records how they ended.

Usage: bolt-launch serve --config <agent.toml> [--attach]

  serve               keep bolt-agent running, run bolt-sync at each poll, and start requested executions
    --config <path>   configuration file of the agent, such as /etc/bolt/agent.toml
    --attach          serve one client on standard input (a Unix stream socket); do not start bolt-agent and bolt-sync
  --help, -h          print this help
  --version, -V       print the version

environment: BOLT_LOG = error | warn | info | debug (default info), for bolt-agent and bolt-sync
  BOLT_LOG_FORMAT = text | json | journal (default journal where standard error is the journal's, otherwise text)
";

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `--help`
    Help,
    /// `--version`
    Version,
    /// `serve`
    Serve {
        /// `--config`
        config: PathBuf,
        /// `--attach`
        attach: bool,
    },
}

/// Error returned for an invalid command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error("no command given; usage: bolt-launch serve --config /etc/bolt/agent.toml")]
    NoCommand,
    #[error("unknown argument {0:?}; see bolt-launch --help")]
    Unknown(OsString),
    #[error("--config <path> is required; usage: bolt-launch serve --config /etc/bolt/agent.toml")]
    NoConfig,
}

/// Parses the arguments after the program's name.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, ArgsError> {
    let mut args = args;
    match args.next() {
        None => return Err(ArgsError::NoCommand),
        Some(first) if first == "--help" || first == "-h" => return Ok(Command::Help),
        Some(first) if first == "--version" || first == "-V" => return Ok(Command::Version),
        Some(first) if first == "serve" => {}
        Some(other) => return Err(ArgsError::Unknown(other)),
    }
    let (mut config, mut attach) = (None, false);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--config") => config = Some(PathBuf::from(args.next().ok_or(ArgsError::NoConfig)?)),
            Some("--attach") => attach = true,
            Some("--help" | "-h") => return Ok(Command::Help),
            _ => return Err(ArgsError::Unknown(arg)),
        }
    }
    Ok(Command::Serve { config: config.ok_or(ArgsError::NoConfig)?, attach })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Command, ArgsError> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn unknown_and_missing_arguments_are_errors() {
        let config = PathBuf::from("/c");
        assert_eq!(read(&["serve", "--config", "/c", "--attach"]), Ok(Command::Serve { config, attach: true }));
        assert_eq!(read(&["--version"]), Ok(Command::Version));
        assert_eq!(read(&[]), Err(ArgsError::NoCommand));
        assert_eq!(read(&["serve"]), Err(ArgsError::NoConfig));
        assert_eq!(read(&["serve", "--config"]), Err(ArgsError::NoConfig));
        assert_eq!(read(&["serve", "--confg", "/c"]), Err(ArgsError::Unknown("--confg".into())));
        assert_eq!(read(&["run"]), Err(ArgsError::Unknown("run".into())));
    }
}
