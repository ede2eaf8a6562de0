//! Faults: what was promised with a 202 is kept whatever dies, fills up or is damaged. Each test breaks one thing.

mod crashes;
mod descriptors;
pub(crate) mod disk;
mod formats;
mod inotify;
mod load;
mod restarts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::process::{lives, processes};
use bolt_tests::{Operator, PackSource, World};
use packs_schema::agent::execution::{State, output};
use packs_schema::agent::rest::{Execution, StateChange};
use packs_schema::base::name::ExecutionId;

/// Ledger in which actions record each start, one line each.
struct Ledger(PathBuf);

impl Ledger {
    fn new(world: &World) -> Ledger {
        Ledger(world.ledger().unwrap())
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
async fn shown(operator: &Operator, execution: &Execution) -> Execution {
    operator.send(Call::get(&format!("/v1/executions/{}", execution.id))).await.json()
}

/// Returns the terminal states of each execution, from the events.
async fn ends(operator: &Operator) -> BTreeMap<ExecutionId, Vec<State>> {
    let text = operator.send(Call::get("/v1/events")).await.text();
    let mut ends: BTreeMap<ExecutionId, Vec<State>> = BTreeMap::new();
    for line in text.lines() {
        let event: StateChange = serde_json::from_str(line).unwrap();
        if event.state.is_terminal() {
            ends.entry(event.execution).or_default().push(event.state);
        }
    }
    ends
}

/// The frames of a segment of output: offset and data.
fn frames(segment: &Path) -> Vec<(u64, Vec<u8>)> {
    let bytes = fs::read(segment).unwrap();
    let mut rest = bytes.strip_prefix(&output::MAGIC).unwrap();
    let mut frames = Vec::new();
    while let Some(header) = rest.first_chunk() {
        let frame = output::Frame::decode(header).unwrap();
        let (data, behind) = rest[output::HEADER..].split_at(frame.length as usize);
        frames.push((frame.offset, data.to_vec()));
        rest = behind;
    }
    frames
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
