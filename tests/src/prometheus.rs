//! Prometheus and `promtool`, of Debian's package `prometheus`.
//!
//! `.ci/run` unpacks the package and sets `BOLT_TEST_PROMETHEUS` to the directory with both programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The directory with both programs.
#[derive(Debug, Clone)]
pub struct Programs(PathBuf);

impl Programs {
    /// Returns the programs, if they are installed.
    pub fn find() -> Option<Programs> {
        let directory = PathBuf::from(std::env::var_os("BOLT_TEST_PROMETHEUS")?);
        ["prometheus", "promtool"].iter().all(|name| directory.join(name).exists()).then_some(Programs(directory))
    }

    /// Returns the path of one of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs `promtool` in `directory` with `input`, and returns what it prints; an error if it finds anything wrong.
    ///
    /// # Errors
    /// Returns all that it printed, if its exit status is not 0 or it has complaints.
    pub fn promtool(&self, directory: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(self.path("promtool"));
        command.args(arguments).current_dir(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut stdin = child.stdin.take().expect("it is piped");
        let text = input.to_owned();
        let writer = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        drop(writer.join());
        let Output { status, stdout, stderr } = output;
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        // `check metrics` may end with 0 although it complains on standard error.
        if status.success() && stderr.is_empty() { Ok(said) } else { Err(format!("{status}: {said}")) }
    }
}
