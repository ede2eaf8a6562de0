//! Directories in which a benchmark does not slow the agent down: a run-time directory in memory, as `/run` is on real hosts, and
//! directories whose file system does not search deleted inodes for each new one (ext4 without a journal does, unless the parent
//! is the top of a hierarchy).

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bolt_client::local::{AgentSpec, LocalAgent};
use tempfile::TempDir;

use crate::World;

/// File system in memory that Linux systems have.
const MEMORY: &str = "/dev/shm";

/// Starts the agent in such directories, where the host has them, and says which it has. The second value is the run-time directory.
pub fn start(world: &World, spec: &AgentSpec) -> (LocalAgent, Option<TempDir>) {
    let memory = tempfile::Builder::new().prefix("bolt-bench-").tempdir_in(MEMORY).ok();
    let spec = match &memory {
        Some(directory) => spec.clone().set("paths", "runtime", directory.path().join("run").display().to_string()),
        None => spec.clone(),
    };
    let agent = world.start(&spec);
    let is_top = make_executions_top(&agent);
    let state = if is_top { "chattr +T" } else { "as it is, without chattr +T" };
    let runtime = if memory.is_some() { MEMORY } else { "on disk" };
    println!("directory of executions: {state}; run-time directory: {runtime}");
    (agent, memory)
}

/// Makes the directory of executions of an agent that has started the top of a hierarchy. Returns false where that cannot be done.
pub fn make_executions_top(agent: &LocalAgent) -> bool {
    let directory = agent.directory().join("state/exec");
    assert!(directory.is_dir(), "an agent has its executions in {}", directory.display());
    make_top(&directory)
}

/// Sets state and cache directories in `world` for `bolt`, of which that of the runs is the top of a hierarchy where possible.
pub fn set_state(bolt: &mut Command, world: &Path) {
    let state = world.join("state");
    let runs = state.join("bolt/runs");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&runs).expect("a directory can be made");
    make_top(&runs);
    bolt.env("XDG_STATE_HOME", state).env("XDG_CACHE_HOME", world.join("cache"));
}

fn make_top(directory: &Path) -> bool {
    let mut chattr = Command::new("chattr");
    chattr.arg("+T").arg(directory).stdout(Stdio::null()).stderr(Stdio::null());
    chattr.status().is_ok_and(|status| status.success())
}
