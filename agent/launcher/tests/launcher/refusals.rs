//! Refusals of requests, with a fixture for each.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::unistd::{Uid, chown};
use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::base::name::{Digest, PackName, PackVersion};
use serde_json::json;

use crate::driver::{Host, is_root, put, skipped};

const SCRIPT: &str = "#!/bin/sh\necho must not run\n";

/// Returns a host with one action, a request for it, and the action's entry point.
fn ready() -> (Host, Start, std::path::PathBuf) {
    let host = Host::new();
    host.action("it", SCRIPT, json!({}));
    let request = host.request("it", json!({}));
    let entry = host.version().join("actions/it.sh");
    (host, request, entry)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn refused(host: &mut Host, request: &Start, code: Refusal) -> String {
    let (found, message) = host.refused(request);
    assert_eq!(found, code, "{message}");
    let dir = host.execution(&request.execution).dir;
    assert!(!dir.join("lock").exists() && !dir.join("started").exists(), "something was started");
    message
}

#[test]
fn unknown_packs() {
    let (mut host, request, _) = ready();
    let other = Start { pack: PackName::new("other").unwrap(), ..request.clone() };
    refused(&mut host, &other, Refusal::UnknownPack);
    let other = Start { version: PackVersion::new("2.0.0").unwrap(), ..request.clone() };
    refused(&mut host, &other, Refusal::UnknownPack);
    let other = Start { digest: Digest::new("cd".repeat(32)).unwrap(), ..request.clone() };
    refused(&mut host, &other, Refusal::UnknownPack);
    // A digest with the same first twelve digits.
    let other = Start { digest: Digest::new("ab".repeat(31) + "cd").unwrap(), ..request };
    let message = refused(&mut host, &other, Refusal::UnknownPack);
    assert!(message.contains("another"), "{message}");
}

#[test]
fn unknown_and_disabled_actions() {
    let (mut host, _, _) = ready();
    let request = Start { action: "other".parse().unwrap(), ..host.request("it", json!({})) };
    refused(&mut host, &request, Refusal::UnknownAction);
    host.action("off", SCRIPT, json!({"enabled": false}));
    let request = host.request("off", json!({}));
    refused(&mut host, &request, Refusal::ActionDisabled);
    host.action("wrong", SCRIPT, json!({"name": "right"}));
    let request = host.request("wrong", json!({}));
    refused(&mut host, &request, Refusal::StoreUntrusted);
}

#[test]
fn invalid_parameters() {
    let (mut host, _, _) = ready();
    let parameters = json!({"n": {"type": "integer", "minimum": 1}, "cmd": {"type": "string", "default": "ls", "immutable": true},
        "need": {"type": "string", "required": true}, "pin": {"type": "string", "secret": true, "pattern": "^[0-9]+$"}});
    host.action("it", SCRIPT, json!({"parameters": parameters}));
    let request = host.request("it", json!({"n": 0, "cmd": "rm", "extra": 1, "pin": "canary"}));
    let message = refused(&mut host, &request, Refusal::InvalidParameters);
    for name in
        ["n must be at least 1", "cmd is immutable", "extra is not a parameter", "need must be given", "pin must match"]
    {
        assert!(message.contains(name), "{message}");
    }
    assert!(!message.contains("canary"), "{message}");
}

#[test]
fn untrusted_entry_points() {
    let (mut host, request, entry) = ready();
    mode(&entry, 0o644);
    refused(&mut host, &request, Refusal::EntryPointNotExecutable);
    mode(&entry, 0o775);
    refused(&mut host, &request, Refusal::EntryPointWritable);
    mode(&entry, 0o755);
    mode(entry.parent().unwrap(), 0o777);
    refused(&mut host, &request, Refusal::EntryPointWritable);
    mode(entry.parent().unwrap(), 0o755);
    fs::remove_file(&entry).unwrap();
    refused(&mut host, &request, Refusal::EntryPointMissing);
    symlink("/bin/true", &entry).unwrap();
    refused(&mut host, &request, Refusal::EntryPointOutside);
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    refused(&mut host, &request, Refusal::EntryPointOutside);
    fs::remove_dir(&entry).unwrap();
    nix::unistd::mkfifo(&entry, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&mut host, &request, Refusal::EntryPointOutside);
}

#[test]
fn an_entry_point_behind_a_symbolic_link() {
    let (mut host, _, entry) = ready();
    host.action("it", SCRIPT, json!({"entry_point": "lib/it.sh"}));
    let elsewhere = host.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    put(&elsewhere.join("it.sh"), SCRIPT.as_bytes(), 0o755);
    symlink(&elsewhere, entry.with_file_name("lib")).unwrap();
    let request = host.request("it", json!({}));
    refused(&mut host, &request, Refusal::EntryPointOutside);
}

#[test]
fn a_store_writable_by_others() {
    let (mut host, request, _) = ready();
    let version = host.version();
    let (pack, packs) = (version.parent().unwrap().to_owned(), host.path("packs"));
    let meta = version.join(".bolt");
    for dir in [&packs, &pack, &version, &meta, &meta.join("actions")] {
        mode(dir, 0o775);
        refused(&mut host, &request, Refusal::StoreUntrusted);
        mode(dir, 0o755);
    }
    for file in [meta.join("pack.json"), meta.join("actions/it.json")] {
        mode(&file, 0o666);
        refused(&mut host, &request, Refusal::StoreUntrusted);
        mode(&file, 0o644);
    }
    let stored = fs::read(meta.join("pack.json")).unwrap();
    put(&meta.join("pack.json"), &vec![b' '; 70 << 10], 0o644);
    let message = refused(&mut host, &request, Refusal::StoreUntrusted);
    assert!(message.contains("larger than 65536"), "{message}");
    put(&meta.join("pack.json"), &stored, 0o644);
    put(&pack.join("config.json"), b"[]", 0o644);
    refused(&mut host, &request, Refusal::StoreUntrusted);
    fs::remove_file(pack.join("config.json")).unwrap();
    // A symbolic link at the path of the version's directory.
    fs::rename(&version, pack.join("moved")).unwrap();
    symlink(pack.join("moved"), &version).unwrap();
    refused(&mut host, &request, Refusal::StoreUntrusted);
}

#[test]
fn a_store_owned_by_another_account() {
    if !is_root() {
        return skipped("a_store_owned_by_another_account", "only root can give files away");
    }
    let (mut host, request, entry) = ready();
    let (stranger, root) = (Some(Uid::from_raw(64199)), Some(Uid::from_raw(0)));
    for (path, code) in [
        (host.version(), Refusal::StoreUntrusted),
        (host.version().join(".bolt/actions/it.json"), Refusal::StoreUntrusted),
        (entry, Refusal::EntryPointWritable),
    ] {
        chown(&path, stranger, None).unwrap();
        refused(&mut host, &request, code);
        chown(&path, root, None).unwrap();
    }
}

#[test]
fn unknown_accounts() {
    if !is_root() {
        return skipped("unknown_accounts", "without root the current account is taken");
    }
    let (mut host, _, _) = ready();
    host.action("it", SCRIPT, json!({"run_as": "no-such-account"}));
    let request = host.request("it", json!({}));
    let message = refused(&mut host, &request, Refusal::UnknownUser);
    assert!(message.contains("no-such-account") && message.contains("[users.map]"), "{message}");
}

#[test]
fn execution_directories_not_owned_by_the_api() {
    let (mut host, request, _) = ready();
    let dir = host.execution(&request.execution).dir;
    mode(&dir, 0o770);
    refused(&mut host, &request, Refusal::NoDirectory);
    fs::remove_dir(&dir).unwrap();
    refused(&mut host, &request, Refusal::NoDirectory);
    let elsewhere = host.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &dir).unwrap();
    refused(&mut host, &request, Refusal::NoDirectory);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

/// A compromised api sends frames that the types do not allow: the launcher disconnects, and nothing is started.
#[test]
fn forged_requests_end_the_connection() {
    let long = "x".repeat(packs_schema::agent::launch::MAX_FRAME);
    for (field, forged) in [
        ("execution", "../../packs/demo"),
        ("execution", "0"),
        ("pack", "../demo"),
        ("pack", "demo/../demo"),
        ("version", "1.0.0/../1.0.0"),
        ("digest", "../../../../etc"),
        ("action", "../it"),
        ("action", "it.json"),
        ("action", "it\0"),
        ("run", "../x"),
        ("command", "/bin/id"),
        ("action", &long),
    ] {
        let (mut host, request, _) = ready();
        let mut start = serde_json::to_value(&request).unwrap();
        start[field] = json!(forged);
        let frame = json!({"seq": 1, "ask": {"start": start}}).to_string();
        host.send_frame(frame.as_bytes());
        assert!(host.receive().is_none(), "{field} = {forged:.40} was answered");
        assert_eq!(host.wait_launcher().code(), Some(1), "{field} = {forged:.40}");
        let left = fs::read_dir(host.execution(&request.execution).dir).unwrap().count();
        assert_eq!(left, 0, "{field} = {forged:.40} left something");
    }
}

#[test]
fn deep_json_and_duplicate_keys_end_the_connection() {
    let (_, request, _) = ready();
    let text = json!({"seq": 1, "ask": {"start": serde_json::to_value(&request).unwrap()}}).to_string();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let doubled = r#"{"n":1,"n":2}"#.to_owned();
    for parameters in [deep, doubled] {
        let mut host = Host::new();
        host.send_frame(text.replace("\"parameters\":{}", &format!("\"parameters\":{parameters}")).as_bytes());
        assert!(host.receive().is_none());
        assert_eq!(host.wait_launcher().code(), Some(1));
    }
}

#[test]
fn a_start_that_fails_can_be_retried() {
    let (mut host, request, _) = ready();
    // A file at the path of its run-time directory.
    let way = host.path(&format!("run/{}", request.execution));
    fs::write(&way, "").unwrap();
    let message = refused(&mut host, &request, Refusal::Resources);
    assert!(message.contains("cannot create the run-time directory"), "{message}");
    fs::remove_file(&way).unwrap();
    assert_eq!(host.started(&request).finished().exit.exit_status, Some(0));
}
