//! A place for the commands of one paper: a checkout, a home directory and programs of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bolt_client::local::binary;

use super::markdown::Step;
use super::root;

/// Maximum time for the commands of one paper, in seconds.
const TIMEOUT_S: u32 = 600;

/// Ends the output of a command.
const MARK: char = '\u{1e}';

/// Result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Its exit status, as the shell says it.
    pub(super) status: i32,
    /// Its standard output and standard error, as a terminal shows them.
    pub(super) output: String,
}

/// A directory for one paper; what the commands left there is stopped and removed when it is dropped.
#[derive(Debug)]
pub(super) struct Sandbox {
    directory: tempfile::TempDir,
    /// Command line under which the shell runs.
    wrapper: Vec<String>,
    /// Commands before those of the paper.
    prelude: String,
}

impl Sandbox {
    /// Makes a checkout: the examples, `systemd/`, and `target/release` and `target/dist` with the programs, which are also in the path.
    pub(super) fn checkout() -> Sandbox {
        let directory = tempfile::Builder::new().prefix("bolt-paper-").tempdir().unwrap();
        // The accounts of agents must get through.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sandbox = Sandbox { directory, wrapper: Vec::new(), prelude: String::new() };
        for name in ["home", "tmp", "bin", "bolt", "bolt/target"] {
            fs::create_dir(sandbox.path(name)).unwrap();
        }
        for name in ["systemd", "packs-schema/examples"] {
            copy(&root().join(name), &sandbox.path("bolt").join(name));
        }
        let built = binary("bolt").unwrap();
        for profile in ["release", "dist"] {
            symlink(built.parent().unwrap(), sandbox.path("bolt/target").join(profile)).unwrap();
        }
        for name in ["bolt", "bolt-agent", "bolt-launch", "bolt-sync", "bolt-reliability"] {
            symlink(built.with_file_name(name), sandbox.path("bin").join(name)).unwrap();
        }
        sandbox.program("sudo", "#!/bin/sh\nexec \"$@\"\n");
        sandbox
    }

    /// Returns a path inside.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Adds a program to the path.
    pub(super) fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the shell under `wrapper`, and `prelude` in it before the steps of a paper.
    pub(super) fn enter(&mut self, wrapper: &[&str], prelude: String) {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self.prelude = prelude;
    }

    /// Runs the steps in order in one shell; fewer outcomes than commands when the shell did not reach its end.
    pub(super) fn run(&self, steps: &[Step]) -> Vec<Outcome> {
        let (script, output) = (self.path("paper.sh"), self.path("output"));
        fs::write(&script, self.prelude.clone() + &to_script(steps)).unwrap();
        let log = fs::File::create(&output).unwrap();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", &TIMEOUT_S.to_string()]).args(&self.wrapper);
        command.arg("bash").arg(&script).current_dir(self.path("bolt")).env_clear();
        let path =
            format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display());
        command.env("PATH", path).env("HOME", self.path("home")).env("TMPDIR", self.path("tmp"));
        command.envs([("LANG", "C.UTF-8"), ("NO_COLOR", "1"), ("TZ", "UTC"), ("TERM", "dumb"), ("USER", "you")]);
        // Typed by a person.
        command.env("BOLT_KEY_PASSPHRASE", "correct horse battery");
        let status = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        let outcomes = outcomes(&String::from_utf8_lossy(&fs::read(&output).unwrap()));
        assert_ne!(status.code(), Some(124), "the commands took more than {TIMEOUT_S} s: {outcomes:#?}");
        outcomes
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Fleets of `bolt demo --keep`: the directory holds `demo.json`.
        let parents = [self.path("bolt"), self.path("home"), self.path("tmp")];
        let entries = parents.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten();
        for fleet in entries.map(|entry| entry.path()).filter(|path| path.join("demo.json").exists()) {
            drop(Command::new(self.path("bin/bolt")).args(["demo", "--stop"]).arg(fleet).output());
        }
    }
}

/// Returns a script that runs the steps and marks the end of each command with its exit status.
fn to_script(steps: &[Step]) -> String {
    let mut script =
        String::from("mark() { local status=$?; printf '\\036%s\\036' \"$status\"; return \"$status\"; }\n");
    for step in steps {
        match step {
            Step::Command(command) => script += &format!("{}\nmark\n", command.text),
            Step::File { path, text, .. } => {
                script += &format!("mkdir -p \"$(dirname {path})\"\ncat >{path} <<'END OF FILE'\n{text}END OF FILE\n");
            }
        }
    }
    script
}

fn outcomes(output: &str) -> Vec<Outcome> {
    let mut parts = output.split(MARK);
    let mut outcomes = Vec::new();
    while let (Some(output), Some(status)) = (parts.next(), parts.next()) {
        outcomes.push(Outcome { status: status.parse().unwrap_or(-1), output: output.to_owned() });
    }
    outcomes
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}

#[test]
fn each_command_has_its_status_and_output() {
    let sandbox = Sandbox::checkout();
    let step = |text: &str| Step::Command(super::markdown::Command { line: 1, text: text.to_owned(), shown: None });
    let file = Step::File {
        line: 1,
        path: "a/run.sh".to_owned(),
        text: "#!/bin/sh\necho out; echo err >&2\nexit 3\n".to_owned(),
    };
    let outcomes = sandbox.run(&[step("cd \"$HOME\"; one=1"), file, step("sh a/run.sh"), step("echo $? $one")]);
    let outcome = |status, output: &str| Outcome { status, output: output.to_owned() };
    assert_eq!(outcomes, [outcome(0, ""), outcome(3, "out\nerr\n"), outcome(0, "3 1\n")]);
}
