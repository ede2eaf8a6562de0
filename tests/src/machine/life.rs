//! The life of the packages on booted machines: one as a host that the agent serves, one whose packages change.

mod removal;

use std::path::Path;
use std::time::Instant;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::engine;
use super::limits;
use super::load::{self, Api};
use super::services;
use super::site::{self, ID, MachineSite, SECOND, VERSIONS};
use super::socket;
use super::steps::Steps;
use super::vm::Vm;

/// Executions that run during an upgrade.
const LOAD: u64 = 8;
/// Lines that each of them writes, one each half second.
const LINES: u64 = 50;
/// Units of the package.
const UNITS: &str = "bolt-launch.service bolt-launch.socket bolt-executions.service";

/// Runs every step, on two machines at once; returns one line for each, or why one failed.
pub fn run(image: &Path, site: &MachineSite) -> Result<String, String> {
    // Before the threads start: two publishers would conflict.
    engine::publish(site);
    services::publish(site);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let print_error = |id: &'static str| move |why: &String| eprintln!("{id}: {why}");
        let host = scope.spawn(move || as_a_host(image, site, Steps::since(began, ID)).inspect_err(print_error(ID)));
        let packages = as_packages(image, site, Steps::since(began, SECOND)).inspect_err(print_error(SECOND));
        let host = host.join().map_err(|_| "the thread of the first machine panicked".to_owned())?;
        Ok(host? + &packages?)
    })
}

/// Checks limits, journal, hardening, watchdog, services, socket unit, reboot and client on one machine.
fn as_a_host(image: &Path, site: &MachineSite, mut steps: Steps) -> Result<String, String> {
    let mut vm = site.install(image, ID)?;
    let runtime = super::runtime()?;
    installed_and_asleep(&mut vm)?;
    steps.done("install: files in place, nothing enabled, nothing started");
    site.start(&mut vm, ID)?;
    let api = Api { address: vm.address(), caller: site.world.site.operator() };
    runtime.block_on(api.ready())?;
    steps.done("configure: check-config finds nothing, ready, pack synced from the bucket");
    let (code, said) = site.bolt(&[(ID, &vm)])?.json(["run", "machine.lines", "count=2", "--on", ID]);
    if code != 0 {
        return Err(format!("bolt run: exit code {code}: {said}"));
    }
    steps.done("bolt run from the host: succeeded");

    in_the_journal(&mut vm)?;
    steps.done("log: entries of all three programs in the journal, with fields");

    let weights = runtime.block_on(limits::all(&api, &mut vm))?;
    steps.done(&format!("limits under cgroup v2: memory, CPU, processes, block I/O ({weights})"));
    let together = runtime.block_on(limits::slice(&api, &mut vm))?;
    steps.done(&format!(
        "limits of the units: an execution that needs more than the slice ({together}) ends, the agent goes on"
    ));
    runtime.block_on(limits::stopped(&api, &mut vm))?;
    steps.done("kill and time-out: nothing is left");

    vm.ok("systemctl restart bolt-executions")?;
    runtime.block_on(limits::out_of_memory(&api, "restarted"))?;
    steps.done("restart of the holder of cgroups: limits hold for the next execution");

    steps.done(&hardened(&mut vm)?);
    runtime.block_on(watchdog(&api, &mut vm))?;
    steps.done("watchdog: a launcher that hangs is started again, its execution goes on");

    runtime.block_on(services::units(&api, &mut vm))?;
    steps.done("pack linux: a failed unit with its reason; a service shown, reloaded, restarted; others refused");
    let set = runtime.block_on(services::clock(&api, &mut vm))?;
    steps.done(&format!("pack linux: a clock that is ahead is set by systemd-timesyncd: {set}"));

    let refused = runtime.block_on(socket::taken_over(&api, &mut vm))?;
    steps.done(&format!("socket unit: a restart refused {refused}"));
    runtime.block_on(socket::given_back(&api, &mut vm))?;
    steps.done("socket unit disabled: the launcher binds by itself");

    rebooted(&runtime, &mut vm, api)?;
    steps.done("reboot: starts by itself, on the socket unit's socket, records kept; what ran is interrupted");
    client(&mut vm)?;
    steps.done("client: bolt-client, bolt by update-alternatives, both gone after the removal");
    Ok(steps.report())
}

/// Steps of the packages: upgrades, the way back, and the removal.
fn as_packages(image: &Path, site: &MachineSite, mut steps: Steps) -> Result<String, String> {
    let mut vm = site.install(image, SECOND)?;
    let runtime = super::runtime()?;
    site.start(&mut vm, SECOND)?;
    let api = Api { address: vm.address(), caller: site.world.site.operator() };
    runtime.block_on(api.ready())?;
    socket::enable(&mut vm)?;
    runtime.block_on(api.ready())?;
    steps.done("installed and configured, with the socket unit");

    let upgraded = runtime.block_on(upgrade(&api, &mut vm, VERSIONS[1]))?;
    steps.done(&format!("upgrade with {upgraded} running: none interrupted, outputs byte-exact"));
    runtime.block_on(socket::given_back(&api, &mut vm))?;
    let downgraded = runtime.block_on(upgrade(&api, &mut vm, VERSIONS[0]))?;
    steps.done(&format!(
        "downgrade with {downgraded} running, without the socket unit: none interrupted, outputs byte-exact"
    ));

    runtime.block_on(engine::upgrades_and_rolls_back(site, &api, &mut vm))?;
    steps.done("bolt_engine: its execution survives the restart; a bad version is rolled back by itself");
    runtime.block_on(removal::removed(&api, &mut vm))?;
    steps.done("remove: what runs goes on to its end, output byte-exact");
    removal::installed_and_purged(&mut vm)?;
    steps.done("remove: state and configuration kept; install again: asleep; purge: nothing left");
    Ok(steps.report())
}

/// Reboots while an execution runs, with the socket unit.
fn rebooted(runtime: &Runtime, vm: &mut Vm, api: Api) -> Result<(), String> {
    let before = runtime.block_on(api.order_until("machine.lines", &json!({"count": 3}), "before"))?;
    let before = runtime.block_on(api.wait(before.id.as_str()))?;
    let cut = json!({"count": 1000, "pause": "1"});
    let interrupted = runtime.block_on(api.order_until("machine.lines", &cut, "interrupted"))?;
    runtime.block_on(api.running(&interrupted))?;
    socket::enable(vm)?;
    vm.shut_down()?;
    vm.boot()?;
    let api = Api { address: vm.address(), ..api };
    runtime.block_on(api.ready())?;
    socket::held_by_systemd(vm)?;
    let after = runtime.block_on(api.wait(before.id.as_str()))?;
    if after != before {
        return Err(format!("the reboot changed a record: {before:?}, now {after:?}"));
    }
    let end = runtime.block_on(api.wait(interrupted.id.as_str()))?;
    match end.state {
        State::Interrupted => Ok(()),
        _ => Err(format!("running at the reboot, and then {end:?}")),
    }
}

/// Nothing of the package runs, or will at the next boot.
fn installed_and_asleep(vm: &mut Vm) -> Result<(), String> {
    let enabled = vm.run(&format!("systemctl is-enabled {UNITS}"))?.output;
    let active = vm.run(&format!("systemctl is-active {UNITS}"))?.output;
    let processes = vm.run("pgrep -x 'bolt-launch|bolt-agent|bolt-sync'")?;
    if enabled.split_whitespace().any(|word| word != "disabled")
        || active.split_whitespace().any(|word| word != "inactive")
        || processes.status != 1
    {
        return Err(format!("installed, and {enabled:?} {active:?} {:?}", processes.output));
    }
    let list = "bolt-launch bolt-agent bolt-sync";
    vm.ok(&format!("for p in {list}; do test -x /usr/lib/bolt/$p && /usr/lib/bolt/$p --version || exit 1; done"))?;
    vm.ok("test $(stat -c %U:%G:%a /var/lib/bolt) = bolt:bolt:700 && test -e /usr/share/doc/bolt-agent/README.md")?;
    vm.ok("systemd-analyze verify --man=no bolt-launch.service bolt-executions.service bolt-launch.socket")?;
    Ok(())
}

/// All three programs write to the journal, with fields, and each audit entry is copied there.
fn in_the_journal(vm: &mut Vm) -> Result<(), String> {
    let entry = |vm: &mut Vm, matches: &str| -> Result<Value, String> {
        let text = vm.ok(&format!("journalctl -u bolt-launch --no-pager -n 1 -o json {matches}"))?;
        serde_json::from_str(text.trim()).map_err(|error| format!("{matches}: {error}: {text:?}"))
    };
    let accepted = entry(vm, "SYSLOG_IDENTIFIER=bolt-agent BOLT_EVENT=accepted")?;
    let has = |name: &str, value: &str| accepted[name] == value;
    if !has("BOLT_ACTION", "machine.lines")
        || !has("PRIORITY", "6")
        || !has("_TRANSPORT", "journal")
        || !["BOLT_EXECUTION", "BOLT_PRINCIPAL"].iter().all(|name| accepted[*name].is_string())
    {
        return Err(format!("an execution was accepted, and the journal has {accepted}"));
    }
    for program in ["bolt-sync", "bolt-launch"] {
        let last = entry(vm, &format!("SYSLOG_IDENTIFIER={program} _TRANSPORT=journal"))?;
        if !last["BOLT_EVENT"].is_string() {
            return Err(format!("{program}: {last}"));
        }
    }
    // The copy of the audit log, found as the paper says.
    let text = vm.ok("journalctl -t bolt-audit _UID=$(id -u bolt) BOLT_VERB=run -n 1 -o json")?;
    let copy: Value = serde_json::from_str(text.trim()).map_err(|error| format!("bolt-audit: {error}: {text:?}"))?;
    let is = |name: &str, value: &str| copy[name] == value;
    let hash = copy["BOLT_HASH"].as_str().unwrap_or_default();
    if !is("BOLT_ACTION", "machine.lines")
        || !is("BOLT_PRINCIPAL", "spiffe://bolt.local/operator")
        || !is("BOLT_OUTCOME", "accepted")
        || copy["BOLT_SEQUENCE"].as_str().is_none_or(|number| number.parse::<u64>().is_err())
        || hash.len() != 64
    {
        return Err(format!("an execution was accepted, and the copy of the audit log has {copy}"));
    }
    Ok(())
}

/// Restrictions of the api, which reads the network, and of the holder of the cgroup.
fn hardened(vm: &mut Vm) -> Result<String, String> {
    let status = vm.ok("cat /proc/$(pgrep -x bolt-agent)/status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let none = Some("0000000000000000");
    if field("NoNewPrivs:") != Some("1")
        || field("Seccomp:") != Some("2")
        || ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].iter().any(|name| field(name) != none)
    {
        return Err(format!("the api has {status}"));
    }
    vm.ok("grep -q . /sys/fs/cgroup/bolt.slice/bolt-executions.service/holder/cgroup.procs")?;
    let security =
        vm.ok("systemd-analyze security --no-pager bolt-launch bolt-executions | grep Overall; systemctl --version")?;
    let levels = exposures(&security)?;
    Ok(format!("hardening: seccomp and no capabilities in the api; exposure as in the paper: {}", levels.join(", ")))
}

/// Compares the figures of `systemd-analyze security`, and its version, with those of the operator's paper.
fn exposures(said: &str) -> Result<Vec<String>, String> {
    let paper = include_str!("../../../systemd/README.md");
    let version = said.lines().find_map(|line| line.strip_prefix("systemd ")?.split(' ').next()).unwrap_or_default();
    if !paper.contains(&format!("`systemd-analyze security` (systemd {version}) ")) {
        return Err(format!("the paper has figures of another systemd: {said}"));
    }
    let mut levels = Vec::new();
    for line in said.lines().filter_map(|line| line.split("level for ").nth(1)) {
        let (unit, figure) = line.split_once(": ").ok_or(line)?;
        let figure = figure.split(' ').next().unwrap_or_default();
        if !paper.contains(&format!("\n| `{unit}` | {figure} | ")) {
            return Err(format!("{unit} has an exposure of {figure}, and the paper another"));
        }
        levels.push(format!("{unit} {figure}"));
    }
    if levels.len() == 2 { Ok(levels) } else { Err(format!("systemd-analyze: {said}")) }
}

/// Stops the launcher's loop with a signal, with a shorter period, while an execution runs.
async fn watchdog(api: &Api, vm: &mut Vm) -> Result<(), String> {
    vm.ok("test $(systemctl show -P WatchdogUSec bolt-launch) = 2min")?;
    vm.ok("mkdir -p /run/systemd/system/bolt-launch.service.d")?;
    vm.ok("printf '[Service]\nWatchdogSec=10s\n' >/run/systemd/system/bolt-launch.service.d/watchdog.conf")?;
    vm.ok("systemctl daemon-reload && systemctl restart bolt-launch")?;
    let pid = vm.ok("systemctl show -P MainPID bolt-launch")?;
    // Longer than the period: without notifications, systemd would have killed it.
    vm.ok("sleep 15")?;
    let same = vm.ok("systemctl show -P MainPID bolt-launch")?;
    let execution = api.order_until("machine.lines", &json!({"count": LINES, "pause": "0.5"}), "watchdog").await?;
    api.running(&execution).await?;
    vm.ok(&format!("kill -STOP {pid}"))?;
    vm.ok(&format!("n=0; while kill -0 {pid}; do n=$((n+1)); test $n -lt 120 || exit 1; sleep 1; done 2>/dev/null"))?;
    let end = api.wait(execution.id.as_str()).await?;
    let output = api.stdout(end.id.as_str()).await?;
    let next = vm.ok("systemctl show -P MainPID bolt-launch")?;
    vm.ok(
        "rm -r /run/systemd/system/bolt-launch.service.d && systemctl daemon-reload && systemctl restart bolt-launch",
    )?;
    api.ready().await?;
    if pid != same || next == pid || end.state != State::Succeeded || output != load::lines(end.id.as_str(), LINES) {
        return Err(format!("launcher {pid}, {same}, then {next}; execution {} with {output:?}", end.state));
    }
    Ok(())
}

/// The client's command, and its other name.
fn client(vm: &mut Vm) -> Result<(), String> {
    vm.ok(&format!("dpkg -i /root/payload/bolt-client_{}_*.deb", VERSIONS[0]))?;
    vm.ok("bolt-client --version && bolt --version && test $(readlink -f /usr/bin/bolt) = /usr/bin/bolt-client")?;
    vm.ok("test -e /usr/share/bash-completion/completions/bolt-client")?;
    // Runs bolt-agent from the directory in which its package installs it.
    vm.ok("bolt agent check")?;
    vm.ok("dpkg --remove bolt-client && test ! -e /usr/bin/bolt && test ! -L /usr/bin/bolt")?;
    Ok(())
}

/// Installs another version while executions run. Returns how many ran.
async fn upgrade(api: &Api, vm: &mut Vm, version: &str) -> Result<usize, String> {
    let pids = "systemctl show -P MainPID bolt-launch bolt-executions | tr -s '\\n' ' '";
    let before = vm.ok(pids)?;
    let mut load = Vec::new();
    for number in 0..LOAD {
        let parameters = json!({"count": LINES, "pause": "0.5"});
        load.push(api.order_until("machine.lines", &parameters, &format!("{version}-{number}")).await?);
    }
    started(vm, &load)?;
    vm.ok(&site::dpkg(version))?;
    let after = vm.ok(pids)?;
    let (before, after): (Vec<_>, Vec<_>) = (before.split_whitespace().collect(), after.split_whitespace().collect());
    if before.len() != 2 || after.len() != 2 || before[0] == after[0] || before[1] != after[1] {
        return Err(format!("launcher and holder had {before:?}, and after the upgrade {after:?}"));
    }
    let installed = vm.ok("dpkg-query -W -f '${Version}' bolt-agent")?;
    if installed != version {
        return Err(format!("{installed} is installed"));
    }
    let is_at_work = |now: &&Execution| now.state == State::Running && load.iter().any(|one| one.id == now.id);
    let at_work = api.executions().await?.iter().filter(is_at_work).count();
    api.wait(load[load.len() - 1].id.as_str()).await?;
    let seen = api.executions().await?;
    for Execution { id, .. } in &load {
        let end = match seen.iter().find(|now| now.id == *id && now.state.is_terminal()) {
            Some(end) => end.clone(),
            None => api.wait(id.as_str()).await?,
        };
        let output = api.stdout(id.as_str()).await?;
        if end.state != State::Succeeded || output != load::lines(id.as_str(), LINES) {
            return Err(format!("{id}: {} with {} bytes", end.state, output.len()));
        }
    }
    if at_work == 0 { Err("no execution ran any more when the upgrade was over".to_owned()) } else { Ok(at_work) }
}

/// Waits in the guest until these executions of `machine.lines` have begun: a request takes most of a second there.
fn started(vm: &mut Vm, executions: &[Execution]) -> Result<(), String> {
    let marks: Vec<String> = executions.iter().map(|execution| format!("/var/tmp/ledger/{}", execution.id)).collect();
    let all = marks.join(" ");
    vm.ok(&format!("n=0; until ls {all} >/dev/null 2>&1; do n=$((n+1)); test $n -lt 600 || exit 1; sleep 0.1; done"))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "-> Overall exposure level for bolt-launch.service: 9.6 UNSAFE :-{\n\
                        -> Overall exposure level for bolt-executions.service: 1.7 OK :-)\nsystemd 252 (252.39-1~deb12u1)\n";

    #[test]
    fn an_exposure_that_differs_from_the_paper_is_found() {
        assert_eq!(exposures(SAID), Ok(vec!["bolt-launch.service 9.6".into(), "bolt-executions.service 1.7".into()]));
        for (from, to) in [("9.6", "9.5"), ("1.7", "1.8"), ("bolt-executions", "other"), ("systemd 252", "systemd 254")]
        {
            exposures(&SAID.replace(from, to)).unwrap_err();
        }
        exposures("systemd 252 (252.39-1~deb12u1)\n").unwrap_err();
    }
}
