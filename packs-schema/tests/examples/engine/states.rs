//! Upgrades on hosts where something else is at work or was left: a package manager that is locked, a package that is installed
//! in part, and a configuration that is written in another way.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Host, Server, Version, digest};
use crate::driver::{Ended, python};
use crate::python::altered;

/// Holds a lock as dpkg takes it; prints a line when it has it.
const HOLDER: &str = "import fcntl, sys\nlock = open(sys.argv[1], 'w')\nfcntl.lockf(lock, fcntl.LOCK_EX)\n\
    print('held', flush=True)\nsys.stdin.read()\n";

/// Takes dpkg's lock, until the process is dropped.
fn hold(lock: &Path) -> Server {
    let mut holder = Command::new(python());
    holder.args(["-c", HOLDER]).arg(lock).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = Server(holder.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(holder.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    holder
}

/// Upgrades to 1.1 with these parameters in addition.
fn upgrade(host: &Host, more: Value) -> Ended {
    let (file, first) = (host.package("1.1", Version::Good), host.package("1.0", Version::Good));
    let mut parameters = json!({"version": "1.1", "sha256": digest(&file), "rollback_sha256": digest(&first),
        "start_wait": 3, "settle": 0});
    parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    host.run("upgrade", parameters).go()
}

#[test]
fn an_upgrade_that_never_gets_the_lock_changes_nothing_and_says_so() {
    let Some(host) = Host::new("an_upgrade_that_never_gets_the_lock_changes_nothing_and_says_so") else { return };
    host.upgrade("1.1", Version::Good).well();
    // Without the minutes in which another program may release it.
    let impatient = altered("import time\ntime.sleep = lambda seconds: None");
    fs::copy(impatient.path().join("python3"), host.bin.path().join("python3")).unwrap();
    let holder = hold(&host.root().join("var/lib/dpkg/lock"));
    let ended = host.upgrade("1.2", Version::Good).refused(1, "lock was locked by another process");
    assert_eq!((&ended.result["outcome"], &ended.result["installed"]), (&json!("failed"), &json!("1.1")));
    assert!(ended.stdout.contains("nothing was installed: version 1.1 is there as before"), "{}", ended.stdout);
    let calls = host.calls();
    // The installation with its waits for the lock, a restart, and the waits for health.
    assert!(calls.contains("--on-active=513 "), "{calls}");
    assert!(calls.rfind("systemctl stop -- bolt-engine-rollback.timer") > calls.rfind("systemd-run"), "{calls}");
    assert_eq!(host.kept(), ["current.deb", "lock", "previous.deb"]);
    drop(holder);
    // The way back is still that of the last upgrade.
    let back = host.run("rollback", json!({"start_wait": 3, "settle": 0})).go().well();
    assert_eq!((&back.result["outcome"], host.installed().as_str()), (&json!("rolled_back"), "1.0"));
}

#[test]
fn a_package_that_is_half_installed_is_upgraded_only_without_a_way_back() {
    let Some(host) = Host::new("a_package_that_is_half_installed_is_upgraded_only_without_a_way_back") else { return };
    let status = host.root().join("var/lib/dpkg/status");
    let text = fs::read_to_string(&status).unwrap().replace("install ok installed", "install ok half-configured");
    fs::write(&status, text).unwrap();
    upgrade(&host, json!({})).error(1, "installed only in part, so that there is no version to return to");
    assert_eq!((host.kept(), host.installed().as_str()), (vec!["lock".to_owned()], "1.0"));
    let ended = upgrade(&host, json!({"without_rollback": true})).well();
    assert_eq!((&ended.result["outcome"], &ended.result["rollback_possible"]), (&json!("upgraded"), &json!(false)));
    assert_eq!(host.installed(), "1.1");
}

#[test]
fn the_address_of_the_api_is_found_however_the_configuration_is_written() {
    let Some(host) = Host::new("the_address_of_the_api_is_found_however_the_configuration_is_written") else { return };
    let config = host.root().join("etc/bolt/agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let address = text.split('"').nth(1).unwrap();
    for (written, found) in [
        ("[api]\nlisten = '@' # of this host\n", true),
        ("api.listen = \"@\"\n[tls]\n", true),
        ("api = {memory = \"64MiB\", listen = \"@\"}\n", true),
        ("[instance.tags]\nlisten = \"public\"\n\n[ api ]\n# listen = \"127.0.0.1:1\"\n\"listen\" = \"@\"\n", true),
        ("[api]\nhealth_listen = \"@\"\n", false),
        ("[instance.tags]\nlisten = \"@\"\n", false),
    ] {
        fs::write(&config, written.replace('@', address)).unwrap();
        let health = host.run("health", json!({"settled": 0})).go();
        let expected = if found { address } else { "" };
        assert_eq!(health.result["address"], expected, "{written}: {}", health.stdout);
        assert_eq!((health.status, &health.result["healthy"]), (Some(i32::from(!found)), &json!(found)), "{written}");
    }
}
