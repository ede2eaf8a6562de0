//! Directories that do not slow the agent down: a run-time directory in memory, as `/run` is on real hosts, and a directory of
//! executions whose file system does not search deleted inodes for each new one (ext4 without a journal does, unless the parent
//! is the top of a hierarchy).

use std::process::{Command, Stdio};

use bolt_client::local::{AgentSpec, LocalAgent};
use bolt_tests::World;
use tempfile::TempDir;

/// File system in memory that Linux systems have.
const MEMORY: &str = "/dev/shm";

/// Starts the agent in such directories, where the host has them, and says which it has. The second value is the run-time directory.
pub(super) fn start(world: &World, spec: &AgentSpec) -> (LocalAgent, Option<TempDir>) {
    let memory = tempfile::Builder::new().prefix("bolt-bench-").tempdir_in(MEMORY).ok();
    let spec = match &memory {
        Some(directory) => spec.clone().set("paths", "runtime", directory.path().join("run").display().to_string()),
        None => spec.clone(),
    };
    let agent = world.start(&spec);
    let mut chattr = Command::new("chattr");
    chattr.arg("+T").arg(agent.directory().join("state/executions")).stdout(Stdio::null()).stderr(Stdio::null());
    let is_top = chattr.status().is_ok_and(|status| status.success());
    let state = if is_top { "chattr +T" } else { "as it is, without chattr +T" };
    let runtime = if memory.is_some() { MEMORY } else { "on disk" };
    println!("directory of executions: {state}; run-time directory: {runtime}");
    (agent, memory)
}
