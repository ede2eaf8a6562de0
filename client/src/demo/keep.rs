//! The demo's directory: removed at the end, or left for `bolt demo --stop`.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DemoOptions;
use super::say::say;
use super::script::TO_TRY;
use crate::cli::failure::{Exit, Failure};

/// The file that says that a directory is a demo's, and which launchers serve it.
const MARK: &str = "demo.json";

/// Where the fleet is.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    remove: bool,
}

impl Place {
    /// A new directory, or the one that was asked for, which must be new or empty.
    pub(super) fn new(options: &DemoOptions) -> Result<Place, Failure> {
        let path = match &options.directory {
            Some(path) => {
                fs::create_dir_all(path).map_err(|e| storage("create", path, &e))?;
                let path = path.canonicalize().map_err(|e| storage("open", path, &e))?;
                let mut entries = fs::read_dir(&path).map_err(|e| storage("read", &path, &e))?;
                if entries.next().is_some() {
                    return Err(Failure::new(Exit::Usage, format!("{} is not empty", path.display()))
                        .hint("name a new directory, or none to use a temporary one"));
                }
                path
            }
            None => {
                let made = tempfile::Builder::new().prefix("bolt-demo-").tempdir();
                made.map_err(|e| storage("create a directory in", &std::env::temp_dir(), &e))?.keep()
            }
        };
        Ok(Place { path, remove: true })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory.
    pub(super) fn remove(mut self) -> Result<(), Failure> {
        self.remove = false;
        fs::remove_dir_all(&self.path).map_err(|e| storage("remove", &self.path, &e))
    }

    /// Keeps the directory, with what `--stop` needs.
    pub(super) fn leave_up(mut self, launchers: &[u32]) -> Result<(), Failure> {
        let mark = self.path.join(MARK);
        let text = serde_json::json!({ "launchers": launchers }).to_string();
        fs::write(&mark, text).map_err(|e| storage("write", &mark, &e))?;
        self.remove = false;
        let shown = self.path.display();
        say("\nThe fleet stays up. Use it with:\n");
        say(&format!("  export BOLT_CLIENT_CONFIG={shown}/client.toml"));
        if let Some(directory) = unlisted_directory() {
            say(&format!("  export PATH={}:$PATH", directory.display()));
        }
        TO_TRY.iter().for_each(|line| say(&format!("  {line}")));
        say(&format!("\nand stop it with:\n\n  bolt demo --stop {shown}"));
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.remove {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Ends the launchers that serve `directory`, and every execution; then removes it.
pub(super) fn stop(directory: &Path) -> Result<Exit, Failure> {
    let mark = directory.join(MARK);
    let text = fs::read(&mark)
        .map_err(|e| storage("read", &mark, &e).hint("give the directory that bolt demo --keep printed"))?;
    let state: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| Failure::new(Exit::Storage, format!("{} is damaged: {e}", mark.display())))?;
    let pids = state["launchers"].as_array().cloned().unwrap_or_default();
    for pid in pids.iter().filter_map(|p| p.as_i64()).filter_map(|p| i32::try_from(p).ok()) {
        // A number may belong to somebody else by now: only a launcher of this directory is ended.
        if serves(pid, directory) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            wait_gone(pid, directory);
        }
    }
    let agents = directory.join("agents");
    for entry in fs::read_dir(&agents).map_err(|e| storage("read", &agents, &e))?.flatten() {
        crate::local::end_executions(&entry.path().join("state/exec"));
    }
    fs::remove_dir_all(directory).map_err(|e| storage("remove", directory, &e))?;
    say(&format!("The fleet is down and {} is gone.", directory.display()));
    Ok(Exit::Success)
}

/// The directory of this program, unless the shell finds it already.
fn unlisted_directory() -> Option<PathBuf> {
    let directory = std::env::current_exe().ok()?.parent()?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let listed = std::env::split_paths(&path).any(|entry| entry.canonicalize().is_ok_and(|entry| entry == directory));
    (!listed).then_some(directory)
}

fn serves(pid: i32, directory: &Path) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = command.split(|b| *b == 0).map(String::from_utf8_lossy);
    arguments.next().is_some_and(|program| program.ends_with("bolt-launch"))
        && arguments.any(|argument| Path::new(&*argument).starts_with(directory))
}

fn wait_gone(pid: i32, directory: &Path) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while serves(pid, directory) && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn storage(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Storage, format!("cannot {what} {}: {error}", path.display()))
}
