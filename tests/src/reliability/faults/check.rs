//! Promises that are checked after each cycle.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Execution, StateChange};
use packs_schema::base::name::ExecutionId;

use super::host::Host;
use super::work::{Kind, Order};
use crate::http::Call;
use crate::process;

/// Ends of a cycle's executions, and the event to continue from.
pub(super) struct Settled {
    pub(super) ends: Vec<Execution>,
    pub(super) last_event: u64,
}

/// Waits for the ends of `placed` and checks every promise. The error names the broken one.
pub(super) async fn check(host: &Host, placed: &[(Order, ExecutionId)], after_event: u64) -> Result<Settled, String> {
    let mut ends = Vec::new();
    for (order, id) in placed {
        let end = ended(host, id).await.map_err(|e| format!("{id}: {e}"))?;
        let ran = ledger_of(&host.ledger(), "begin", id);
        let wrote = [output(host, id, "stdout").await?, output(host, id, "stderr").await?];
        order.judge(&end, ran, &wrote).map_err(|e| format!("{id}: {e}: {end:?}"))?;
        ends.push(end);
    }

    let last_event = one_end_each(host, placed, after_event).await?;
    alone(host, placed, &ends)?;
    end_kept(placed, &ends)?;
    nothing_left(host, placed)?;
    Ok(Settled { ends, last_event })
}

async fn ended(host: &Host, id: &ExecutionId) -> Result<Execution, String> {
    let mut last = None;
    for _ in 0..6 {
        let answer = host.ask(Call::get(&format!("/v1/executions/{id}?wait=10s"))).await?;
        if answer.status != 200 {
            return Err(format!("accepted, and now {}", answer.text()));
        }
        let now: Execution = answer.json();
        if now.state.is_terminal() {
            return Ok(now);
        }
        last = Some(now);
    }
    Err(format!("it does not end: {last:?}"))
}

async fn output(host: &Host, id: &ExecutionId, stream: &str) -> Result<Vec<u8>, String> {
    let answer = host.ask(Call::get(&format!("/v1/executions/{id}/{stream}"))).await?;
    if answer.status == 200 { Ok(answer.body.to_vec()) } else { Err(format!("{id}: {}", answer.text())) }
}

fn ledger_of(ledger: &[String], what: &str, id: &ExecutionId) -> usize {
    let line = format!("{what} {id}");
    ledger.iter().filter(|l| **l == line).count()
}

/// Checks for exactly one terminal event for each execution, and none for any other.
async fn one_end_each(host: &Host, placed: &[(Order, ExecutionId)], after: u64) -> Result<u64, String> {
    let answer = host.ask(Call::get(&format!("/v1/events?after={after}"))).await?;
    let mut last = after;
    let mut ends: BTreeMap<ExecutionId, Vec<State>> = BTreeMap::new();
    for line in answer.text().lines() {
        let event: StateChange = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        last = last.max(event.event);
        if event.state.is_terminal() {
            ends.entry(event.execution).or_default().push(event.state);
        }
    }
    for (_, id) in placed {
        match ends.remove(id).unwrap_or_default().len() {
            1 => {}
            n => return Err(format!("{id} has {n} terminal events")),
        }
    }
    match ends.pop_first() {
        Some((id, states)) => Err(format!("{id} was never answered with a 202, and ended as {states:?}")),
        None => Ok(last),
    }
}

/// Checks that executions of the group `alone` ran one at a time.
fn alone(host: &Host, placed: &[(Order, ExecutionId)], ends: &[Execution]) -> Result<(), String> {
    let state = |id: &str| ends.iter().find(|end| end.id.as_str() == id).map(|end| end.state);
    let ours = |id: &str| placed.iter().any(|(order, of)| of.as_str() == id && order.kind == Kind::Alone);
    let mut open: Option<String> = None;
    for line in host.ledger() {
        let Some((what, id)) = line.split_once(' ').filter(|(_, id)| ours(id)) else { continue };
        if what == "begin" {
            if let Some(before) = open.replace(id.to_owned())
                && state(&before) == Some(State::Succeeded)
            {
                return Err(format!("{id} began before {before} ended, and both are of a group of one"));
            }
        } else if open.as_deref() == Some(id) {
            open = None;
        }
    }
    Ok(())
}

/// Checks that processes recorded as kept are alive, and ends them. Others are left to [`nothing_left`].
fn end_kept(placed: &[(Order, ExecutionId)], ends: &[Execution]) -> Result<(), String> {
    let succeeded = |id: &ExecutionId| ends.iter().any(|end| end.id == *id && end.state == State::Succeeded);
    for (order, id) in placed.iter().filter(|(order, id)| order.kind == Kind::Kept && succeeded(id)) {
        let alive = process::with_words(std::slice::from_ref(&order.key));
        let [(pid, _)] = alive[..] else { return Err(format!("{id}: one process was kept, and there are {alive:?}")) };
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        let left = until_none(|| process::with_words(std::slice::from_ref(&order.key)));
        if !left.is_empty() {
            return Err(format!("{id}: what was kept does not end: {left:?}"));
        }
    }
    Ok(())
}

/// Checks that no process, cgroup, held lock or temporary file is left.
fn nothing_left(host: &Host, placed: &[(Order, ExecutionId)]) -> Result<(), String> {
    let marks: Vec<String> = placed.iter().map(|(order, _)| order.key.clone()).collect();
    let alive = process::with_words(&marks);
    if !alive.is_empty() {
        return Err(format!("processes are left: {alive:?}"));
    }
    let shims = until_none(|| process::processes("bolt-shim", &host.executions()));
    if !shims.is_empty() {
        return Err(format!("shims are left: {shims:?}"));
    }
    let ids: Vec<String> = placed.iter().map(|(_, id)| id.to_string()).collect();
    // The empty group of a service that has ended remains until the launcher's next sweep.
    let emptied = |group: &PathBuf| {
        let name = group.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("bolt-kept-")
            && fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
    };
    let groups = until_none(|| {
        let mut groups = process::groups_with(&ids);
        groups.retain(|group| !emptied(group));
        groups
    });
    if !groups.is_empty() {
        return Err(format!("cgroups are left: {groups:?}"));
    }
    let left = until_none(|| {
        let inside = fs::read_dir(host.runtime()).into_iter().flatten().flatten().map(|entry| entry.file_name());
        inside.filter(|name| ids.iter().any(|id| name.to_string_lossy().contains(id.as_str()))).collect::<Vec<_>>()
    });
    if !left.is_empty() {
        return Err(format!("runtime directories are left: {left:?}"));
    }
    for id in &ids {
        let directory = host.executions().join(id);
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for name in entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
            let known = matches!(name.as_str(), "spec" | "lock" | "started" | "output.log" | "kill" | "exit");
            if !known && !name.starts_with("tail.") {
                return Err(format!("{id}: {name} is left"));
            }
        }
        if let Ok(lock) = fs::File::open(directory.join("lock"))
            && Flock::lock(lock, FlockArg::LockSharedNonblock).is_err()
        {
            return Err(format!("{id}: its lock is still held"));
        }
    }
    Ok(())
}

/// The kernel may take a moment to release the resources of a process that is ending.
fn until_none<T>(look: impl Fn() -> Vec<T>) -> Vec<T> {
    for _ in 0..200 {
        let found = look();
        if found.is_empty() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    look()
}
