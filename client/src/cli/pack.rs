//! `bolt pack`: author a pack, try it on an instance, compare builds, and check the packs of an instance.

mod check;
pub(super) mod diff;
mod import;
pub(super) mod push;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use packs_schema::agent::config::PythonConfig;
use packs_schema::agent::execution::State;
use packs_schema::agent::execution::output::Stream;
use packs_schema::base::finding::Severity;
use packs_schema::base::name::PackName;
use packs_schema::base::quantity::{format_bytes, format_duration};
use serde_json::json;

use super::failure::{Exit, Failure};
use crate::pack::test::{TestError, TestOptions, TestOutcome};
use crate::pack::{self, PackError, Template};
use crate::parameters::Given;
use crate::show::{self, Visible, counted, visible};
use crate::{err, errln, out, outln};

/// First bytes of an archive (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Author a pack: scaffold, lint, test, build and try it on an instance.
#[derive(Debug, Subcommand)]
pub enum PackCommand {
    #[command(flatten)]
    Local(LocalCommand),
    /// Show what changes between two versions, channels or directories.
    Diff(diff::DiffCommand),
    /// Put a pack on instances without a signature, for a while, where their agent.toml allows it.
    Push(push::PushCommand),
    /// Remove a pushed version before it expires: the signed one is active again.
    Unpush(push::UnpushCommand),
}

/// Commands that need no instance.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Make a pack with one action that passes lint and test.
    #[command(after_help = "\
Examples:
  bolt pack new cassandra
  bolt pack new web --template ansible")]
    New {
        /// Its name, such as `cassandra`.
        name: PackName,
        /// Kind of action to begin with.
        #[arg(long, value_enum, default_value_t)]
        template: Template,
        /// Directory to make [default: ./NAME].
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Report errors and warnings about a pack. Exit code 1 on errors.
    #[command(after_help = "\
Example:
  bolt pack lint ./cassandra")]
    Lint {
        /// The pack's directory.
        dir: PathBuf,
    },
    /// Run an action here, as an agent would run it.
    #[command(after_help = "\
Examples:
  bolt pack test ./cassandra clear_snapshots older_than_days=7 --noop
  bolt pack test ./cassandra repair token=@token.txt --limits")]
    Test {
        /// The pack's directory.
        dir: PathBuf,
        /// The action's name.
        action: String,
        /// Parameters; NAME=@FILE takes the value from a file, as a secret must be.
        #[arg(value_name = "NAME=VALUE")]
        parameters: Vec<Given>,
        /// Dry run: the action only reports what it would do.
        #[arg(long)]
        noop: bool,
        /// Refuse when a limit cannot be enforced here.
        #[arg(long)]
        limits: bool,
        /// Run as the current user, whatever account the action names.
        #[arg(long)]
        run_as_me: bool,
        /// The per-site configuration that an agent would have.
        #[arg(long, value_name = "FILE")]
        site_config: Option<PathBuf>,
        /// The interpreter of the pack's virtual environment.
        #[arg(long, value_name = "FILE", default_value = "/usr/bin/python3")]
        python: PathBuf,
        /// Install what requirements.txt asks for from this directory of wheels, without a network.
        #[arg(long, value_name = "DIR")]
        wheels: Option<PathBuf>,
        /// Install what requirements.txt asks for from this package index.
        #[arg(long, value_name = "URL")]
        index: Option<String>,
    },
    /// Build the archive: the same bytes for the same files.
    #[command(after_help = "\
Example:
  bolt pack build ./cassandra -o cassandra.tar.gz")]
    Build {
        /// The pack's directory.
        dir: PathBuf,
        /// File to write [default: ./PACK-VERSION.tar.gz].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// On an instance: compare the files of its packs with their manifests. Exit code 1 when anything differs.
    Check(check::CheckCommand),
    Import(import::ImportCommand),
}

/// Runs a command of `bolt pack`.
pub fn run(command: LocalCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        LocalCommand::New { name, template, dir } => new(&name, template, dir, json),
        LocalCommand::Lint { dir } => lint(&dir, json),
        LocalCommand::Build { dir, output } => build(&dir, output, json),
        LocalCommand::Check(command) => check::run(&command, json),
        LocalCommand::Import(command) => import::run(&command, json),
        LocalCommand::Test { dir, action, parameters, noop, limits, run_as_me, site_config, python, wheels, index } => {
            let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
            let wheels = wheels.map(absolute);
            if let Some(missing) = wheels.as_ref().filter(|wheels| !wheels.is_dir()) {
                let problem = format!("there is no directory {}, which --wheels names", show::path(missing));
                return Err(Failure::new(Exit::Usage, problem));
            }
            // The author tries what is not pinned yet; an agent wants hashes, unless its site says otherwise.
            let python = PythonConfig {
                interpreter: absolute(python),
                wheels,
                index,
                require_hashes: false,
                ..PythonConfig::default()
            };
            let require_limits = limits;
            let options =
                TestOptions { pack: dir, action, parameters, noop, require_limits, run_as_me, site_config, python };
            test(&options, json)
        }
    }
}

fn new(name: &PackName, template: Template, dir: Option<PathBuf>, json: bool) -> Result<Exit, Failure> {
    let dir = dir.unwrap_or_else(|| PathBuf::from(name.as_str()));
    pack::scaffold(name, template, &dir).map_err(|e| failure(&e))?;
    if json {
        outln!("{}", show::json_line(&json!({"pack": name, "path": dir})));
    } else {
        outln!("{}", show::path(&dir));
        let (dir, trial) = (show::path(&dir), template.trial());
        errln!("next: bolt pack lint {dir} && bolt pack test {dir} {trial} && bolt pack build {dir}");
    }
    Ok(Exit::Success)
}

fn lint(dir: &Path, json: bool) -> Result<Exit, Failure> {
    let report = pack::lint(dir).map_err(|e| failure(&e))?;
    if json {
        outln!("{}", show::json_line(&json!({"builds": report.builds(), "findings": report.findings})));
    } else {
        for finding in &report.findings {
            outln!("{}", visible(&finding.to_string()));
        }
        let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        errln!("{}: {}, {}", show::path(dir), counted(errors, "error"), counted(warnings, "warning"));
    }
    Ok(if report.builds() { Exit::Success } else { Exit::Failed })
}

fn build(dir: &Path, output: Option<PathBuf>, json: bool) -> Result<Exit, Failure> {
    let built = pack::build(dir).map_err(|e| failure(&e))?;
    let output = output.unwrap_or_else(|| format!("{}-{}.tar.gz", built.pack.name, built.pack.version).into());
    refuse_other_file(&output)?;
    fs::File::create(&output)
        .and_then(|mut file| io::copy(&mut built.archive.reader(), &mut file))
        .map_err(|e| Failure::new(Exit::Storage, format!("cannot write {}: {e}", show::path(&output))))?;
    let size = built.archive.size_bytes();
    if json {
        let built = json!({"path": output, "pack": built.pack.name, "version": built.pack.version,
            "digest": built.digest, "size_bytes": size});
        outln!("{}", show::json_line(&built));
    } else {
        outln!("{}  sha256:{}  {}", show::path(&output), built.digest, format_bytes(size));
    }
    Ok(Exit::Success)
}

/// Refuses to replace a file that is not an archive.
fn refuse_other_file(path: &Path) -> Result<(), Failure> {
    // A device or a pipe is written to, and nothing is lost.
    if !path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
        return Ok(());
    }
    let mut start = [0; 2];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    if read.is_ok() && start == GZIP {
        return Ok(());
    }
    let problem = format!("{} exists and is not an archive", show::path(path));
    Err(Failure::new(Exit::Usage, problem).hint("name another file, or remove this one first"))
}

fn test(options: &TestOptions, json: bool) -> Result<Exit, Failure> {
    let outcome = pack::test::run(options).map_err(|e| test_failure(&e))?;
    if json {
        outln!("{}", show::json_line(&outcome_json(&outcome)));
    } else {
        print_outcome(&outcome);
    }
    Ok(match outcome.exit.state {
        _ if outcome.interrupted => Exit::Interrupted,
        State::Succeeded => Exit::Success,
        _ => Exit::Failed,
    })
}

/// The action's streams on ours, then what became of it.
fn print_outcome(outcome: &TestOutcome) {
    let (mut out, mut err) = (Visible::default(), Visible::default());
    for piece in &outcome.output {
        if piece.dropped_bytes > 0 {
            errln!("[… {} of {:?} not kept …]", format_bytes(piece.dropped_bytes), piece.stream);
        }
        match piece.stream {
            Stream::Stdout => out!("{}", out.push(&piece.data)),
            Stream::Stderr => err!("{}", err.push(&piece.data)),
        }
    }
    out!("{}", out.finish());
    err!("{}", err.finish());
    let exit = &outcome.exit;
    if let Some(result) = &exit.result {
        outln!("result: {}", visible(&serde_json::Value::Object(result.clone()).to_string()));
    }
    let mut said =
        format!("{} after {}", exit.state, format_duration(std::time::Duration::from_millis(exit.duration_ms)));
    if let Some(status) = exit.exit_status {
        said += &format!(", exit status {status}");
    }
    if let Some(signal) = exit.signal {
        said += &format!(", signal {signal}");
    }
    let cpu = std::time::Duration::from_micros(exit.usage.user_us + exit.usage.system_us);
    said += &format!(", {} CPU", format_duration(cpu));
    if let Some(peak) = exit.usage.peak_memory_bytes {
        said += &format!(", peak memory {}", format_bytes(peak));
    }
    errln!("{said}");
    for line in exit.reason.iter().chain(&exit.result_error) {
        errln!("{}", visible(line));
    }
    if let Some(said) = exit.leftovers.as_ref().and_then(|left| left.describe(exit.state)) {
        errln!("{}", visible(&said));
    }
    for line in &exit.unenforced {
        errln!("not enforced here: {}", visible(line));
    }
}

fn outcome_json(outcome: &TestOutcome) -> serde_json::Value {
    let output: Vec<serde_json::Value> = outcome
        .output
        .iter()
        .map(|piece| {
            json!({"stream": piece.stream, "at_us": piece.at_us, "dropped_bytes": piece.dropped_bytes,
                "text": String::from_utf8_lossy(&piece.data)})
        })
        .collect();
    json!({"exit": outcome.exit, "output": output, "interrupted": outcome.interrupted})
}

fn failure(error: &PackError) -> Failure {
    let exit = match error {
        PackError::File { .. } | PackError::Temporary { .. } => Exit::Storage,
        PackError::Findings { .. } | PackError::TooLarge(_) => Exit::Failed,
        PackError::Exists(_) | PackError::Archive { .. } | PackError::NotADirectory(_) | PackError::NoStore(_) => {
            Exit::Usage
        }
    };
    Failure::from_error(exit, error)
}

fn test_failure(error: &TestError) -> Failure {
    let exit = match error {
        TestError::Pack(pack) => return failure(pack),
        TestError::Given(given) => {
            let failure = Failure::from_error(Exit::Usage, given);
            return match given.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            };
        }
        TestError::UnknownAction { .. }
        | TestError::Parameters { .. }
        | TestError::SiteConfig { .. }
        | TestError::SiteConfigFile(_)
        | TestError::Noop(_) => Exit::Usage,
        TestError::Venv(_) => Exit::Failed,
        TestError::Refused(_) | TestError::Disabled(_) => Exit::Refused,
        TestError::NoLauncher(_) | TestError::Launcher { .. } | TestError::Io { .. } => Exit::Storage,
    };
    Failure::from_error(exit, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_are_in_a_directory_that_exists() {
        let command = LocalCommand::Test {
            dir: ".".into(),
            action: "uptime".into(),
            parameters: Vec::new(),
            noop: false,
            limits: false,
            run_as_me: true,
            site_config: None,
            python: "/usr/bin/python3".into(),
            wheels: Some("/nonexistent/wheels".into()),
            index: None,
        };
        let failure = run(command, false).unwrap_err().to_string();
        assert_eq!(failure, "there is no directory /nonexistent/wheels, which --wheels names");
    }
}
