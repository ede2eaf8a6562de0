//! Pushed versions: the launcher enforces their expiry.

use std::fs;

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::Refusal;
use serde_json::{Value, json};

use crate::driver::{Host, digest, put};
use crate::preparing::{is_gone, prepare};

/// Returns the time since boot, in milliseconds.
fn boot_ms() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    (uptime.split(' ').next().unwrap().parse::<f64>().unwrap() * 1000.0) as u64
}

fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Returns a host with a pushed pack.
fn ready() -> Host {
    let host = Host::new();
    host.action("it", "#!/bin/sh\nsleep 600\n", json!({"grace": "100ms"}));
    let file = host.version().join(".bolt/pack.json");
    let mut stored: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    stored["dev"] = json!({"by": "spiffe://example/dev", "pushed_at_ms": 1, "until_ms": 2});
    put(&file, stored.to_string().as_bytes(), 0o644);
    host
}

fn until(host: &Host, boot: &str, until_boot_ms: u64, until_ms: u64) {
    let active = json!({"directory": host.version().file_name().unwrap().to_str().unwrap(), "digest": digest(),
        "size_bytes": 1, "until_ms": until_ms, "until_boot_ms": until_boot_ms, "boot": boot});
    let record = json!({"format": 1, "active": active, "ended": []});
    put(&host.path("packs/demo/.dev.json"), record.to_string().as_bytes(), 0o644);
}

fn this_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

#[test]
fn an_execution_ends_when_its_pushed_version_expires() {
    let mut host = ready();
    // By the clock of the boot, and by the wall clock.
    for (boot, wall) in [(1500, 3_600_000), (3_600_000, 1500)] {
        until(&host, &this_boot(), boot_ms() + boot, wall_ms() + wall);
        let request = host.request("it", json!({}));
        let ended = host.started(&request).finished();
        assert_eq!(ended.exit.state, State::TimedOut, "{:?}", ended.exit);
        let reason = ended.exit.reason.unwrap();
        assert!(reason.contains("when the pushed version expired"), "{reason}");
        assert!(ended.started.unwrap().timeout_ms <= 1500);
    }
    // The action's own time-out is earlier.
    until(&host, &this_boot(), boot_ms() + 3_600_000, wall_ms() + 3_600_000);
    let mut request = host.request("it", json!({}));
    request.timeout_ms = Some(300);
    let reason = host.started(&request).finished().exit.reason.unwrap();
    assert_eq!(reason, "stopped after 300ms");
}

#[test]
fn an_execution_of_a_pushed_version_is_not_prepared() {
    let mut host = ready();
    until(&host, &this_boot(), boot_ms() + 3_600_000, wall_ms() + 3_600_000);
    let request = host.request("it", json!({}));
    assert_eq!(prepare(&mut host, &request), Some(Refusal::NotActive));
    is_gone(&host, &request);
}

#[test]
fn an_expired_pushed_version_is_refused() {
    let mut host = ready();
    let request = host.request("it", json!({}));
    let refused = |host: &mut Host, why: &str| {
        let (code, message) = host.refused(&request);
        assert!(code == Refusal::NotActive && message.contains(why), "{code:?}: {message}");
    };
    refused(&mut host, ".dev.json");
    until(&host, "another boot", boot_ms() + 3_600_000, wall_ms() + 3_600_000);
    refused(&mut host, "the host was restarted");
    for (boot, wall) in [(0, 3_600_000), (3_600_000, 0)] {
        until(&host, &this_boot(), boot_ms() + boot, wall_ms() + wall);
        refused(&mut host, "it has expired");
    }
    put(&host.path("packs/demo/.dev.json"), br#"{"format":1,"ended":[]}"#, 0o644);
    refused(&mut host, "no record of when it expires");
    put(&host.path("packs/demo/.dev.json"), b"{", 0o644);
    let (code, _) = host.refused(&request);
    assert_eq!(code, Refusal::StoreUntrusted);
}
