//! The launcher as a service: arguments, configuration, conditions of its start, and supervision of api and sync.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};
use packs_schema::agent::launch::{Outcome, Refusal};
use packs_schema::agent::rest::ApiState;
use serde_json::json;

use crate::driver::{Host, base, is_alive, is_root, launcher, put, skipped, wait_for, write_config, writing};

fn fails(command: &mut Command) -> String {
    let _guard = writing();
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn help_and_version_are_printed() {
    let run = |arg| Command::new(env!("CARGO_BIN_EXE_bolt-launch")).arg(arg).output().unwrap();
    let version = run("--version");
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("bolt-launch ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(String::from_utf8_lossy(&run("--help").stdout).contains("--attach"));
    assert_eq!(run("--no-such-thing").status.code(), Some(2));
}

#[test]
fn invalid_configurations() {
    let dir = base();
    let config = write_config(dir.path(), "max_runing = 3", "", "");
    let said = fails(launcher(&config).arg("--attach").stdin(Stdio::null()));
    assert!(said.contains("standard input must be a connected Unix stream socket"), "{said}");
    let said = attached_fails(&config);
    assert!(said.contains("max_runing"), "{said}");
    let said = attached_fails(&dir.path().join("none.toml"));
    assert!(said.contains("none.toml") && said.contains("No such file"), "{said}");
    let config = write_config(dir.path(), "", "", "");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o664, 0o646] {
        set(&config, mode);
        let said = attached_fails(&config);
        assert!(said.contains("agent.toml may be changed by others"), "{said}");
    }
    set(&config, 0o644);
    // Write access to the directory allows replacing the file.
    set(dir.path(), 0o777);
    let said = attached_fails(&config);
    assert!(said.contains("may be changed by others (mode 0777)"), "{said}");
}

fn attached_fails(config: &Path) -> String {
    let _guard = writing();
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let theirs = std::os::fd::OwnedFd::from(theirs);
    let output = launcher(config).arg("--attach").stdin(Stdio::from(theirs)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn two_launchers_cannot_share_a_runtime_directory() {
    let host = Host::new();
    let said = attached_fails(&host.path("agent.toml"));
    assert!(said.contains("in use by another launcher"), "{said}");
}

#[test]
fn a_runtime_directory_writable_by_others() {
    let dir = base();
    let config = write_config(dir.path(), "", "", "");
    fs::create_dir(dir.path().join("run")).unwrap();
    fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o777)).unwrap();
    let said = attached_fails(&config);
    assert!(said.contains("must have owner") && said.contains("mode 777"), "{said}");
}

#[test]
fn an_invalid_frame_ends_the_attached_launcher() {
    for frame in [&b"not json"[..], br#"{"seq":1,"ask":{"shell":"id"}}"#, b""] {
        let mut host = Host::new();
        host.send_frame(frame);
        assert!(host.receive().is_none());
        assert_eq!(host.wait_launcher().code(), Some(1));
    }
}

/// An api that is newer than this launcher: requests of a later format are refused, others are served.
#[test]
fn a_request_of_a_later_format_is_refused() {
    let mut host = Host::new();
    let newer = json!({"seq": 9, "format": packs_schema::agent::launch::FORMAT + 1, "ask": {"freeze": {"execution": "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa"}}});
    host.send_frame(newer.to_string().as_bytes());
    let reply = host.receive().unwrap();
    assert_eq!(reply.seq, 9);
    match reply.outcome {
        Outcome::Refused { code: Refusal::Unsupported, message } => {
            assert!(message.contains("restart the service bolt-launch"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    host.run("#!/bin/sh\n", json!({}));
}

#[test]
fn many_executions_leak_no_descriptor() {
    let mut host = Host::new();
    host.run("#!/bin/sh\n", json!({}));
    let open = |host: &Host| fs::read_dir(format!("/proc/{}/fd", host.launcher_pid())).unwrap().count();
    let before = open(&host);
    for _ in 0..20 {
        host.run("#!/bin/sh\n", json!({}));
    }
    // Two shims were needed at most: one may still have been busy when the next execution was started.
    assert!(open(&host) <= before + 1, "{} descriptors, {before} before", open(&host));
    assert!(host.shims().len() <= 2, "{:?}", host.shims());
    // A shim has the descriptors of its equipment only: three of /dev/null, its socket, the run-time directory, signals, new files.
    for shim in host.shims() {
        wait_for("its descriptors to be closed", || {
            (fs::read_dir(format!("/proc/{shim}/fd")).map_or(0, Iterator::count) <= 7).then_some(())
        });
    }
    wait_for("the idle shims to end", || host.shims().is_empty().then_some(()));
    wait_for("their sockets to be closed", || (open(&host) < before).then_some(()));
}

/// A launcher with stand-ins for `bolt-agent` and `bolt-sync`.
struct Service {
    dir: tempfile::TempDir,
    launcher: Child,
}

/// Prints its account, arguments and environment; the sync exits, the api reads its socket until it is told to exit.
const AGENT: &str = "#!/bin/sh
[ \"$1\" = api ] || set -- sync \"$@\"
at=$(dirname \"$3\")/said
echo \"$1 $(id -u) $(id -g) $(id -G) $* $(env | sort | tr '\\n' ' ')\" >> $at/$1
ls -l /proc/$$/fd > $at/$1.fds
[ \"$1\" = sync ] && exit 0
while [ ! -e $at/die ]; do sleep 0.02; done
mv $at/die $at/died
exit 3
";

impl Service {
    fn place(users: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = base();
        for name in ["state/exec", "state", "packs/demo", "packs"] {
            fs::remove_dir(dir.path().join(name)).unwrap();
        }
        let config = write_config(dir.path(), "require_limits = false", users, "");
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::create_dir(dir.path().join("said")).unwrap();
        fs::set_permissions(dir.path().join("said"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_bolt-launch"), bin.join("bolt-launch")).unwrap();
        (dir, config)
    }

    fn command(dir: &Path, config: &Path) -> Command {
        let mut command = Command::new(dir.join("bin/bolt-launch"));
        command.args(["serve", "--config"]).arg(config).env_clear().env("BOLT_LOG", "debug").env("OTHER", "1");
        command
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("AWS_ENDPOINT_URL", "x");
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Returns the lines that a role has printed.
    fn printed(&self, role: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("said").join(role)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn stop(&mut self) -> std::process::ExitStatus {
        kill(Pid::from_raw(self.launcher.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.launcher.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.launcher.try_wait().unwrap().is_none() {
            self.stop();
        }
    }
}

/// Builds a stand-in. It must be a program: the interpreter of a script would be given `/dev/fd/N`, which is closed by then.
fn build_stand_in(bin: &Path, text: &str) -> bool {
    let source = bin.join("agent.c");
    let script = bin.join("agent.sh");
    put(&script, text.as_bytes(), 0o755);
    let code = format!(
        "#include <unistd.h>\nint main(int c, char **v) {{ v[0] = \"{0}\"; execv(\"{0}\", v); return 9; }}\n",
        script.display()
    );
    put(&source, code.as_bytes(), 0o644);
    let built =
        Command::new("cc").arg("-o").arg(bin.join("bolt-agent")).arg(&source).status().is_ok_and(|s| s.success());
    built && fs::copy(bin.join("bolt-agent"), bin.join("bolt-sync")).is_ok()
}

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
fn untrusted_accounts_and_programs() {
    let guard = writing();
    let (dir, config) = Service::place("api = \"64101\"\nsync = \"64102\"");
    drop(guard);
    let run = |config: &Path| {
        let _guard = writing();
        let output = Service::command(dir.path(), config).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run(&config);
    assert!(said.contains("bolt-agent") && said.contains("cannot open"), "{said}");
    put(&dir.path().join("bin/bolt-agent"), b"", 0o755);
    let said = run(&config);
    assert!(said.contains("bolt-sync") && said.contains("cannot open"), "{said}");
    put(&dir.path().join("bin/bolt-sync"), b"", 0o755);
    for program in ["bolt-agent", "bolt-sync"] {
        put(&dir.path().join("bin").join(program), b"", 0o775);
        let said = run(&config);
        assert!(said.contains(program) && said.contains("not writable by group or others"), "{said}");
        put(&dir.path().join("bin").join(program), b"", 0o755);
    }
    if !is_root() {
        return skipped("untrusted_accounts_and_programs (accounts)", "without root there is one account");
    }
    let config = write_config(dir.path(), "", "api = \"root\"\nsync = \"64102\"", "");
    let said = run(&config);
    assert!(said.contains("users.api = root is root"), "{said}");
    let config = write_config(dir.path(), "", "api = \"64101\"\nsync = \"64102\"", "");
    fs::create_dir(dir.path().join("state")).unwrap();
    let said = run(&config);
    assert!(said.contains("must have owner") && said.contains("owner 0") && said.contains("owner 64101"), "{said}");
    let own = (Some(Uid::from_raw(64101)), Some(Gid::from_raw(64101)));
    chown(&dir.path().join("state"), own.0, own.1).unwrap();
    fs::set_permissions(dir.path().join("state"), fs::Permissions::from_mode(0o777)).unwrap();
    let said = run(&config);
    assert!(said.contains("mode 777"), "{said}");
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

/// A range of user ids that overlaps others is refused at the start, not when an action runs.
#[test]
fn a_uid_range_that_is_in_use() {
    if !is_root() {
        return skipped("a_uid_range_that_is_in_use", "only root has accounts");
    }
    let dir = base();
    let subordinate = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let subordinate = subordinate.lines().find_map(|line| line.split(':').nth(1)?.parse::<u32>().ok());
    let mut cases = vec![
        ("uid_range = \"70000-70099\"".to_owned(), "sync = \"70005\"", "users.sync names the account 70005"),
        ("uid_range = \"70000-70007\"".to_owned(), "", "has 8 ids, and 16 executions may run at once"),
        ("uid_range = \"60000-70000\"".to_owned(), "", "65534"),
        ("max_shims = 3".to_owned(), "", "execution.max_shims = 3 must be at least execution.max_running = 8"),
    ];
    cases.extend(subordinate.map(|id| (format!("uid_range = \"{id}-{}\"", id + 99), "", "subordinate ids")));
    for (execution, users, why) in cases {
        let said = attached_fails(&write_config(dir.path(), &execution, users, ""));
        assert!(said.contains(why), "{execution}: {said}");
    }
}

#[test]
fn a_default_account_is_checked_at_the_start() {
    if !is_root() {
        return skipped("a_default_account_is_checked_at_the_start", "only root changes accounts");
    }
    for (account, shared, warning) in [
        ("no-such-account", true, "there is no account no-such-account"),
        ("root", true, "is root"),
        ("64100", true, ""),
    ] {
        let host = Host::with(&format!("require_limits = false\ndefault_run_as = \"{account}\""), "");
        let found = host.enforcement();
        assert_eq!(found.shared_account.as_deref() == Some(account), shared);
        assert_eq!(found.warnings.is_empty(), warning.is_empty(), "{:?}", found.warnings);
        assert!(found.warnings.iter().all(|said| said.contains(warning)), "{:?}", found.warnings);
    }
    let found = Host::new().enforcement();
    assert_eq!((found.shared_account, found.warnings), (None, Vec::new()));
}
