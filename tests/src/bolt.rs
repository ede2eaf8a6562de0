//! The `bolt` command, as a user runs it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bolt_client::local::binary;

/// The `bolt` command with a configuration.
#[derive(Debug, Clone)]
pub struct Bolt {
    config: PathBuf,
}

/// Output and exit code of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Bolt {
    /// Creates a command with `client.toml` at `config`.
    pub fn new(config: &Path) -> Bolt {
        Bolt { config: config.to_owned() }
    }

    /// The command with `arguments`, not yet run.
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = Command::new(binary("bolt").expect("bolt is built"));
        command.arg("--config").arg(&self.config).args(arguments).stdin(Stdio::null());
        command.envs(crate::bucket::credentials());
        command.env("XDG_CACHE_HOME", self.config.with_extension("cache"));
        command.env("XDG_STATE_HOME", self.config.with_extension("state"));
        command
    }

    /// Runs it to its end.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> CommandOutput {
        CommandOutput::from(self.command(arguments).output().expect("bolt can be run"))
    }

    /// Runs it with `--json`, and reads what it printed.
    pub fn json<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> (i32, serde_json::Value) {
        let output = self.command(arguments).arg("--json").output().expect("bolt can be run");
        let said = CommandOutput::from(output);
        let value = serde_json::from_str(&said.stdout);
        (said.code, value.unwrap_or_else(|e| panic!("not JSON ({e}): {said:?}")))
    }
}

impl CommandOutput {
    /// Standard output without the lines that say, for an ordinary user, what could not be enforced.
    pub fn answer(&self) -> String {
        self.stdout.split_inclusive('\n').filter(|line| !line.starts_with("not enforced: ")).collect()
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> CommandOutput {
        CommandOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
