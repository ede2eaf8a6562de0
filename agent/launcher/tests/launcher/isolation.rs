//! Isolation of actions: no environment, descriptors, account or privileges of the launcher.

use nix::unistd::{Gid, Uid, chown};
use packs_schema::agent::execution::State;
use packs_schema::agent::launch::Refusal;
use serde_json::json;

use crate::driver::{Host, is_root, put, skipped};

#[test]
fn the_environment_starts_empty() {
    let mut host = Host::new();
    host.action("it", "#!/usr/bin/env -S cat /proc/self/environ\n", json!({}));
    let mut request = host.request("it", json!({}));
    request.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let ended = host.started(&request).finished();
    let said = ended.stdout();
    let names: Vec<&str> = said.split('\0').filter_map(|v| v.split_once('=')).map(|(name, _)| name).collect();
    let expected = [
        "PATH",
        "HOME",
        "USER",
        "LANG",
        "BOLT_EXECUTION_ID",
        "BOLT_RUN_ID",
        "BOLT_PACK",
        "BOLT_ACTION",
        "BOLT_VERSION",
        "BOLT_DEADLINE",
        "BOLT_INSTANCE_ID",
        "BOLT_REGION",
        "BOLT_ZONE",
        "BOLT_NOOP",
        "TRACEPARENT",
        "BOLT_RESULT",
    ];
    assert_eq!(names, expected);
    assert!(said.contains("BOLT_INSTANCE_ID=i-test\0BOLT_REGION=us-east-1\0BOLT_ZONE=us-east-1a"), "{said}");
}

/// Stored facts are used if they are of this boot and only the sync can have written them.
#[test]
fn the_instance_id_comes_only_from_the_sync() {
    let mut host = Host::without_instance_id();
    let (facts, script) =
        (host.path("packs/.facts.json"), "#!/bin/sh\necho $BOLT_INSTANCE_ID $BOLT_REGION $BOLT_ZONE\n");
    host.action("it", script, json!({}));
    let request = host.request("it", json!({}));
    let unknown = (Refusal::Resources, "the id of this instance is unknown");
    let refused = |host: &mut Host, (code, why): (Refusal, &str)| {
        let (found, message) = host.refused(&request);
        assert!(found == code && message.contains(why), "{found:?}: {message}");
    };
    refused(&mut host, unknown);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let write = |boot: &str, mode| {
        let text = json!({"format": 1, "boot": boot, "id": "i-cloud", "region": "eu-west-1", "zone": "eu-west-1c"});
        put(&facts, text.to_string().as_bytes(), mode);
    };
    write("of another boot", 0o644);
    refused(&mut host, unknown);
    write(boot.trim(), 0o666);
    refused(&mut host, (Refusal::StoreUntrusted, "mode 666"));
    write(boot.trim(), 0o644);
    if is_root() {
        chown(&facts, Some(Uid::from_raw(64199)), None).unwrap();
        refused(&mut host, (Refusal::StoreUntrusted, "owner 64199"));
        chown(&facts, Some(Uid::from_raw(0)), None).unwrap();
    }
    put(&facts, b"{\"format\":1", 0o644);
    refused(&mut host, (Refusal::StoreUntrusted, ".facts.json"));
    std::fs::remove_file(&facts).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &facts).unwrap();
    refused(&mut host, (Refusal::StoreUntrusted, ".facts.json"));
    std::fs::remove_file(&facts).unwrap();
    write(boot.trim(), 0o644);
    assert_eq!(host.started(&request).finished().stdout(), "i-cloud eu-west-1 eu-west-1c\n");
}

#[test]
fn no_descriptor_is_inherited() {
    let mut host = Host::new();
    let ended = host.run("#!/bin/sh\nexec ls -l /proc/self/fd\n", json!({}));
    let said = ended.stdout();
    let open: Vec<&str> = said.lines().filter_map(|l| l.split_once(" -> ")?.0.rsplit(' ').next()).collect();
    // The fourth is the directory that ls reads, the last one the result.
    assert_eq!(open, ["0", "1", "2", "3", "59"], "{said}");
    assert!(said.lines().any(|l| l.contains("3 -> /proc/")), "{said}");
    assert!(said.lines().any(|l| l.contains("59 -> /memfd:bolt-result-")), "{said}");
}

#[test]
fn nice_value_umask_and_no_new_privileges_are_set() {
    let mut host = Host::new();
    let script = "#!/bin/sh\ncat /proc/self/oom_score_adj; umask; ulimit -n; ulimit -c; pwd\n\
        awk '{print \"nice\", $19}' /proc/self/stat; grep -E 'NoNewPrivs|SigIgn|SigBlk' /proc/self/status\n";
    let said = host.run(script, json!({})).stdout();
    let nice = std::fs::read_to_string("/proc/self/stat").unwrap();
    let nice: i32 = nice.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap();
    assert!(said.contains("500\n0077\n256\n0\n"), "{said}");
    assert!(said.contains(&format!("{}\n", host.version().display())), "{said}");
    assert!(said.contains(&format!("nice {}\n", (nice + 1).min(19))), "{said}");
    assert!(said.contains("NoNewPrivs:\t1") && said.contains("SigIgn:\t0000000000000000"), "{said}");
    assert!(said.contains("SigBlk:\t0000000000000000"), "{said}");
    let said = host.run(script, json!({"new_privileges": true})).stdout();
    assert!(said.contains("NoNewPrivs:\t0"), "{said}");
}

#[test]
fn run_as_changes_all_user_and_group_ids() {
    if !is_root() {
        return skipped("run_as_changes_all_user_and_group_ids", "only root can change accounts");
    }
    const RUN_AS: u32 = 64100;
    let execution = format!("require_limits = false\ndefault_run_as = \"{RUN_AS}\"");
    let mut host = Host::with(&execution, "map = { cassandra = \"64107\" }");
    let script = "#!/bin/sh\ngrep -E '^(Uid|Gid|Groups|CapEff)' /proc/self/status; echo \"$USER $HOME\"\n";
    let said = host.run(script, json!({})).stdout();
    assert!(said.contains(&format!("Uid:\t{RUN_AS}\t{RUN_AS}\t{RUN_AS}\t{RUN_AS}\n")), "{said}");
    assert!(said.contains(&format!("Gid:\t{RUN_AS}\t{RUN_AS}\t{RUN_AS}\t{RUN_AS}\n")), "{said}");
    assert!(said.contains("Groups:\t \n") && said.contains("CapEff:\t0000000000000000"), "{said:?}");
    assert!(said.ends_with("64100 /\n"), "{said}");
    let mapped = host.run(script, json!({"run_as": "cassandra"})).stdout();
    assert!(mapped.contains("Uid:\t64107\t"), "{mapped}");
    let root = host.run(script, json!({"run_as": "root"})).stdout();
    assert!(root.contains("Uid:\t0\t") && root.ends_with("root /root\n"), "{root}");
}

#[test]
fn without_root_run_as_is_reported_as_not_enforced() {
    if is_root() {
        return skipped("without_root_run_as_is_reported_as_not_enforced", "it is enforced for root");
    }
    let mut host = Host::new();
    let ended = host.run("#!/bin/sh\n", json!({"run_as": "cassandra"}));
    assert_eq!(ended.exit.state, State::Succeeded);
    assert!(ended.exit.unenforced.iter().any(|u| u == "run_as: not enforced without root"), "{:?}", ended.exit);
    assert!(!host.enforcement().run_as);
}

#[test]
fn an_entry_point_of_another_group_still_belongs_to_its_owner() {
    if !is_root() {
        return skipped("an_entry_point_of_another_group_still_belongs_to_its_owner", "only root can change groups");
    }
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\n", json!({}));
    chown(&host.version().join("actions/it.sh"), None, Some(Gid::from_raw(64100))).unwrap();
    let request = host.request("it", json!({}));
    assert_eq!(host.started(&request).finished().exit.state, State::Succeeded);
}
