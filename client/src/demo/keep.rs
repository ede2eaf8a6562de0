//! The demo's directory: removed at the end, or left for `bolt demo --stop`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DemoOptions;
use super::say::say;
use super::script::TO_TRY;
use crate::confined_dir::ConfinedDir;
use crate::failure::{Exit, Failure};

/// File that marks a directory as a demo's and lists its launchers.
const MARK: &str = "demo.json";

/// Maximum size of such a file, in bytes.
const MAX_MARK: u64 = 64 << 10;

/// Directory of the fleet.
#[derive(Debug)]
pub(super) struct DemoDirectory {
    path: PathBuf,
    remove: bool,
}

impl DemoDirectory {
    /// A new directory, or the one that was asked for, which must be new or empty.
    pub(super) fn new(options: &DemoOptions) -> Result<DemoDirectory, Failure> {
        let path = match &options.directory {
            Some(path) => {
                fs::create_dir_all(path).map_err(|e| storage("create", path, &e))?;
                let path = path.canonicalize().map_err(|e| storage("open", path, &e))?;
                refuse_foreign(&path)?;
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
        Ok(DemoDirectory { path, remove: true })
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

impl Drop for DemoDirectory {
    fn drop(&mut self) {
        if self.remove {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Ends the launchers that serve `directory`, and every execution; then removes it.
pub(super) fn stop(directory: &Path) -> Result<Exit, Failure> {
    let hint = "give the directory that bolt demo --keep printed";
    let no_fleet = |given: &Path, error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(Exit::Usage, format!("no demo fleet in {}", crate::show::path(given))).hint(hint)
        }
        _ => storage("open", given, error).hint(hint),
    };
    let given = directory;
    let directory = &directory.canonicalize().map_err(|e| no_fleet(given, &e))?;
    refuse_foreign(directory)?;
    let mark = directory.join(MARK);
    let confined = ConfinedDir::open(directory).map_err(|e| storage("open", directory, &e))?;
    let text = confined.read(&mark, MAX_MARK).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => no_fleet(given, &e),
        _ => storage("read", &mark, &e).hint(hint),
    })?;
    let state: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| Failure::new(Exit::Storage, format!("{} is damaged: {e}", mark.display())))?;
    let pids = state["launchers"].as_array().cloned().unwrap_or_default();
    for pid in pids.iter().filter_map(|p| p.as_i64()).filter_map(|p| i32::try_from(p).ok()) {
        // The process id may belong to another process by now: only a launcher of this directory is ended.
        if serves(pid, directory) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            wait_gone(pid, directory);
        }
    }
    let agents = directory.join("agents");
    for agent in confined.entries(&agents).map_err(|e| storage("read", &agents, &e))?.into_keys() {
        crate::local::end_executions(&agents.join(agent));
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

/// Refuses a directory that another account can change, or can replace: root would do there what that account wants.
fn refuse_foreign(directory: &Path) -> Result<(), Failure> {
    let me = nix::unistd::geteuid();
    for (above, path) in directory.ancestors().enumerate() {
        // For an ordinary user the parents need no check: nothing is done there as root.
        if above > 0 && !me.is_root() {
            break;
        }
        let meta = path.symlink_metadata().map_err(|e| storage("open", path, &e))?;
        let foreign = meta.uid() != me.as_raw() && meta.uid() != 0;
        // In a directory like /tmp others can add names, and change none of ours.
        let open = meta.mode() & 0o022 != 0 && !(above > 0 && meta.mode() & 0o1000 != 0);
        if foreign || open {
            let why =
                if foreign { format!("belongs to user {}", meta.uid()) } else { "can be written by others".to_owned() };
            let message = format!("{} {why}: what lies below it cannot be trusted", path.display());
            return Err(Failure::new(Exit::Usage, message).hint("use a directory that only you can write"));
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use nix::sys::stat::Mode;

    use super::*;

    fn stopped(directory: &Path) -> String {
        let (directory, (done, over)) = (directory.to_owned(), std::sync::mpsc::channel());
        std::thread::spawn(move || done.send(stop(&directory).unwrap_err().message));
        over.recv_timeout(std::time::Duration::from_secs(30)).expect("it waits for something in the directory")
    }

    #[test]
    fn only_a_directory_of_ones_own_is_stopped() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside.json");
        fs::write(&outside, "{}").unwrap();
        let fleet = temp.path().join("fleet");
        fs::create_dir(&fleet).unwrap();
        nix::unistd::mkfifo(&fleet.join(MARK), Mode::from_bits_truncate(0o600)).unwrap();
        assert!(stopped(&fleet).contains("not a regular file"), "{}", stopped(&fleet));
        fs::remove_file(fleet.join(MARK)).unwrap();
        assert_eq!(stopped(&fleet), format!("no demo fleet in {}", fleet.display()));
        assert!(stopped(&fleet.join("none")).starts_with("no demo fleet in"));
        symlink(&outside, fleet.join(MARK)).unwrap();
        assert!(stopped(&fleet).contains("symbolic link"), "{}", stopped(&fleet));
        fs::set_permissions(&fleet, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(stopped(&fleet).contains("can be written by others"), "{}", stopped(&fleet));
        fs::set_permissions(&fleet, fs::Permissions::from_mode(0o755)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&fleet, Some(64_100), None).unwrap();
            assert!(stopped(&fleet).contains("belongs to user 64100"), "{}", stopped(&fleet));
            let inside = fleet.join("inside");
            fs::create_dir(&inside).unwrap();
            assert!(stopped(&inside).contains("belongs to user 64100"), "{}", stopped(&inside));
        }
        assert!(fleet.exists() && outside.exists());
    }
}
