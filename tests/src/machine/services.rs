//! Actions of the pack `linux` on a host with systemd: units that failed, services, and the clock.

use std::path::Path;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use super::load::Api;
use super::site::{ID, MachineSite};
use super::steps::Steps;
use super::vm::Vm;

/// Seconds by which the clock is put ahead.
const AHEAD: f64 = 90.0;
/// A time server on the machine. Its time goes on from that of its start, whatever is done to the clock.
const TIME_SERVER: &str = r#"
import socket, struct, time
began = time.time() - time.monotonic()
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 123))
while True:
    asked, peer = sock.recvfrom(512)
    now = began + time.monotonic() + 2208988800
    stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
    head = struct.pack("!BBbbII4s", 0x24, 1, 4, -20, 0, 0, b"TEST")
    sock.sendto(head + stamp + asked[40:48] + stamp + stamp, peer)
"#;

/// Publishes the pack.
pub(super) fn publish(site: &MachineSite) {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs-schema/examples/linux");
    site.world.publish_directory(&pack);
}

/// Boots a machine, and runs the actions of the pack on it, those on the clock as well; returns one line for each step.
pub fn run(image: &Path, site: &MachineSite) -> Result<String, String> {
    let mut steps = Steps::begin();
    publish(site);
    let mut vm = site.install(image, ID)?;
    site.start(&mut vm, ID)?;
    let api = Api { address: vm.address(), caller: site.world.site.operator() };
    let runtime = super::runtime()?;
    runtime.block_on(units(&api, &mut vm))?;
    steps.done("a failed unit with its reason; a service shown, reloaded, restarted; others refused");
    let set = runtime.block_on(clock(&api, &mut vm))?;
    steps.done(&format!("a clock that is ahead is set by systemd-timesyncd: {set}"));
    Ok(steps.report())
}

/// Finds a unit that failed; shows, reloads and restarts a service.
pub(super) async fn units(api: &Api, vm: &mut Vm) -> Result<(), String> {
    api.has_action("linux.failed_units").await?;
    let unit = |name: &str, service: &str| {
        format!("printf '[Service]\\n{service}\\n' >/run/systemd/system/machine-{name}.service")
    };
    vm.ok(&unit("web", "ExecStart=/bin/sleep infinity\\nExecReload=/bin/true"))?;
    vm.ok(&unit("broken", "Type=oneshot\\nExecStart=/bin/sh -c \"echo the reason; exit 7\""))?;
    vm.ok("systemctl daemon-reload && systemctl start machine-web && ! systemctl start machine-broken")?;

    let end = order(api, "failed_units", &json!({})).await?;
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
    let end = order(api, "service_status", &web).await?;
    let result = expect(&end, State::Succeeded)?;
    if result["state"] != "active" || result["main_pid"] != pid || result["manager"] != "systemd" {
        return Err(format!("the main process is {pid}: {end:?}"));
    }
    let end = order(api, "reload_service", &json!({"service": "machine-web", "settle": 1})).await?;
    if expect(&end, State::Succeeded)?["outcome"] != "reloaded" || main_pid(vm)? != pid {
        return Err(format!("reloaded: {end:?}"));
    }
    let end = order(api, "restart_service", &json!({"service": "machine-web", "settle": 1})).await?;
    let after = main_pid(vm)?;
    let result = expect(&end, State::Succeeded)?;
    if result["outcome"] != "restarted" || result["after"]["main_pid"] != after || after == pid {
        return Err(format!("restarted, with {pid} before and {after} now: {end:?}"));
    }
    let end = order(api, "restart_service", &json!({"service": "cron"})).await?;
    if end.state != State::Failed || end.exit_status != Some(2) {
        return Err(format!("not in the site's list: {end:?}"));
    }
    vm.ok("systemctl stop machine-web").map(drop)
}

/// Puts the clock ahead, and lets the time service set it; returns both differences.
pub(super) async fn clock(api: &Api, vm: &mut Vm) -> Result<String, String> {
    vm.ok(&format!("cat >/root/time_server.py <<'END'{TIME_SERVER}END"))?;
    vm.ok("systemd-run --quiet --unit=machine-time python3 /root/time_server.py")?;
    vm.within_a_minute("grep -q ' 0100007F:007B ' /proc/net/udp")?;
    vm.ok("mkdir -p /etc/systemd/timesyncd.conf.d && printf '[Time]\\nNTP=127.0.0.1\\n' >/etc/systemd/timesyncd.conf.d/machine.conf")?;
    vm.ok("systemctl start systemd-timesyncd")?;
    vm.within_a_minute(
        "test -e /run/systemd/timesync/synchronized && timedatectl show --property=NTPSynchronized --value | grep -qx yes",
    )?;
    let health = order(api, "clock_health", &json!({})).await?;
    if expect(&health, State::Succeeded)?["source"] != "systemd-timesyncd" {
        return Err(format!("the time service: {health:?}"));
    }

    // Seconds from the boot to the epoch: a clock that is set changes them.
    let since_boot = |vm: &mut Vm| -> Result<f64, String> {
        let said = vm.ok("echo $(date +%s.%N) $(cut -d' ' -f1 /proc/uptime)")?;
        let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if let [now, uptime] = numbers[..] { Ok(now - uptime) } else { Err(format!("date and uptime: {said:?}")) }
    };
    let before = since_boot(vm)?;
    // A service that runs would see that the clock was changed, and set it by itself.
    vm.ok("systemctl kill --signal=STOP systemd-timesyncd")?;
    vm.ok(&format!("date -s '+{AHEAD} seconds'"))?;
    let ahead = since_boot(vm)? - before;
    let end = order(api, "fix_clock", &json!({})).await?;
    let left = since_boot(vm)? - before;
    let result = expect(&end, State::Succeeded)?;
    if result["outcome"] != "synchronized" || (ahead - AHEAD).abs() > 5.0 || left.abs() > 5.0 {
        return Err(format!("a clock that is {ahead} s ahead, and then {left}: {end:?}"));
    }
    // Without a time server the kernel still calls the clock synchronized.
    vm.ok("systemctl stop machine-time")?;
    let end = order(api, "fix_clock", &json!({"wait": 3})).await?;
    if expect(&end, State::Failed)?["outcome"] != "not_synchronized" {
        return Err(format!("without a time server: {end:?}"));
    }
    vm.ok("systemctl stop systemd-timesyncd")?;
    Ok(format!("{ahead:.1} s ahead, and then {left:.1}"))
}

async fn order(api: &Api, action: &str, parameters: &Value) -> Result<Execution, String> {
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
