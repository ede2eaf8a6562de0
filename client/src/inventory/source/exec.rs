//! `kind = "exec"`: a program that prints the instances as JSON (`bolt inventory schema`).
//!
//! The program is run without a shell, with nothing on standard input, in the directory of `client.toml` and a process group
//! of its own. Its environment is that of `bolt`, with the variables of `environment` added. A program that ends with
//! another status than 0, prints something else, prints too much or does not end in time is an error; its whole process
//! group is killed then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::{Fetched, Source, SourceError};
use crate::inventory::document::{MAX_DOCUMENT, parse_json};
use crate::show;

/// Time that a program has by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum of `timeout`.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Number of bytes of standard error that an error shows.
const STDERR_TAIL: usize = 2 << 10;
/// Maximum number of lines of standard error that an error shows.
const STDERR_LINES: usize = 5;

/// Keys of an `[[inventory]]` table of this kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecSettings {
    /// The program and its arguments. A program with a `/` is relative to the directory of `client.toml`, one without is
    /// searched in `PATH`.
    pub command: Vec<String>,
    /// Time after which it is killed [default: 30s].
    #[serde(default)]
    pub timeout: Option<String>,
    /// Variables that are added to its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// A program.
#[derive(Debug)]
pub struct ExecSource {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    directory: PathBuf,
    timeout: Duration,
    max_age: Duration,
}

impl ExecSource {
    /// Creates the source; relative paths are relative to `base`. The error names the key.
    pub fn new(name: &str, settings: ExecSettings, base: &Path, max_age: Duration) -> Result<ExecSource, String> {
        let ExecSettings { command, timeout, environment } = settings;
        let mut words = command.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or("command: give the program and its arguments as a list")?;
        let program = if program.contains('/') { base.join(program) } else { PathBuf::from(program) };
        let timeout = match timeout {
            None => DEFAULT_TIMEOUT,
            Some(text) => packs_schema::base::quantity::parse_duration(&text).map_err(|e| format!("timeout: {e}"))?,
        };
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err("timeout: give more than 0s and at most 10m".to_owned());
        }
        let arguments: Vec<String> = words.collect();
        if arguments.iter().chain(environment.values()).any(|text| text.contains('\0')) {
            return Err("command: an argument contains a NUL character".to_owned());
        }
        if let Some(name) = environment.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(format!("environment: {name:?} is not the name of a variable"));
        }
        let directory = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base.to_owned() };
        Ok(ExecSource { name: name.to_owned(), program, arguments, environment, directory, timeout, max_age })
    }

    fn spawn(&self) -> Result<Child, SourceError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(&self.environment).current_dir(&self.directory).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "give its whole path, or one relative to client.toml",
                std::io::ErrorKind::PermissionDenied => "make it executable",
                _ => "check `command`",
            };
            SourceError::new(format!("cannot start {}: {error}", show::path(&self.program))).hint(hint)
        })
    }
}

#[async_trait]
impl Source for ExecSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn cache_key(&self) -> String {
        let ExecSource { program, arguments, environment, directory, .. } = self;
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        format!("exec {directory:?} {program:?} {arguments:?} {environment:?}")
    }

    fn max_age(&self) -> Duration {
        self.max_age
    }

    async fn fetch(&self) -> Result<Fetched, SourceError> {
        let mut child = self.spawn()?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = tokio::time::timeout(self.timeout, async {
            let (output, errors) = tokio::join!(read_bounded(stdout, &group), read_tail(stderr));
            (output, errors, child.wait().await)
        });
        let Ok((output, errors, status)) = ended.await else {
            group.kill();
            let message = format!("did not end within {}", packs_schema::base::quantity::format_duration(self.timeout));
            return Err(SourceError::new(message).hint("give it a longer `timeout`, or find out why it hangs"));
        };
        // Processes that the program left behind.
        group.kill();
        let output = output.map_err(|problem| SourceError::new(problem + &errors))?;
        let status = status.map_err(|error| SourceError::new(format!("cannot wait for it: {error}")))?;
        if !status.success() {
            return Err(SourceError::new(format!("{}{errors}", describe(status))));
        }
        let found = tokio::task::spawn_blocking(move || parse_json(&output)).await;
        let found = found.unwrap_or_else(|error| Err(error.to_string()));
        let found = found.map_err(|problem| {
            SourceError::new(format!("did not print an inventory: {}{errors}", show::visible(&problem)))
                .hint("`bolt inventory schema` prints the schema")
        })?;
        Ok(Fetched { found, left_out: Vec::new() })
    }
}

/// Process group of a program; killed when dropped, so that no error path leaves it running.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(group) = self.0 {
            // There may be none left.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads standard output to its end; kills the program that prints more than [`MAX_DOCUMENT`] bytes.
async fn read_bounded(stream: Option<impl AsyncRead + Unpin>, group: &Group) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    let read = stream.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| format!("cannot read its output: {error}"))?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        group.kill();
        return Err(format!("printed more than {} MiB", MAX_DOCUMENT >> 20));
    }
    Ok(bytes)
}

/// Reads standard error to its end, and returns its last lines for a message.
async fn read_tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut tail: Vec<u8> = Vec::new();
    let Some(mut stream) = stream else { return String::new() };
    let mut chunk = vec![0; 8 << 10];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        tail.extend_from_slice(&chunk[..count]);
        tail.drain(..tail.len().saturating_sub(STDERR_TAIL));
    }
    let text = show::visible_bytes(&tail);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(STDERR_LINES)..];
    last.iter().map(|line| format!("\n    {line}")).collect()
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended without a status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: &str) -> ExecSource {
        let settings = ExecSettings {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: Some(timeout.to_owned()),
            environment: BTreeMap::from([("ZONE".to_owned(), "a".to_owned())]),
        };
        ExecSource::new("exec", settings, Path::new(""), Duration::ZERO).unwrap()
    }

    async fn fails(script: &str, timeout: &str) -> String {
        shell(script, timeout).fetch().await.unwrap_err().message
    }

    #[tokio::test]
    async fn a_program_prints_instances_with_its_environment_and_nothing_on_standard_input() {
        let script = r#"cat; printf '{"instances": [{"id": "i-1", "address": "a:1", "zone": "%s"}]}' "$ZONE""#;
        let fetched = shell(script, "30s").fetch().await.unwrap();
        assert_eq!(fetched.found[0].facts.zone, "a");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_an_error_with_the_end_of_its_standard_error() {
        let said =
            fails("echo '{\"instances\": []}'; seq 1 100 >&2; printf 'no \\033[2Jtoken\\n' >&2; exit 3", "30s").await;
        assert!(
            said.starts_with("ended with status 3\n    97\n    98\n") && said.ends_with("no \\x1b[2Jtoken"),
            "{said}"
        );
        assert_eq!(fails("kill -9 $$", "30s").await, "was killed by signal 9");
        let said = fails("echo '{\"instances\": [{\"id\": \"../x\"}]}'", "30s").await;
        assert!(said.starts_with("did not print an inventory: instance 1 (../x)"), "{said}");
        let said = fails("echo '{\"instances\": []'", "30s").await;
        assert!(said.contains("EOF"), "{said}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 1000 & echo $! >{}; wait", file.display());
        let said = fails(&script, "500ms").await;
        assert_eq!(said, "did not end within 500ms");
        assert!(is_gone(&file), "the child of the program is killed as well");
        // A child that keeps the pipe open does not keep a program that ended from being late.
        let said = fails(&format!("sleep 1000 & echo $! >{}", file.display()), "500ms").await;
        assert!(said.starts_with("did not end") && is_gone(&file), "{said}");
    }

    /// Waits until the process whose id is in `file` is gone, or a zombie.
    fn is_gone(file: &Path) -> bool {
        let id = std::fs::read_to_string(file).unwrap();
        let status = || std::fs::read_to_string(format!("/proc/{}/status", id.trim()));
        (0..500).any(|_| match status() {
            Ok(status) if !status.contains("State:\tZ") => {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
            _ => true,
        })
    }

    #[tokio::test]
    async fn endless_output_is_bounded() {
        assert_eq!(fails("yes", "60s").await, "printed more than 64 MiB");
        let said = fails("yes oops >&2 & sleep 0.2; kill $!; exit 1", "60s").await;
        assert!(said.starts_with("ended with status 1\n    oops") && said.len() < 200, "{said}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let settings =
            ExecSettings { command: vec!["./no-such".to_owned()], timeout: None, environment: BTreeMap::new() };
        let source = ExecSource::new("exec", settings, Path::new("/etc"), Duration::ZERO).unwrap();
        let said = source.fetch().await.unwrap_err().to_string();
        assert!(said.starts_with("cannot start /etc/./no-such: No such file"), "{said}");
    }

    /// Programs of `examples/inventory`, with recorded answers of Consul, Terraform and Ansible.
    #[tokio::test]
    async fn the_examples_read_recorded_answers() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/inventory");
        for (tool, expected) in [
            ("consul", vec![("i-0a11", "10.1.10.12:8443", "dc1-a"), ("web-1", "[2001:db8::7]:8443", "")]),
            ("terraform", vec![("i-0c31", "10.3.0.31:8443", "eu-west-1a"), ("i-0c32", "10.3.0.32:8443", "eu-west-1b")]),
            (
                "ansible",
                vec![
                    ("db1.example.org", "db1.example.org:8443", ""),
                    ("i-0d41", "10.4.0.1:8443", "a"),
                    ("web2.example.org", "web2.example.org:8443", "b"),
                ],
            ),
        ] {
            let command = vec![format!("./{tool}.py"), format!("recorded/{tool}.json")];
            let settings = ExecSettings { command, timeout: None, environment: BTreeMap::new() };
            let source = ExecSource::new(tool, settings, &directory, Duration::ZERO).unwrap();
            let found = source.fetch().await.unwrap_or_else(|error| panic!("{tool}: {error}")).found;
            let address = |one: &crate::inventory::Found| one.address.as_ref().map(ToString::to_string).unwrap();
            let all: Vec<_> =
                found.iter().map(|one| (one.facts.id.to_string(), address(one), one.facts.zone.clone())).collect();
            let expected: Vec<_> =
                expected.iter().map(|(id, at, zone)| (id.to_string(), at.to_string(), zone.to_string())).collect();
            assert_eq!(all, expected, "{tool}");
        }
    }

    #[test]
    fn wrong_settings_name_their_key() {
        let settings = |command: &[&str], timeout: &str, name: &str| ExecSettings {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: Some(timeout.to_owned()),
            environment: BTreeMap::from([(name.to_owned(), String::new())]),
        };
        for (settings, key) in [
            (settings(&[], "1s", "A"), "command"),
            (settings(&[""], "1s", "A"), "command"),
            (settings(&["a", "b\0"], "1s", "A"), "command"),
            (settings(&["a"], "0s", "A"), "timeout"),
            (settings(&["a"], "1h", "A"), "timeout"),
            (settings(&["a"], "soon", "A"), "timeout"),
            (settings(&["a"], "1s", "A=B"), "environment"),
        ] {
            let said = ExecSource::new("exec", settings, Path::new(""), Duration::ZERO).unwrap_err();
            assert!(said.starts_with(key), "{said}");
        }
    }
}
