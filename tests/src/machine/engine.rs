//! The pack `bolt_engine` on the machine: an upgrade that its own execution survives, and one that is rolled back by itself.

use std::path::Path;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use super::load::Api;
use super::site::{BAD_VERSION, MachineSite, VERSIONS};
use super::vm::Vm;

/// Publishes the pack.
pub(super) fn publish(site: &MachineSite) {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs-schema/examples/bolt_engine");
    site.world.publish_directory(&pack);
}

/// Runs the actions of the published pack.
pub(super) async fn upgrades_and_rolls_back(site: &MachineSite, api: &Api, vm: &mut Vm) -> Result<(), String> {
    api.has_action("bolt_engine.upgrade").await?;
    let [old, new] = VERSIONS;
    let first = json!({"version": new, "sha256": site.digest(new)?, "rollback_sha256": site.digest(old)?,
        "start_wait": 120, "settle": 5});
    let upgrade = order(api, "upgrade", &first).await?;
    guarded(api, vm, &upgrade).await?;
    let end = api.wait(upgrade.id.as_str()).await?;
    expect(&end, State::Succeeded, "upgraded")?;
    expect_installed(vm, new)?;
    let bad = json!({"version": BAD_VERSION, "sha256": site.digest(BAD_VERSION)?, "start_wait": 10, "settle": 0});
    let end = run(api, "upgrade", &bad).await?;
    expect(&end, State::Failed, "rolled_back")?;
    expect_installed(vm, new)?;
    vm.ok("! systemctl list-timers --all | grep bolt-engine")?;
    let health = run(api, "health", &json!({"version": new, "settled": 0})).await?;
    if health.state != State::Succeeded {
        return Err(format!("after the rollback: {health:?}"));
    }
    let back = run(api, "rollback", &json!({"start_wait": 120, "settle": 0})).await?;
    expect(&back, State::Succeeded, "already")?;
    Ok(())
}

/// Returns from a good upgrade to the version that it replaced.
pub(super) async fn returns(api: &Api, vm: &mut Vm, from: &str, to: &str) -> Result<(), String> {
    expect_installed(vm, from)?;
    let launcher = "systemctl show -P MainPID bolt-launch";
    let before = vm.ok(launcher)?;
    let back = run(api, "rollback", &json!({"start_wait": 120, "settle": 5})).await?;
    expect(&back, State::Succeeded, "rolled_back")?;
    expect_installed(vm, to)?;
    // The kernel shows a program that dpkg has replaced as deleted.
    vm.ok(&format!("test \"$(readlink /proc/$({launcher})/exe)\" = /usr/lib/bolt/bolt-launch"))?;
    vm.ok("! systemctl list-timers --all | grep bolt-engine")?;
    let health = run(api, "health", &json!({"version": to, "settled": 0})).await?;
    match health.state == State::Succeeded && vm.ok(launcher)? != before {
        true => Ok(()),
        false => Err(format!("after the return to {to}: launcher {before} before; {health:?}")),
    }
}

async fn run(api: &Api, action: &str, parameters: &Value) -> Result<Execution, String> {
    let accepted = order(api, action, parameters).await?;
    api.wait(accepted.id.as_str()).await
}

async fn order(api: &Api, action: &str, parameters: &Value) -> Result<Execution, String> {
    let key = format!("engine-{action}-{}", parameters["version"].as_str().unwrap_or_default());
    api.order_until(&format!("bolt_engine.{action}"), parameters, &key).await
}

/// Waits until the timer that would return to the previous version is active; an error if the upgrade ends before that.
pub(super) async fn guarded(api: &Api, vm: &mut Vm, upgrade: &Execution) -> Result<(), String> {
    for _ in 0..600 {
        if vm.run("systemctl is-active bolt-engine-rollback.timer")?.output.trim() == "active" {
            return Ok(());
        }
        let call = crate::http::Call::get(&format!("/v1/executions/{}", upgrade.id));
        if api.persist(call).await?.json::<Execution>().state.is_terminal() {
            return Err("the upgrade ended, and its rollback timer was never seen active".to_owned());
        }
    }
    Err("the upgrade neither ends nor has a rollback timer".to_owned())
}

/// Checks the end of an action of the pack, and the outcome in its result.
pub(super) fn expect(end: &Execution, state: State, outcome: &str) -> Result<(), String> {
    let found = end.result.as_ref().and_then(|result| result.get("outcome")).and_then(Value::as_str);
    if end.state == state && found == Some(outcome) { Ok(()) } else { Err(format!("not {outcome}: {end:?}")) }
}

/// Checks the version that dpkg has.
pub(super) fn expect_installed(vm: &mut Vm, version: &str) -> Result<(), String> {
    let installed = vm.ok("dpkg-query -W -f '${db:Status-Status} ${Version}' bolt-agent")?;
    if installed == format!("installed {version}") { Ok(()) } else { Err(format!("dpkg has {installed}")) }
}
