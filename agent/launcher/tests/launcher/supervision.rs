//! Supervision of api and sync by the launcher: started, restarted, reported, stopped, and limited.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use packs_schema::agent::rest::ApiState;

use crate::driver::{is_alive, is_root, put, skipped, wait_for, writing};
use crate::stand_in::{AGENT, Service, build_stand_in};

#[test]
fn the_api_is_restarted_and_the_sync_runs() {
    let guard = writing();
    let (dir, config) = Service::place("api = \"64101\"\nsync = \"64102\"");
    if !build_stand_in(&dir.path().join("bin"), AGENT) {
        return skipped("the_api_is_restarted_and_the_sync_runs", "no C compiler for a stand-in of bolt-agent");
    }
    let launcher = Service::command(dir.path(), &config).spawn().unwrap();
    drop(guard);
    let mut service = Service { dir, launcher };
    let api = wait_for("the api", || service.printed("api").first().cloned());
    let sync = wait_for("the sync", || service.printed("sync").first().cloned());
    if is_root() {
        assert!(api.starts_with("api 64101 64101 64101 api --config "), "{api}");
        assert!(sync.starts_with("sync 64102 64102 64102 sync --config "), "{sync}");
        let owner =
            |name: &str| std::os::unix::fs::MetadataExt::uid(&fs::metadata(service.dir.path().join(name)).unwrap());
        assert_eq!([owner("state"), owner("state/exec"), owner("packs")], [64101, 64101, 64102]);
    }
    assert!(
        api.contains("BOLT_LOG=debug") && api.contains("BOLT_LOG_FORMAT=text") && !api.contains("OTHER=1"),
        "{api}"
    );
    assert!(!api.contains("AWS_") && !api.contains("PROXY"), "{api}");
    assert!(
        sync.contains("AWS_ACCESS_KEY_ID=AKIDEXAMPLE") && sync.contains("HTTPS_PROXY=http://127.0.0.1:1"),
        "{sync}"
    );
    assert!(!sync.contains("OTHER=1") && !sync.contains("AWS_ENDPOINT_URL"), "{sync}");
    let fds = wait_for("descriptors", || {
        let text = fs::read_to_string(service.dir.path().join("said/api.fds")).ok()?;
        text.contains("3 -> ").then_some(text)
    });
    assert!(fds.contains("3 -> socket:"), "{fds}");

    fs::write(service.dir.path().join("said/die"), "").unwrap();
    wait_for("a second api", || (service.printed("api").len() >= 2).then_some(()));
    assert!(service.stop().success());
}

#[test]
fn a_stopped_launcher_leaves_no_api() {
    let guard = writing();
    let (dir, config) = Service::place("api = \"64101\"\nsync = \"64102\"");
    if !build_stand_in(&dir.path().join("bin"), AGENT) {
        return skipped("a_stopped_launcher_leaves_no_api", "no C compiler for a stand-in of bolt-agent");
    }
    let mut child = Service::command(dir.path(), &config).stderr(Stdio::piped()).spawn().unwrap();
    drop(guard);
    let mut stderr = child.stderr.take().unwrap();
    let mut service = Service { dir, launcher: child };
    wait_for("the api", || service.printed("api").first().cloned());
    assert!(service.stop().success());
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    let pid = log.split("api started\" pid=").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(!is_alive(pid), "{log}");
}

/// Exits at once until a file allows it to run.
const FRAIL: &str = "#!/bin/sh
at=$(dirname \"$3\")/said
[ \"$1\" = sync ] && exit 0
echo dies >> $at/$1
[ -e $at/live ] || exit 41
while :; do sleep 0.05; done
";

#[test]
fn an_api_that_cannot_be_kept_running_is_reported() {
    let guard = writing();
    let (dir, config) = Service::place("api = \"64101\"\nsync = \"64102\"");
    if !build_stand_in(&dir.path().join("bin"), FRAIL) {
        return skipped("an_api_that_cannot_be_kept_running_is_reported", "no C compiler for a stand-in of bolt-agent");
    }
    // A stand-in for systemd at an abstract address.
    let name = format!("bolt-launch-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
    let systemd = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    systemd.set_read_timeout(Some(crate::driver::DEADLINE)).unwrap();
    let told = || {
        let mut buffer = [0; 500];
        // With a time-out, the kernel does not restart an interrupted call.
        let length = loop {
            match systemd.recv(&mut buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = Service::command(dir.path(), &config);
    let mut child = command.env("NOTIFY_SOCKET", format!("@{name}")).stderr(Stdio::piped()).spawn().unwrap();
    drop(guard);
    let mut stderr = child.stderr.take().unwrap();
    let mut service = Service { dir, launcher: child };

    assert_eq!(told(), "READY=1\nSTATUS=the api is running\n", "ready, whatever comes");
    let status = std::iter::repeat_with(told).find(|text| text.contains("cannot be kept running")).unwrap();
    assert!(status.starts_with("STATUS=") && status.contains("3 failures in a row, the last: status 41"), "{status}");
    let report = || {
        let json = fs::read(service.dir.path().join("run/api.json")).unwrap();
        serde_json::from_slice::<packs_schema::agent::rest::ApiProcess>(&json).unwrap()
    };
    let now = report();
    assert_eq!((now.state, now.status, now.signal), (ApiState::Failing, Some(41), None));
    assert!(now.failures >= 3 && now.since_ms > 1_600_000_000_000);
    let sockets = sockets_of(service.launcher.id());
    assert!(
        sockets.iter().all(|inode| !network().contains(inode)),
        "the launcher accepts no connection in place of the api"
    );

    fs::write(service.dir.path().join("said/live"), "").unwrap();
    let status = std::iter::repeat_with(told).find(|text| !text.contains("cannot be kept running")).unwrap();
    assert_eq!(status, "STATUS=the api is running\n");
    assert_eq!(report().state, ApiState::Running);
    assert!(service.stop().success());
    assert_eq!(told(), "STOPPING=1\n");
    assert!(!service.dir.path().join("run/api.json").exists());
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("level=error")).collect();
    assert!(errors[0].contains("failures=3 status=41") && errors[0].contains("journalctl -u bolt-launch"), "{log}");
}

#[test]
fn the_watchdog_is_notified_by_the_event_loop() {
    let guard = writing();
    let (dir, config) = Service::place("api = \"64101\"\nsync = \"64102\"");
    if !build_stand_in(&dir.path().join("bin"), AGENT) {
        return skipped("the_watchdog_is_notified_by_the_event_loop", "no C compiler for a stand-in of bolt-agent");
    }
    let name = format!("bolt-watchdog-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
    let systemd = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    systemd.set_read_timeout(Some(crate::driver::DEADLINE)).unwrap();
    let mut command = Service::command(dir.path(), &config);
    // Half a second: a notification each quarter.
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "500000");
    let mut service = Service { dir, launcher: command.spawn().unwrap() };
    drop(guard);
    let mut notifications = 0;
    let mut is_ready = false;
    while notifications < 3 {
        let mut buffer = [0; 500];
        let length = match systemd.recv(&mut buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            received => received.unwrap(),
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        is_ready |= text.contains("READY=1");
        if text == "WATCHDOG=1\n" {
            assert!(is_ready, "systemd expects them from the time at which the launcher is ready");
            notifications += 1;
        }
    }
    assert!(service.stop().success());
}

/// Returns the inodes of a process's sockets.
fn sockets_of(pid: u32) -> Vec<String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned));
    links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

/// Returns the inodes of all connected network sockets of the host. Listening sockets (state 0A) are excluded: the launcher holds
/// them for the api.
fn network() -> Vec<String> {
    let tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"];
    let text: String =
        tables.iter().map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default()).collect();
    let sockets = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets
        .filter(|fields| fields.get(3) != Some(&"0A"))
        .filter_map(|fields| Some((*fields.get(9)?).to_owned()))
        .collect()
}

#[test]
fn api_and_sync_have_groups_of_their_own() {
    let guard = writing();
    let (dir, config) = Service::place("api = \"64101\"\nsync = \"64102\"");
    if !build_stand_in(&dir.path().join("bin"), AGENT) {
        return skipped("api_and_sync_have_groups_of_their_own", "no C compiler for a stand-in of bolt-agent");
    }
    let text = fs::read_to_string(&config).unwrap().replace("[api]\n", "[api]\nmemory = \"48MiB\"\n");
    put(&config, text.as_bytes(), 0o644);
    let launcher = Service::command(dir.path(), &config).spawn().unwrap();
    drop(guard);
    let mut service = Service { dir, launcher };
    wait_for("the api", || service.printed("api").first().cloned());
    let json = fs::read(service.dir.path().join("run/enforcement.json")).unwrap();
    let found: packs_schema::agent::rest::Enforcement = serde_json::from_slice(&json).unwrap();
    if !found.memory {
        return skipped("api_and_sync_have_groups_of_their_own", "no memory controller that we may use");
    }
    let place = found
        .groups
        .iter()
        .find(|g| g.version == 2 && found.cgroups == "v2" || g.controller.as_deref() == Some("memory"));
    let actions = &place.unwrap().path;
    let name = actions.file_name().unwrap().to_str().unwrap();
    let group = |of: &str| actions.with_file_name(name.replace("bolt-actions", of));
    let read = |of: &str, file: &str| fs::read_to_string(group(of).join(file)).unwrap_or_default();
    assert!(!read("bolt-api", "cgroup.procs").is_empty());
    let limit = read("bolt-api", "memory.limit_in_bytes") + &read("bolt-api", "memory.max");
    assert_eq!(limit.trim(), (48 << 20).to_string());
    assert!(group("bolt-sync").is_dir());
    assert!(service.stop().success());
    assert!(["bolt-api", "bolt-sync", "bolt-actions"].iter().all(|of| !group(of).exists()));
}
