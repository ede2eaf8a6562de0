//! Faults: what was promised with a 202 is kept whatever dies, fills up or is damaged. Each test breaks one thing.

mod crashes;
mod descriptors;
mod disk;
mod formats;
mod load;
mod restarts;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{PackSource, World};
use packs_schema::name::ExecutionId;
use packs_schema::rest::{Execution, StateChange};
use packs_schema::run::State;

use crate::calls::operator;

/// Where actions write down that they ran: one line for each start.
struct Ledger(PathBuf);

impl Ledger {
    fn new(world: &World) -> Ledger {
        let path = world.scratch("ledger");
        // Actions are another account.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Ledger(path.join("lines"))
    }

    /// The probe pack with actions that write here.
    fn pack(&self) -> PackSource {
        let line = |text: &str| format!("#!/bin/sh\necho \"{text} $BOLT_EXECUTION_ID\" >> {}\n", self.0.display());
        let pair = format!("{}sleep 0.1\n{}", line("begin"), line("end").trim_start_matches("#!/bin/sh\n"));
        PackSource::probe()
            .action("linger", "bolt: {class: diagnostic}", &(line("ran") + "sleep 0.2\n"))
            .action("note", "bolt: {class: diagnostic}", &line("ran"))
            .action(
                "secretly",
                "parameters: {token: {type: string, secret: true}}\nbolt: {class: diagnostic}",
                &line("ran"),
            )
            .action("paired", "bolt: {class: diagnostic, concurrency: {max: 1, group: pair, when_busy: queue}}", &pair)
            .action("rated", "bolt: {class: diagnostic, rate: {max: 2, per: 1h}}", &line("ran"))
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn count(&self, id: &ExecutionId) -> usize {
        self.lines().iter().filter(|line| line.ends_with(id.as_str())).count()
    }
}

/// The directory of an execution.
fn directory(agent: &LocalAgent, execution: &Execution) -> PathBuf {
    agent.state().join("exec").join(execution.id.as_str())
}

/// Changes a JSON record in place: its owner and mode stay.
fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut record = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

/// Stops the agent, does something to its files, and starts it again.
fn while_down(agent: &mut LocalAgent, fault: impl FnOnce(&LocalAgent)) {
    agent.terminate();
    fault(agent);
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
}

/// An execution as the agent shows it.
async fn shown(world: &World, agent: &LocalAgent, execution: &Execution) -> Execution {
    operator(world, agent, Call::get(&format!("/v1/executions/{}", execution.id))).await.json()
}

/// How often each execution reached a terminal state, by the events.
async fn ends(world: &World, agent: &LocalAgent) -> BTreeMap<ExecutionId, Vec<State>> {
    let text = operator(world, agent, Call::get("/v1/events")).await.text();
    let mut ends: BTreeMap<ExecutionId, Vec<State>> = BTreeMap::new();
    for line in text.lines() {
        let event: StateChange = serde_json::from_str(line).unwrap();
        if event.state.is_terminal() {
            ends.entry(event.execution).or_default().push(event.state);
        }
    }
    ends
}

/// Processes whose name is `name` and that have something below `path` open, or stand there.
fn processes(name: &str, path: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    let holds = |pid: &i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let open = fds.map(|fd| fd.path()).chain([PathBuf::from(format!("/proc/{pid}/cwd"))]);
        open.filter_map(|link| fs::read_link(link).ok()).any(|to| to.starts_with(path))
    };
    pids.filter(is).filter(holds).collect()
}

/// Removes the cgroups of an execution whose end was played and not real.
fn remove_groups(below: &Path, execution: &Execution) {
    for path in fs::read_dir(below).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.file_name().is_some_and(|name| name == format!("bolt-{}", execution.id).as_str()) {
            let _ = fs::remove_dir(&path);
        } else if path.is_dir() && !path.is_symlink() {
            remove_groups(&path, execution);
        }
    }
}

/// True if the process lives and is no zombie.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
