//! Runs an action of an example pack like the launcher, and checks every result against the rules for all actions.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use packs_schema::base::finding::Finding;
use packs_schema::base::strict;
use packs_schema::pack::action::Action;
use packs_schema::pack::contents::{self, CheckedPack, Contents, EntryKind, FileReader, PackEntry};
use packs_schema::pack::deliver::deliver;
use packs_schema::pack::param::bind::bind;
use packs_schema::pack::param::check::check;
use packs_schema::pack::site_config::SiteConfig;
use serde_json::{Map, Value};
use tempfile::TempDir;

/// Fixed value of the launcher.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Maximum size of a result, as in the launcher.
const MAX_RESULT: usize = 64 << 10;
/// Limit of the address space, suitable for an action with 128 MiB of memory.
const ADDRESS_SPACE: &str = "--as=134217728";
/// Command that creates a pid namespace, also without root.
const ALONE: [&str; 5] = ["/usr/bin/unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"];

/// Returns the path on which an action finds programs: that of the launcher, after the directory with another Python if
/// `BOLT_TEST_PYTHON` names one.
fn path() -> String {
    std::env::var("BOLT_TEST_PYTHON").map_or_else(|_| PATH.to_owned(), |python| format!("{python}:{PATH}"))
}

/// Returns the Python of the actions.
pub(crate) fn python() -> PathBuf {
    std::env::var_os("BOLT_TEST_PYTHON").map_or_else(|| PathBuf::from("/usr/bin"), PathBuf::from).join("python3")
}

/// Returns the directory of an example pack.
pub(crate) fn directory(pack: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(pack)
}

/// Reads an example pack like `bolt pack lint`.
pub(crate) fn read(pack: &str) -> (Option<Contents>, Option<CheckedPack>, Vec<Finding>) {
    let mut files = Files { root: directory(pack) };
    let listed = files.list();
    let (contents, (checked, found)) = contents::read(&listed, &mut files);
    (contents, checked, found)
}

/// Files of a pack.
pub(crate) struct Files {
    pub(crate) root: PathBuf,
}

impl Files {
    /// Returns all entries, including directories.
    pub(crate) fn list(&self) -> Vec<PackEntry> {
        use std::os::unix::fs::PermissionsExt as _;
        let mut found = Vec::new();
        let mut left = vec![self.root.clone()];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let meta = std::fs::symlink_metadata(&path).unwrap();
                let kind = if meta.is_dir() {
                    EntryKind::Directory
                } else if meta.is_file() {
                    EntryKind::File
                } else {
                    EntryKind::Other
                };
                let head = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
                found.push(PackEntry {
                    path: path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned(),
                    kind,
                    size: meta.len(),
                    executable: meta.permissions().mode() & 0o100 != 0,
                    head: head.into_iter().take(contents::HEAD_BYTES).collect(),
                });
                if meta.is_dir() {
                    left.push(path);
                }
            }
        }
        found
    }
}

impl FileReader for Files {
    fn text(&mut self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(self.root.join(path)).map_err(|e| e.to_string())
    }
}

/// Builder of a run of an action.
pub(crate) struct Run {
    action: Action,
    directory: PathBuf,
    parameters: Value,
    config: Map<String, Value>,
    secrets: Map<String, Value>,
    noop: bool,
    deadline: Option<u64>,
    path: String,
    alone: bool,
    held: Option<PathBuf>,
    prelude: Option<String>,
}

/// Result of a run.
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Structured result; `null` if there is none.
    pub(crate) result: Value,
}

/// Prepares a run of `pack.action` with these parameters.
pub(crate) fn action(reference: &str, parameters: Value) -> Run {
    let (pack, name) = reference.split_once('.').unwrap();
    let (_, checked, found) = read(pack);
    let checked = checked.unwrap_or_else(|| panic!("{found:?}"));
    let action = checked.actions.into_iter().find(|a| a.name.as_str() == name).unwrap();
    Run {
        action,
        directory: directory(pack),
        parameters,
        config: Map::new(),
        secrets: Map::new(),
        noop: false,
        deadline: None,
        path: path(),
        alone: false,
        held: None,
        prelude: None,
    }
}

impl Run {
    /// Sets the site configuration.
    pub(crate) fn config(mut self, config: Value) -> Run {
        self.config = config.as_object().unwrap().clone();
        self
    }

    /// Sets the secret values of the site configuration.
    pub(crate) fn secrets(mut self, secrets: Value) -> Run {
        self.secrets = secrets.as_object().unwrap().clone();
        self
    }

    /// Requests a dry run.
    pub(crate) fn noop(mut self) -> Run {
        assert!(self.action.noop, "the action does not know noop");
        self.noop = true;
        self
    }

    /// Sets the deadline, in Unix time.
    pub(crate) fn deadline(mut self, seconds: u64) -> Run {
        self.deadline = Some(seconds);
        self
    }

    /// Puts the programs of this directory before those of the host.
    pub(crate) fn programs(mut self, directory: &Path) -> Run {
        self.path = format!("{}:{}", directory.display(), path());
        self
    }

    /// Restricts its path to this directory, and links Python into it.
    pub(crate) fn only(mut self, directory: &Path) -> Run {
        std::os::unix::fs::symlink(python(), directory.join("python3")).unwrap();
        self.path = directory.display().to_string();
        self
    }

    /// Runs it in its own pid namespace, where it sees all processes: itself.
    pub(crate) fn alone(mut self) -> Run {
        self.alone = true;
        self
    }

    /// Runs it in such a namespace together with a process that has `path` open.
    pub(crate) fn beside_holder(mut self, path: &Path) -> Run {
        self.held = Some(path.to_owned());
        self.alone()
    }

    /// Runs it in such a namespace after these shell commands, for example to mount a file system.
    pub(crate) fn after(mut self, commands: &str) -> Run {
        self.prelude = Some(commands.to_owned());
        self.alone()
    }

    /// Runs the action to its end.
    pub(crate) fn go(self) -> Ended {
        let bound = bind(&self.action.parameters, self.parameters.as_object().unwrap()).unwrap();
        let given =
            deliver(&self.action.parameters, &bound, &SiteConfig::new(self.config.clone(), self.secrets.clone()));
        let scratch = TempDir::new().unwrap();
        let result = scratch.path().join("result");
        std::fs::write(&result, b"").unwrap();
        let script = self.directory.join("actions").join(self.action.entry_point.as_str());
        let mut command = limited(&script, self.alone, self.held.as_deref(), self.prelude.as_deref());
        command.args(&given.arguments).current_dir(&self.directory).env_clear();
        command.env("PATH", &self.path).env("HOME", "/nonexistent").env("USER", "nobody").env("LANG", "C.UTF-8");
        command.env("BOLT_NOOP", if self.noop { "1" } else { "0" }).env("BOLT_RESULT", &result);
        command.envs(given.environment);
        if let Some(deadline) = self.deadline {
            command.env("BOLT_DEADLINE", deadline.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A script that reads no input may exit before it is written.
        let _ = child.stdin.take().unwrap().write_all(&given.stdin);
        let output = child.wait_with_output().unwrap();
        let ended = Ended {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("errors are UTF-8"),
            result: self.result_of(&result),
        };
        assert!(!ended.stderr.contains("Traceback"), "{}", ended.stderr);
        for text in [&ended.stdout, &ended.stderr] {
            let control = text.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(control, None, "control characters reach the terminal: {text:?}");
        }
        ended
    }

    fn result_of(&self, path: &Path) -> Value {
        let text = std::fs::read(path).unwrap();
        if text.is_empty() {
            return Value::Null;
        }
        assert!(text.len() <= MAX_RESULT, "the result has {} bytes", text.len());
        let value = strict::parse(&text).unwrap();
        let schema = self.action.output_schema.as_ref().expect("every example has an output_schema");
        assert_eq!(check(schema, &value), [], "{value:#}");
        value
    }
}

/// Wraps the script with a memory limit and a time-out, if the host has the tools.
fn limited(script: &Path, alone: bool, held: Option<&Path>, prelude: Option<&str>) -> Command {
    let prelude = prelude.map(|commands| format!("{commands}\nexec \"$@\""));
    let mut words: Vec<&str> = Vec::new();
    if Path::new("/usr/bin/timeout").exists() {
        words.extend(["/usr/bin/timeout", "120"]);
    }
    if alone {
        words.extend(ALONE);
    }
    if let Some(path) = held {
        words.extend(["/bin/sh", "-c", r#"exec 9<"$1"; shift; "$@""#, "sh", path.to_str().unwrap()]);
    }
    if let Some(commands) = &prelude {
        words.extend(["/bin/sh", "-ec", commands, "sh"]);
    }
    if Path::new("/usr/bin/prlimit").exists() {
        words.extend(["/usr/bin/prlimit", ADDRESS_SPACE, "--nofile=1024"]);
    }
    match words.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(script);
            command
        }
        None => Command::new(script),
    }
}

impl Ended {
    /// Asserts success.
    pub(crate) fn well(self) -> Ended {
        assert_eq!(self.status, Some(0), "{}\n{}", self.stdout, self.stderr);
        assert_ne!(self.result, Value::Null, "it left no result");
        assert_eq!(self.result.get("error"), None);
        self
    }

    /// Asserts this exit status and this text on standard error.
    pub(crate) fn refused(self, status: i32, text: &str) -> Ended {
        assert_eq!(self.status, Some(status), "{}\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(text), "{}", self.stderr);
        self
    }

    /// Asserts this exit status, and a result that is nothing but an error with this text.
    pub(crate) fn error(self, status: i32, text: &str) -> Ended {
        let ended = self.refused(status, text);
        assert_eq!(ended.result.as_object().map(Map::len), Some(1), "{}", ended.result);
        assert!(ended.result["error"].as_str().unwrap().contains(text), "{}", ended.result);
        ended
    }
}

/// True if the program is installed; otherwise prints that the test is skipped.
pub(crate) fn have(test: &str, program: &str) -> bool {
    let found = PATH.split(':').any(|d| Path::new(d).join(program).exists());
    if !found {
        skip(test, &format!("{program} is not installed"));
    }
    found
}

/// Prints that a test is skipped, and why.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// True if a pid namespace can be created; otherwise prints that the test is skipped.
pub(crate) fn can_be_alone(test: &str) -> bool {
    let made = Command::new(ALONE[0]).args(&ALONE[1..]).arg("true").output().is_ok_and(|o| o.status.success());
    if !made {
        skip(test, "unshare cannot create a pid namespace on this host");
    }
    made
}
