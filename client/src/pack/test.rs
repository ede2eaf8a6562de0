//! `bolt pack test`: an action of a pack that is being written, run here as an agent would run it: the same check, the same
//! launcher and shim, the same environment. Nothing is left behind.
//!
//! ```text
//!  pack ─lint─▶ a store in a temporary directory ─┐
//!  name=value ─cast, bind─▶ Start ────────────────┴─▶ bolt-launch serve --attach ─▶ shim ─▶ exit, output
//! ```

mod launcher;
mod layout;
mod output;
mod venv;

use std::io;
use std::path::{Path, PathBuf};

use packs_schema::agent::config::PythonConfig;
use packs_schema::agent::execution;
use packs_schema::base::name::ActionName;
use packs_schema::pack::action::{Action, Runner};
use packs_schema::pack::contents::CheckedPack;
use packs_schema::pack::param::bind::ParamError;
use packs_schema::pack::site_config::SiteConfig;
use serde_json::{Map, Value};

pub use output::{Piece, read as read_output};

use super::{PackError, lint};
use crate::files::FileError;
use crate::parameters::{self, Given, GivenError};
use launcher::{Launcher, Stop};

/// Arguments of [`run()`].
#[derive(Debug, Clone, Default)]
pub struct TestOptions {
    /// The pack's directory.
    pub pack: PathBuf,
    /// The action's name, without the pack's.
    pub action: String,
    /// Values as on a command line.
    pub parameters: Vec<Given>,
    /// Only say what it would do.
    pub noop: bool,
    /// Refuse when a limit cannot be enforced here.
    pub require_limits: bool,
    /// Run as the current user whatever the action says.
    pub run_as_me: bool,
    /// The per-site configuration, as an agent has it in `/etc/bolt/packs/<pack>.yaml`.
    pub site_config: Option<PathBuf>,
    /// Interpreter and sources of the pack's virtual environment, as in `[python]` of an agent.
    pub python: PythonConfig,
}

/// Result of the execution, as a caller sees it.
#[derive(Debug, Clone)]
pub struct TestOutcome {
    /// Exit record.
    pub exit: execution::Exit,
    /// Output, in the order in which it was read.
    pub output: Vec<Piece>,
    /// The user stopped it.
    pub interrupted: bool,
}

/// Error returned when an action could not be tested.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The pack.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// No such action.
    #[error("the pack has no action {given:?}; {}", known_actions(known))]
    UnknownAction {
        /// The given name.
        given: String,
        /// Actions of the pack.
        known: Vec<String>,
    },
    /// A parameter that is not taken.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// Parameters.
    #[error("the parameters do not fit:\n{}", errors.iter().map(|e| format!("  {e}")).collect::<Vec<_>>().join("\n"))]
    Parameters {
        /// Everything that does not fit.
        errors: Vec<ParamError>,
    },
    /// The per-site configuration.
    #[error("the configuration {} does not fit config.schema.yaml: {problem}", crate::show::path(path))]
    SiteConfig {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The file of the per-site configuration.
    #[error("cannot use the configuration")]
    SiteConfigFile(#[from] FileError),
    /// The virtual environment.
    #[error("{0}")]
    Venv(String),
    /// The action is disabled.
    #[error("{0} is disabled, so agents refuse it as well; set enabled: true in its file after a review")]
    Disabled(String),
    /// The action does not know it.
    #[error("{0} does not understand BOLT_NOOP (bolt.noop is not true), so agents refuse --noop as well")]
    Noop(String),
    /// There is no launcher.
    #[error("{} is not there; build it with `cargo build -p bolt-launch`, or name one in $BOLT_LAUNCH", crate::show::path(.0))]
    NoLauncher(PathBuf),
    /// The launcher would not start the action.
    #[error("the launcher refused: {0}")]
    Refused(String),
    /// The launcher failed.
    #[error("the launcher failed: {problem}{}", log_lines(log))]
    Launcher {
        /// Description of the failure.
        problem: String,
        /// Its log.
        log: String,
    },
    /// A temporary file or a process.
    #[error("cannot {what}")]
    Io {
        /// The operation.
        what: &'static str,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
}

impl TestError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> TestError {
        move |source| TestError::Io { what, source }
    }
}

fn known_actions(known: &[String]) -> String {
    match known {
        [] => "it has none at all: an action is a file such as actions/uptime.yaml".to_owned(),
        _ => format!("it has {}", known.join(", ")),
    }
}

fn log_lines(log: &str) -> String {
    if log.trim().is_empty() { String::new() } else { format!("; its log:\n{}", log.trim_end()) }
}

/// Runs one action and waits for its end. Ctrl-C stops the action, and the outcome says so.
pub fn run(options: &TestOptions) -> Result<TestOutcome, TestError> {
    let report = lint::lint(&options.pack)?;
    let Some(checked) = report.checked else {
        return Err(PackError::Findings { path: options.pack.clone(), findings: report.findings }.into());
    };
    let action = find(&checked, &options.action)?;
    if !action.enabled {
        return Err(TestError::Disabled(action.reference().to_string()));
    }
    let given = parameters(action, &options.parameters)?;
    if options.noop && !action.noop {
        return Err(TestError::Noop(action.reference().to_string()));
    }
    let config = site_config(&checked, options.site_config.as_deref())?;
    let built = super::build(&options.pack)?;
    let layout = layout::Layout::make(&built, &checked, &config, action, options)?;
    if action.runner_type == Runner::PythonScript && !checked.requirements.is_empty() {
        let (packs, version) = (layout.packs(), layout.version(&built));
        venv::provide(&packs, &version, &options.python, &checked.requirements).map_err(TestError::Venv)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(TestError::io("start the runtime"))?;
    runtime.block_on(async {
        // Listened to before there is anything to stop.
        let mut stop = Stop::listen().map_err(TestError::io("listen to signals"))?;
        let mut launcher = Launcher::start(&layout)?;
        launcher.ask(layout.start(&built, action, &given, options.noop)).await?;
        let (exit, interrupted) = launcher.wait(&layout, &mut stop).await?;
        let output = output::read(layout.execution()).map_err(TestError::io("read the output"))?;
        Ok(TestOutcome { exit, output, interrupted })
    })
}

fn find<'a>(checked: &'a CheckedPack, given: &str) -> Result<&'a Action, TestError> {
    // People write the reference out of habit.
    let name = given.strip_prefix(&format!("{}.", checked.pack.name)).unwrap_or(given);
    let found = ActionName::new(name).ok().and_then(|name| checked.actions.iter().find(|a| a.name == name));
    found.ok_or_else(|| TestError::UnknownAction {
        given: given.to_owned(),
        known: checked.actions.iter().map(|a| a.name.to_string()).collect(),
    })
}

/// Values of the command line, typed and checked; every error at once.
fn parameters(action: &Action, given: &[Given]) -> Result<Map<String, Value>, TestError> {
    let mut typed = Map::new();
    let unread = parameters::add(&mut typed, given, &action.parameters)?;
    let errors = parameters::errors(&action.parameters, &typed, &unread);
    if errors.is_empty() { Ok(typed) } else { Err(TestError::Parameters { errors }) }
}

fn site_config(checked: &CheckedPack, path: Option<&Path>) -> Result<SiteConfig, TestError> {
    let text = path.map(|path| crate::files::read_text(path, packs_schema::pack::contents::MAX_YAML)).transpose()?;
    SiteConfig::read(&checked.config, text.unwrap_or_default().as_bytes())
        .map_err(|problem| TestError::SiteConfig { path: path.unwrap_or(Path::new("(none)")).to_owned(), problem })
}

#[cfg(test)]
mod tests;
