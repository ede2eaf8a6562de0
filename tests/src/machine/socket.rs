//! The socket unit on the machine: with it a restart of the launcher refuses no connection; without it the launcher binds by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::load::Api;
use super::vm::Vm;
use crate::http::{Answer, Call};

/// Connections that wait for an answer at once: on an emulated machine a handshake takes most of a second, and it has five.
const AT_ONCE: usize = 2;
/// Maximum number of connections during one restart.
const CONNECTIONS: u64 = 2000;
/// Time between two connections.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections during a restart, each for one request.
#[derive(Debug, Default)]
pub(super) struct Knocks {
    /// Answered with a 200.
    answered: u64,
    /// Answered with a 503 by an agent that starts or stops.
    unavailable: u64,
    /// Refused, reset or closed without an answer, or answered otherwise.
    failed: Vec<String>,
    /// Longest time until an answer.
    longest: Duration,
}

/// Process that holds the listening socket, beside launcher and api.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Systemd,
    Launcher,
}

/// Restarts the launcher without the unit, and with it, while connections arrive. Leaves the unit enabled. Returns figures.
pub(super) async fn taken_over(api: &Api, vm: &mut Vm) -> Result<String, String> {
    listener(vm, Holder::Launcher)?;
    let control = restart(api, vm).await?;
    if control.failed.is_empty() {
        return Err(format!("control: a restart without the socket unit refused no connection: {control:?}"));
    }
    enable(vm)?;
    api.ready().await?;
    let before = listener(vm, Holder::Systemd)?;
    let knocks = restart(api, vm).await?;
    let after = listener(vm, Holder::Systemd)?;
    if !knocks.failed.is_empty() || before != after {
        return Err(format!("a restart with the socket unit, sockets {before} and {after}: {knocks:?}"));
    }
    Ok(format!(
        "{} of {} connections without it, {} of {} with it",
        control.failed.len(),
        control.all(),
        knocks.failed.len(),
        knocks.all()
    ))
}

/// Enables the unit with the commands of the operator's paper.
pub(super) fn enable(vm: &mut Vm) -> Result<(), String> {
    vm.ok(&paper(0)?).map(drop)
}

/// Checks that systemd has the socket on which the api listens.
pub(super) fn held_by_systemd(vm: &mut Vm) -> Result<(), String> {
    listener(vm, Holder::Systemd).map(drop)
}

/// Disables the unit with the commands of the paper; the launcher binds by itself then.
pub(super) async fn given_back(api: &Api, vm: &mut Vm) -> Result<(), String> {
    vm.ok(&paper(1)?)?;
    api.ready().await?;
    listener(vm, Holder::Launcher).map(drop)
}

/// Returns a block of commands below the heading of the socket unit, for this machine: its port, and no sudo.
fn paper(block: usize) -> Result<String, String> {
    let paper = include_str!("../../../systemd/README.md");
    let section = paper.split_once("\n### Socket unit\n").map_or("", |(_, after)| after);
    let commands = section.split("\n```text\n").nth(block + 1).and_then(|rest| rest.split_once("\n```\n"));
    let (commands, _) = commands.ok_or("systemd/README.md has no commands for the socket unit")?;
    Ok(format!("set -e\n{}", commands.replace("sudo ", "").replace(":8443", ":7443")))
}

/// Restarts the launcher while connections arrive.
async fn restart(api: &Api, vm: &mut Vm) -> Result<Knocks, String> {
    let is_over = Arc::new(AtomicBool::new(false));
    let knocking = tokio::spawn(knock(api.clone(), Arc::clone(&is_over)));
    let restarted = vm.ok("systemctl restart bolt-launch.service");
    let ready = api.ready().await;
    is_over.store(true, Ordering::Relaxed);
    let knocks = knocking.await.map_err(|e| e.to_string())?;
    restarted?;
    ready?;
    Ok(knocks)
}

/// Opens connections, each for one request, until it is over.
async fn knock(api: Api, is_over: Arc<AtomicBool>) -> Knocks {
    let (mut open, mut knocks) = (JoinSet::new(), Knocks::default());
    for _ in 0..CONNECTIONS {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        if open.len() >= AT_ONCE
            && let Some(Ok(ended)) = open.join_next().await
        {
            knocks.count(ended);
        }
        let (api, began) = (api.clone(), Instant::now());
        open.spawn(async move { (api.ask(Call::get("/v1/actions")).await, began.elapsed()) });
        tokio::time::sleep(PAUSE).await;
    }
    while let Some(Ok(ended)) = open.join_next().await {
        knocks.count(ended);
    }
    knocks
}

impl Knocks {
    fn count(&mut self, (answer, took): (Result<Answer, String>, Duration)) {
        match answer {
            Ok(answer) if answer.status == 200 => {
                self.answered += 1;
                self.longest = self.longest.max(took);
            }
            Ok(answer) if answer.status == 503 => self.unavailable += 1,
            Ok(answer) => self.failed.push(format!("{}: {}", answer.status, answer.text())),
            Err(error) => self.failed.push(format!("after {took:?}: {error}")),
        }
    }

    fn all(&self) -> usize {
        usize::try_from(self.answered + self.unavailable).unwrap_or(usize::MAX) + self.failed.len()
    }
}

/// Checks which processes have the one listening socket; returns its inode.
fn listener(vm: &mut Vm, holder: Holder) -> Result<String, String> {
    let all = vm.ok("ss -Htlnpe 'sport = :7443'")?;
    let inode = all.split_whitespace().find_map(|word| word.strip_prefix("ino:"));
    let has = |process: &str| all.contains(&format!("(\"{process}\","));
    let fits = all.lines().count() == 1
        && has("bolt-agent")
        && has("bolt-launch")
        && has("systemd") == (holder == Holder::Systemd);
    match inode {
        Some(inode) if fits => Ok(inode.to_owned()),
        _ => Err(format!("the listening socket should be of {holder:?}, and is {all:?}")),
    }
}
