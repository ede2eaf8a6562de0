//! A rollout of the agent's package over two machines, by `bolt run` with the pack `bolt_engine`.
//!
//! ```text
//!  bolt run bolt_engine.upgrade … --canary 1 --check bolt_engine.health
//!    good version:  canary ─▶ check ─▶ the other ─▶ check
//!    bad version:   canary ─▶ not healthy, rolled back by itself ─▶ stop; the other is never asked
//!  bolt_engine.rollback on the other, whose last upgrade was the good one: returns to the first version
//! ```

use std::path::Path;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use super::engine;
use super::load::{self, Api};
use super::site::{BAD_VERSION, ID, MachineSite, SECOND, VERSIONS};
use super::steps::Steps;
use super::vm::Vm;

/// Lines that an execution writes on each machine during the good rollout, one a second.
const LINES: u64 = 300;
/// Maximum number of times that a run is resumed or repeated.
const RESUMES: u32 = 10;
/// Exit code of a run that reached no instance and started nothing.
const UNREACHABLE: i32 = 3;
/// Options that make a run a rollout.
const ROLLOUT: [&str; 7] = ["--everywhere", "--canary", "1", "--check", "bolt_engine.health", "--check-for", "2m"];

/// A machine and its agent.
struct Machine {
    id: &'static str,
    vm: Vm,
    api: Api,
}

/// State of a machine that nothing may change.
#[derive(Debug, PartialEq, Eq)]
struct Untouched {
    version: String,
    launcher: String,
    /// When dpkg last did anything.
    dpkg: String,
    /// Executions of the pack `bolt_engine`.
    executions: usize,
}

/// Runs every step; returns one line for each, or why one failed.
pub fn run(image: &Path) -> Result<String, String> {
    let mut steps = Steps::begin();
    let site = MachineSite::create()?;
    engine::publish(&site);
    let runtime = super::runtime()?;
    let mut machines = Vec::new();
    for id in [ID, SECOND] {
        let mut vm = site.install(image, id)?;
        site.start(&mut vm, id)?;
        let api = Api { address: vm.address(), caller: site.world.site.operator() };
        machines.push(Machine { id, vm, api });
    }
    for Machine { api, .. } in &machines {
        runtime.block_on(api.has_action("machine.lines"))?;
        runtime.block_on(api.has_action("bolt_engine.upgrade"))?;
    }
    let [old, good] = VERSIONS;
    steps.done(&format!("two machines run {old} and have the pack bolt_engine"));

    runtime.block_on(good_version(&site, &mut machines, good, old))?;
    steps.done(&format!("{good} on both: one canary, its check, the other; executions on both not interrupted"));

    let canary = runtime.block_on(bad_version(&site, &mut machines, good))?;
    steps.done(&format!("{BAD_VERSION} on {canary} only: rolled back to {good} by itself; the other never touched"));

    let version = format!("version={good}");
    let health = ["run", "bolt_engine.health", &version, "settled=0", "--everywhere", "--at-once"];
    let (code, report) = bolt(&site, &machines)?.json(health);
    if code != 0 {
        return Err(format!("after the rollback: exit code {code}: {report}"));
    }
    steps.done(&format!("both healthy with {good}"));

    // The canary has no earlier version than the one to which it was rolled back.
    let Machine { id, vm, api } = machines.iter_mut().find(|m| m.id != canary).ok_or("there is one machine")?;
    runtime.block_on(engine::returns(api, vm, good, old))?;
    steps.done(&format!("bolt_engine.rollback on {id}: {old} again, and healthy"));
    Ok(steps.report())
}

/// Rolls a good version out while an execution runs on each machine.
async fn good_version(site: &MachineSite, machines: &mut [Machine], good: &str, old: &str) -> Result<(), String> {
    let mut load = Vec::new();
    for Machine { id, api, .. } in machines.iter() {
        let parameters = json!({"count": LINES, "pause": "1"});
        load.push(api.order_until("machine.lines", &parameters, &format!("load-{id}")).await?);
    }
    for (Machine { api, .. }, execution) in machines.iter().zip(&load) {
        api.running(execution).await?;
    }
    let version = format!("version={good}");
    let parameters = [format!("sha256={}", site.digest(good)?), format!("rollback_sha256={}", site.digest(old)?)];
    let [given, way_back] = &parameters;
    let upgrade = ["run", "bolt_engine.upgrade", &version, given, way_back, "start_wait=120", "settle=5", "--yes"];
    let check = ["--check-param", &version, "--check-param", "settled=0"];
    let (code, report) = bolt(site, machines)?.json(upgrade.iter().chain(&ROLLOUT).chain(&check));
    if code != 0 {
        return Err(format!("exit code {code}: {report}"));
    }
    for (Machine { id, vm, api }, running) in machines.iter_mut().zip(&load) {
        engine::expect_installed(vm, good)?;
        let upgraded = ended(&report, id)?;
        engine::expect(&upgraded, State::Succeeded, "upgraded")?;
        let end = api.wait_within(running.id.as_str(), Duration::from_secs(2 * LINES)).await?;
        let output = api.stdout(end.id.as_str()).await?;
        if end.state != State::Succeeded || output != load::lines(end.id.as_str(), LINES) {
            return Err(format!("{id}: {} with {} bytes", end.state, output.len()));
        }
        if end.ended_at_ms < upgraded.started_at_ms {
            return Err(format!("{id}: what ran had ended before the upgrade began"));
        }
    }
    Ok(())
}

/// Rolls a bad version out. Returns the canary's id.
async fn bad_version(site: &MachineSite, machines: &mut [Machine], good: &str) -> Result<&'static str, String> {
    let mut before = Vec::new();
    for machine in machines.iter_mut() {
        before.push(untouched(machine).await?);
    }
    let (version, digest) = (format!("version={BAD_VERSION}"), format!("sha256={}", site.digest(BAD_VERSION)?));
    let upgrade = ["run", "bolt_engine.upgrade", &version, &digest, "start_wait=10", "settle=0", "--yes"];
    let (code, report) = persist(&bolt(site, machines)?, machines, &upgrade);
    let failed: Vec<usize> =
        (0..machines.len()).filter(|at| state(&report, machines[*at].id) == Some("failed")).collect();
    let [canary] = failed[..] else {
        return Err(format!("exit code {code}: {report}"));
    };
    for (at, (machine, before)) in machines.iter_mut().zip(before).enumerate() {
        let now = untouched(machine).await?;
        let Machine { id, vm, .. } = machine;
        if at == canary {
            engine::expect(&ended(&report, id)?, State::Failed, "rolled_back")?;
            engine::expect_installed(vm, good)?;
            if now.launcher == before.launcher {
                return Err(format!("{id}: the bad version was never started"));
            }
        } else if state(&report, id) != Some("not_started") || now != before {
            return Err(format!("{id} was touched: {before:?}, now {now:?}; {report}"));
        }
    }
    if code != 1 || report["stopped"] != "max_failures" {
        return Err(format!("exit code {code}: {report}"));
    }
    Ok(machines[canary].id)
}

/// Runs a rollout to its end. An emulated machine may refuse a connection, and be away for longer than a run waits: a run that has
/// started nothing is repeated, and another one resumed, which asks for the same execution again.
fn persist(bolt: &crate::Bolt, machines: &[Machine], upgrade: &[&str]) -> (i32, Value) {
    let (mut code, mut report) = bolt.json(upgrade.iter().chain(&ROLLOUT));
    for _ in 0..RESUMES {
        let may_run = machines.iter().any(|m| entry(&report, m.id).is_some_and(|entry| entry["may_run"] == true));
        if code != UNREACHABLE && !may_run {
            break;
        }
        eprintln!("the canary is away: {report}");
        (code, report) = match report["run"].as_str() {
            Some(run) if may_run => bolt.json(["resume", run, "--yes"]),
            _ => bolt.json(upgrade.iter().chain(&ROLLOUT)),
        };
    }
    (code, report)
}

fn bolt(site: &MachineSite, machines: &[Machine]) -> Result<crate::Bolt, String> {
    let inventory: Vec<(&str, &Vm)> = machines.iter().map(|machine| (machine.id, &machine.vm)).collect();
    site.bolt(&inventory)
}

async fn untouched(machine: &mut Machine) -> Result<Untouched, String> {
    let Machine { vm, api, .. } = machine;
    let listed = api.persist(crate::http::Call::get("/v1/executions?limit=500")).await?;
    if listed.status != 200 {
        return Err(format!("executions: {}: {}", listed.status, listed.text()));
    }
    Ok(Untouched {
        version: vm.ok("dpkg-query -W -f '${db:Status-Status} ${Version}' bolt-agent")?,
        launcher: vm.ok("systemctl show -P MainPID bolt-launch")?,
        dpkg: vm.ok("stat -c %y /var/lib/dpkg/status")?,
        executions: listed.text().matches("\"bolt_engine.").count(),
    })
}

/// Returns the entry of an instance in the report of a run.
fn entry<'a>(report: &'a Value, id: &str) -> Option<&'a Value> {
    report["instances"].as_array()?.iter().find(|entry| entry["instance"] == id)
}

fn state<'a>(report: &'a Value, id: &str) -> Option<&'a str> {
    entry(report, id)?["state"].as_str()
}

/// Returns the execution of an instance from the report of a run.
fn ended(report: &Value, id: &str) -> Result<Execution, String> {
    let execution = entry(report, id).map(|entry| entry["execution"].clone()).unwrap_or_default();
    serde_json::from_value(execution).map_err(|error| format!("{id}: {error}: {report}"))
}
