//! Actions of the pack `linux` on a host with systemd: units that failed, and services.

use std::path::Path;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use super::load::Api;
use super::site::MachineSite;
use super::vm::Vm;

/// Publishes the pack.
pub(super) fn publish(site: &MachineSite) {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs-schema/examples/linux");
    site.world.publish_directory(&pack);
}

/// Finds a unit that failed; shows, reloads and restarts a service.
pub(super) async fn units(api: &Api, vm: &mut Vm) -> Result<(), String> {
    api.has_action("linux.failed_units").await?;
    let unit = |name: &str, service: &str| {
        format!("printf '[Service]\\n{service}\\n' >/run/systemd/system/machine-{name}.service")
    };
    vm.ok(&unit("web", "ExecStart=/bin/sleep infinity\\nExecReload=/bin/true"))?;
    vm.ok(&unit("broken", "Type=oneshot\\nExecStart=/bin/sh -c \"echo the reason; exit 7\""))?;
    vm.ok("systemctl daemon-reload; systemctl start machine-web; ! systemctl start machine-broken")?;

    let end = run(api, "failed_units", &json!({})).await?;
    let result = expect(&end, State::Succeeded)?;
    let failed = result["units"].as_array().into_iter().flatten().find(|one| one["unit"] == "machine-broken.service");
    let is_found = failed.is_some_and(|unit| {
        let has_reason = unit["log"].as_array().is_some_and(|lines| lines.iter().any(|line| line == "the reason"));
        unit["result"] == "exit-code" && unit["exit_status"] == "7" && has_reason
    });
    if !is_found || result["system"] != "degraded" {
        return Err(format!("a unit failed: {end:?}"));
    }
    vm.ok("systemctl reset-failed machine-broken")?;

    let main_pid = |vm: &mut Vm| -> Result<u64, String> {
        vm.ok("systemctl show -P MainPID machine-web")?.trim().parse().map_err(|e| format!("the main process: {e}"))
    };
    let pid = main_pid(vm)?;
    let web = json!({"service": "machine-web"});
    let end = run(api, "service_status", &web).await?;
    let result = expect(&end, State::Succeeded)?;
    if result["state"] != "active" || result["main_pid"] != pid || result["manager"] != "systemd" {
        return Err(format!("the main process is {pid}: {end:?}"));
    }
    let end = run(api, "reload_service", &json!({"service": "machine-web", "settle": 1})).await?;
    if expect(&end, State::Succeeded)?["outcome"] != "reloaded" || main_pid(vm)? != pid {
        return Err(format!("reloaded: {end:?}"));
    }
    let end = run(api, "restart_service", &json!({"service": "machine-web", "settle": 1})).await?;
    let after = main_pid(vm)?;
    let result = expect(&end, State::Succeeded)?;
    if result["outcome"] != "restarted" || result["after"]["main_pid"] != after || after == pid {
        return Err(format!("restarted, with {pid} before and {after} now: {end:?}"));
    }
    let end = run(api, "restart_service", &json!({"service": "cron"})).await?;
    if end.state != State::Failed || end.exit_status != Some(2) {
        return Err(format!("not in the site's list: {end:?}"));
    }
    vm.ok("systemctl stop machine-web").map(drop)
}

async fn run(api: &Api, action: &str, parameters: &Value) -> Result<Execution, String> {
    let accepted = api.order_until(&format!("linux.{action}"), parameters, &format!("{action}-{parameters}")).await?;
    api.wait(accepted.id.as_str()).await
}

/// Returns the result of an action that ended so.
fn expect(end: &Execution, state: State) -> Result<Value, String> {
    match &end.result {
        Some(result) if end.state == state => Ok(Value::Object(result.clone())),
        _ => Err(format!("not {state}: {end:?}")),
    }
}
