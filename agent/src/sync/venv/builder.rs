//! Process that builds the environments that polls have requested, a few at a time, so that a slow or hanging package index
//! delays neither polls nor other packs.
//!
//! ```text
//!  poll ── requests ──▶ .requests ◀── takes ── builder ── a poll after each: its pack is activated, or its failure reported
//!    └── starts, unless one runs ───────────────▶
//! ```
//!
//! The program is `bolt-sync`, with the same account, cgroup and limits. The builder ends with the launcher under which it was
//! started.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use packs_schema::agent::config::Config;
use packs_schema::base::name::Digest;
use packs_schema::pack::contents::requirements;

use super::requests::Requests;
use super::{build, process, site};
use crate::sync::SyncError;
use crate::sync::store::Store;

/// Number of simultaneous builds.
const AT_ONCE: usize = 3;
/// Time within which all builds end, because the process reaches its time limit soon.
const WITHIN: Duration = Duration::from_secs(490);
/// Maximum time of one build, whatever `python.timeout` is; a little less than all the time, so that it fits at the start.
pub(in crate::sync) const LONGEST_BUILD: Duration = Duration::from_secs(480);
/// Time limit for the lock: a poll that prunes holds it for a moment.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
/// Interval between two attempts.
const INTERVAL: Duration = Duration::from_millis(200);
/// Option of `bolt-sync`, whose value is the process id of the launcher.
const OPTION: &str = "--environments";

/// Starts a builder if there are requests and none runs. It outlives this process.
pub(in crate::sync) fn start(store: &Store, config_path: &Path) {
    let started = || -> std::io::Result<()> {
        // A poll without requests writes nothing.
        let Some(requests) = Requests::there(store) else { return Ok(()) };
        if requests.wanted()?.is_empty() || requests.lock()?.is_none() {
            return Ok(());
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg("--config").arg(config_path).arg(OPTION).arg(nix::unistd::getppid().to_string());
        // A process group of its own: the launcher kills that of a poll that hangs.
        command.stdin(Stdio::null()).process_group(0).spawn().map(drop)
    };
    if let Err(error) = started() {
        tracing::error!(%error, "cannot start the process that builds virtual environments");
    }
}

/// Builds requested environments until there are none, and calls `poll` after each; ends when the process `launcher` has ended.
pub(in crate::sync) fn run(
    config: &Config,
    launcher: i32,
    poll: &dyn Fn() -> Result<(), SyncError>,
) -> Result<(), SyncError> {
    let venvs = config.paths.packs.join(packs_schema::agent::store::VENVS);
    let failed = || SyncError::file("use", venvs.clone());
    let requests = Requests::below(venvs.clone()).map_err(failed())?;
    let until = Instant::now() + LOCK_WITHIN;
    let lock = loop {
        match requests.lock().map_err(failed())? {
            Some(lock) => break lock,
            None if Instant::now() > until => return Ok(()),
            None => std::thread::sleep(INTERVAL),
        }
    };
    end_with(launcher);
    build::sweep(&venvs).map_err(failed())?;
    let until = Instant::now() + WITHIN;
    let (ended, ends) = mpsc::channel::<(Digest, Result<(), String>)>();
    let mut running = 0;
    loop {
        while running < AT_ONCE && fits(until.saturating_duration_since(Instant::now()), config.python.timeout.0) {
            let next = requests.wanted().map_err(failed())?.into_iter().next();
            let Some((venv, text)) = next else { break };
            requests.begin(&venv).map_err(failed())?;
            let (venvs, config, ended) = (venvs.clone(), config.python.clone(), ended.clone());
            running += 1;
            std::thread::spawn(move || {
                let outcome = one(&venvs, &config, &venv, &text, until);
                // The receiver lives as long as the process.
                let _ = ended.send((venv, outcome));
            });
        }
        if running == 0 {
            drop(lock);
            return Ok(());
        }
        // A poll may have requested another one meanwhile.
        let Ok((venv, outcome)) = ends.recv_timeout(INTERVAL) else { continue };
        running -= 1;
        requests.finish(&venv, &outcome).map_err(failed())?;
        if let Err(error) = poll() {
            tracing::warn!(error = %crate::sync::error::chain(&error), "the poll after building a virtual environment failed; the next poll continues");
        }
    }
}

/// True if a build has its whole time-out with this much time left; otherwise it is left to the next builder, which the next poll
/// starts: with less it could fail although nothing is wrong with it.
fn fits(left: Duration, timeout: Duration) -> bool {
    left >= timeout.min(LONGEST_BUILD)
}

/// Builds one environment.
fn one(
    venvs: &Path,
    config: &packs_schema::agent::config::PythonConfig,
    venv: &Digest,
    text: &str,
    until: Instant,
) -> Result<(), String> {
    let needed = requirements(text).map_err(|_| "its requirements cannot be read".to_owned())?;
    let interpreter = site::interpreter(config)?;
    if super::digest(&interpreter, text)? != *venv {
        return Err("the interpreter was replaced meanwhile; the next poll asks again".to_owned());
    }
    if let Ok(Some(_)) = super::record(&venvs.join(venv.as_str())) {
        return Ok(());
    }
    site::sources(config)?;
    let began = Instant::now();
    let order = build::Order {
        config,
        interpreter: &interpreter,
        venv,
        requirements: text,
        hashed: needed.iter().any(|requirement| requirement.hashed),
        within: config.timeout.0.min(LONGEST_BUILD).min(until.saturating_duration_since(began)),
    };
    build::build(venvs, &order).inspect_err(|_| build::discard(venvs, venv))?;
    tracing::info!(%venv, requirements = needed.len(), seconds = began.elapsed().as_secs(), "virtual environment built");
    Ok(())
}

/// Ends this process and its children soon after the process `launcher` has ended.
fn end_with(launcher: i32) {
    // The start time distinguishes a process from a later one with the same id.
    let born = move || {
        let stat = std::fs::read_to_string(format!("/proc/{launcher}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
    };
    let first = born();
    std::thread::spawn(move || {
        while first.is_some() && born() == first {
            std::thread::sleep(INTERVAL);
        }
        process::end_all();
        std::process::exit(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_begun_only_while_its_whole_time_is_left() {
        let fits = |left_s, timeout_s| fits(Duration::from_secs(left_s), Duration::from_secs(timeout_s));
        assert!(fits(489, 300) && fits(300, 300) && !fits(299, 300), "the default time-out");
        assert!(fits(489, 3600) && fits(480, 3600) && !fits(479, 3600), "more than a builder has");
        assert!(fits(5, 5) && !fits(0, 1));
    }
}
