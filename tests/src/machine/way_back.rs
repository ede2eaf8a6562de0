//! An upgrade that dies after it has installed a version whose launcher does not start: only the timer of systemd is left, and it
//! must return to the previous version, also if the package manager is locked when it fires.

use std::path::Path;
use std::time::{Duration, Instant};

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::json;

use super::engine;
use super::load::Api;
use super::site::{BAD_VERSION, ID, MachineSite, VERSIONS};
use super::steps::Steps;
use super::vm::Vm;

/// Seconds for which the upgrade waits for its agent, and within which it must be killed. The timer is set to 510 seconds more.
const START_WAIT: u64 = 60;
/// Time within which the timer must fire: what it is set to, and what an emulated machine may be late.
const FIRES_WITHIN: Duration = Duration::from_secs(START_WAIT + 510 + 180);
/// Holds dpkg's lock until its file is removed.
const LOCKED: &str = "import fcntl, os, time\n\
                      lock = open('/var/lib/dpkg/lock', 'w')\n\
                      fcntl.lockf(lock, fcntl.LOCK_EX)\n\
                      open('/run/locked', 'w').close()\n\
                      while os.path.exists('/run/locked'):\n    time.sleep(0.5)\n";

/// Runs every step; returns one line for each, or why one failed.
pub fn run(image: &Path) -> Result<String, String> {
    let mut steps = Steps::begin();
    let site = MachineSite::create()?;
    engine::publish(&site);
    let mut vm = site.install(image, ID)?;
    site.start(&mut vm, ID)?;
    let runtime = super::runtime()?;
    let api = Api { address: vm.address(), caller: site.world.site.operator() };
    let old = VERSIONS[0];
    runtime.block_on(api.has_action("bolt_engine.upgrade"))?;
    steps.done(&format!("the machine runs {old} and has the pack bolt_engine"));

    let upgrade = runtime.block_on(killed_after_the_installation(&site, &api, &mut vm))?;
    steps.done(&format!("{BAD_VERSION} installed, no launcher, and the upgrade killed: only the timer is left"));

    lock(&mut vm)?;
    until(&mut vm, FIRES_WITHIN, "test \"$(systemctl show -P NRestarts bolt-engine-rollback.service)\" -ge 1")?;
    engine::expect_installed(&mut vm, BAD_VERSION)?;
    steps.done("the timer fires while dpkg is locked, and its installation is to be tried again");

    vm.ok("rm /run/locked")?;
    until(
        &mut vm,
        FIRES_WITHIN,
        &format!("dpkg-query -W -f '${{db:Status-Status}} ${{Version}}' bolt-agent | grep -qx 'installed {old}'"),
    )?;
    runtime.block_on(api.ready())?;
    vm.within_a_minute("! systemctl list-units --all 'bolt-engine-rollback*' | grep bolt-engine")?;
    steps.done(&format!("tried again, and {old} is installed and runs; no timer is left"));

    runtime.block_on(told_honestly(&api, &upgrade))?;
    steps.done("bolt_engine.health finds it healthy; the upgrade has one end, and not that it succeeded");
    Ok(steps.report())
}

/// Orders the upgrade and kills all of its processes while it waits for its agent.
async fn killed_after_the_installation(site: &MachineSite, api: &Api, vm: &mut Vm) -> Result<Execution, String> {
    let parameters = json!({"version": BAD_VERSION, "sha256": site.digest(BAD_VERSION)?,
        "rollback_sha256": site.digest(VERSIONS[0])?, "start_wait": START_WAIT, "settle": 0});
    let upgrade = api.order_until("bolt_engine.upgrade", &parameters, "abandoned").await?;
    engine::guarded(api, vm, &upgrade).await?;
    let installed = format!(
        "dpkg-query -W -f '${{db:Status-Status}} ${{Version}}' bolt-agent | grep -qx 'installed {BAD_VERSION}'"
    );
    until(vm, Duration::from_secs(120), &installed)?;
    // Before START_WAIT is over: the action would return to the previous version by itself, without the timer.
    let group = format!("$(find /sys/fs/cgroup -type d -name 'bolt-{}')", upgrade.id);
    vm.ok(&format!("for group in {group}; do echo 1 >$group/cgroup.kill || exit 1; done"))?;
    vm.within_a_minute("! pgrep -f 'upgrade[.]py'")?;
    vm.ok("systemctl is-active bolt-engine-rollback.timer && ! systemctl is-active bolt-engine-rollback.service")?;
    // systemd starts the launcher that ends at once again and again.
    vm.within_a_minute("! pgrep -x bolt-launch && ! pgrep -x bolt-agent")?;
    engine::expect_installed(vm, BAD_VERSION)?;
    Ok(upgrade)
}

fn lock(vm: &mut Vm) -> Result<(), String> {
    vm.ok(&format!(
        "cat >/run/lock.py <<'END'\n{LOCKED}END\nsystemd-run --quiet --unit=holds-lock python3 /run/lock.py"
    ))?;
    vm.within_a_minute("test -e /run/locked")
}

/// Asks the guest until a command succeeds.
fn until(vm: &mut Vm, patience: Duration, command: &str) -> Result<(), String> {
    let end = Instant::now() + patience;
    while vm.run(command)?.status != 0 {
        if Instant::now() > end {
            let seen = vm.run(
                "systemctl list-timers --all --no-pager; systemctl status --no-pager 'bolt*'; dpkg -l bolt-agent",
            )?;
            return Err(format!("not within {} s: {command}\n{}", patience.as_secs(), seen.output));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// The agent is healthy, and the killed upgrade is not reported as a success.
async fn told_honestly(api: &Api, upgrade: &Execution) -> Result<(), String> {
    let parameters = json!({"version": VERSIONS[0], "settled": 0});
    let health = api.order_until("bolt_engine.health", &parameters, "health").await?;
    let health = api.wait(health.id.as_str()).await?;
    if health.state != State::Succeeded {
        return Err(format!("after the way back: {health:?}"));
    }
    let end = api.wait(upgrade.id.as_str()).await?;
    match end.state {
        State::Lost | State::Killed | State::Failed => Ok(()),
        _ => Err(format!("the upgrade was killed, and has {end:?}")),
    }
}
