//! Tests of the pack `bolt_engine` with the real dpkg in a root directory of its own, real processes in the launcher's place,
//! and scripts in place of systemctl and systemd-run.

mod addresses;
mod gpg;
mod repositories;
mod rpm;
mod states;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Ended, Run, action, have, skip};
use crate::service::programs;

/// Conduct of a version of the fake agent.
#[derive(Clone, Copy)]
enum Version {
    Good,
    /// The launcher ends at once.
    Dead,
    /// The launcher runs, the api does not.
    NoApi,
    /// The launcher is restarted again and again.
    Loops,
    /// The upgrade is killed while it waits.
    Kills,
    /// The configuration of the host is rejected.
    Rejects,
    /// No version is healthy after this one.
    Poisons,
}

/// A process that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Host with a dpkg of its own, version 1 of the agent, and a TLS server on its port.
struct Host {
    dir: TempDir,
    bin: TempDir,
    _server: Server,
}

impl Host {
    /// Returns `None` where the host lacks what the test needs.
    fn new(test: &str) -> Option<Host> {
        if !["python3", "dpkg", "dpkg-deb", "openssl"].iter().all(|program| have(test, program)) {
            return None;
        }
        if !installs(test) {
            return None;
        }
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("root");
        for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc/bolt", "run/bolt", "usr/lib"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        let (server, port) = tls_server(dir.path(), dir.path(), &[]);
        fs::write(root.join("etc/bolt/agent.toml"), format!("[api]\nlisten = \"127.0.0.1:{port}\"\n")).unwrap();
        let host = Host { bin: programs(&scripts(&root)), dir, _server: server };
        let first = host.package("1.0", Version::Good);
        let done =
            Command::new("dpkg").arg(format!("--root={}", root.display())).arg("-i").arg(first).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        host.systemctl("restart");
        Some(host)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Builds a package file where the site's address leads.
    fn package(&self, version: &str, conduct: Version) -> PathBuf {
        let tree = TempDir::new().unwrap();
        let lib = tree.path().join("usr/lib/bolt");
        fs::create_dir_all(&lib).unwrap();
        fs::create_dir_all(tree.path().join("DEBIAN")).unwrap();
        let launcher = if matches!(conduct, Version::Dead) { "/bin/false" } else { "/bin/sleep" };
        fs::copy(launcher, lib.join("bolt-launch")).unwrap();
        let word = match conduct {
            Version::Good | Version::Dead | Version::Rejects => "good",
            Version::NoApi => "noapi",
            Version::Loops => "loops",
            Version::Kills => "kills",
            Version::Poisons => "poisons",
        };
        fs::write(lib.join("conduct"), word).unwrap();
        let verdict =
            if matches!(conduct, Version::Rejects) { "echo 'agent.toml: unknown key x'; exit 1" } else { "exit 0" };
        fs::write(lib.join("bolt-agent"), format!("#!/bin/sh\n[ \"$1\" = check-config ] && {verdict}\n")).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(lib.join("bolt-agent"), executable).unwrap();
        let arch = Command::new("dpkg").arg("--print-architecture").output().unwrap().stdout;
        let arch = String::from_utf8(arch).unwrap().trim().to_owned();
        let control = format!(
            "Package: bolt-agent\nVersion: {version}\nArchitecture: {arch}\nMaintainer: a <a@example.com>\nDescription: x\n"
        );
        fs::write(tree.path().join("DEBIAN/control"), control).unwrap();
        let path = self.dir.path().join(format!("bolt-agent_{version}_{arch}.deb"));
        let done = Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(tree.path()).arg(&path).output();
        assert!(done.unwrap().status.success());
        path
    }

    fn systemctl(&self, verb: &str) {
        assert!(Command::new(self.bin.path().join("systemctl")).arg(verb).status().unwrap().success());
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        let site = json!({
            "source": "url",
            "url": format!("file://{}/bolt-agent_{{version}}_{{arch}}.deb", self.dir.path().display()),
            "root": self.root(),
            "directory": self.dir.path().join("kept"),
        });
        action(&format!("bolt_engine.{name}"), parameters).programs(self.bin.path()).config(site)
    }

    /// Upgrades to this version, with the digests of both files.
    fn upgrade(&self, version: &str, conduct: Version) -> Ended {
        let sha256 = digest(&self.package(version, conduct));
        let first = digest(&self.package("1.0", Version::Good));
        let parameters =
            json!({"version": version, "sha256": sha256, "rollback_sha256": first, "start_wait": 3, "settle": 0});
        self.run("upgrade", parameters).go()
    }

    fn installed(&self) -> String {
        let root = format!("--root={}", self.root().display());
        let shown = Command::new("dpkg-query").args([&root, "-W", "-f", "${Version}", "bolt-agent"]).output().unwrap();
        String::from_utf8(shown.stdout).unwrap()
    }

    /// Names in the directory of kept files.
    fn kept(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path().join("kept")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.bin.path().join("calls")).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.systemctl("end");
    }
}

/// True as root; otherwise prints that the test is skipped.
fn installs(test: &str) -> bool {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !is_root {
        skip(test, "packages are installed by root only");
    }
    is_root
}

/// Scripts in place of systemctl and systemd-run. `end` and `restart` of the first are for the test as well.
fn scripts(root: &Path) -> [(&'static str, &'static str); 2] {
    let root = root.display();
    let systemctl = format!(
        r#"here=${{0%/*}}; lib='{root}/usr/lib/bolt'; cd "$here"
echo "systemctl $*" >>calls
conduct=$(cat "$lib/conduct")
case $1 in
show)
    pid=$(cat pid); state=failed; restarts=0
    [[ -e /proc/$pid/exe ]] && state=active
    if [[ $conduct == loops ]]; then restarts=$RANDOM; fi
    if [[ $conduct == kills && ! -e killed ]]; then touch killed; kill -TERM $PPID; fi
    echo ActiveState=$state; echo MainPID=$pid; echo NRestarts=$restarts ;;
restart|end)
    # After the kill of the action its programs ignore TERM, and so does a launcher that they started here.
    [[ -e pid ]] && kill -KILL "$(cat pid)" 2>/dev/null
    [[ $1 == end ]] && exit 0
    "$lib/bolt-launch" 1000 </dev/null >/dev/null 2>&1 &
    echo $! >pid
    [[ $conduct == poisons ]] && touch poisoned
    api=running; [[ $conduct == noapi || -e poisoned ]] && api=failing
    echo "{{\"state\": \"$api\", \"since_ms\": 1000, \"failures\": 3}}" >'{root}/run/bolt/api.json' ;;
esac
exit 0
"#
    );
    // The driver takes string slices; the test process ends soon.
    [
        ("systemctl", Box::leak(systemctl.into_boxed_str())),
        (
            "systemd-run",
            "cd \"${0%/*}\"; echo \"systemd-run $*\" >>calls\n[[ -e no-timers ]] && { echo no bus; exit 1; }\n\
             echo \"guarded by $(dpkg-deb --field \"${!#}\" Version)\" >>calls\nexit 0\n",
        ),
    ]
}

/// Starts a TLS server on a free port of loopback, with key and certificate in `keys`; `options` are of `openssl s_server`.
fn tls_server(keys: &Path, dir: &Path, options: &[&str]) -> (Server, u16) {
    let (key, cert) = (keys.join("key.pem"), keys.join("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=a",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert"])
        .arg(&cert)
        .arg("-key")
        .arg(&key)
        .args(options)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let accepts = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned)).unwrap();
    // Drains further output, which would fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (Server(server), accepts.rsplit_once(':').unwrap().1.parse().unwrap())
}

fn digest(path: &Path) -> String {
    let sums = Command::new("sha256sum").arg(path).output().unwrap().stdout;
    String::from_utf8(sums).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn an_upgrade_installs_and_checks_and_rolls_back_on_request() {
    let Some(host) = Host::new("an_upgrade_installs_and_checks_and_rolls_back_on_request") else { return };
    let ended = host.upgrade("1.1", Version::Good).well();
    assert_eq!((&ended.result["outcome"], host.installed().as_str()), (&json!("upgraded"), "1.1"));
    let calls = host.calls();
    let armed = calls.find("systemd-run").expect("a timer guards the upgrade");
    let restarted = calls.rfind("systemctl restart").unwrap();
    let disarmed = calls.rfind("systemctl stop -- bolt-engine-rollback.timer").unwrap();
    assert!(armed < restarted && restarted < disarmed, "{calls}");
    assert!(calls.contains("guarded by 1.0\n"), "{calls}");
    assert_eq!(host.kept(), ["current.deb", "lock", "previous.deb"]);
    assert!(calls.contains("--force-confold --install"), "{calls}");
    let health = host.run("health", json!({"version": "1.1", "settled": 0})).go().well();
    assert_eq!(health.result["healthy"], true);
    // The same version again changes nothing.
    assert_eq!(host.upgrade("1.1", Version::Good).well().result["outcome"], "already");
    let back = host.run("rollback", json!({"start_wait": 3, "settle": 0})).go().well();
    assert_eq!((&back.result["outcome"], host.installed().as_str()), (&json!("rolled_back"), "1.0"));
    host.run("health", json!({"version": "1.1", "settled": 0})).go().refused(1, "");
}

#[test]
fn a_version_that_is_not_healthy_is_rolled_back_by_itself() {
    let Some(host) = Host::new("a_version_that_is_not_healthy_is_rolled_back_by_itself") else { return };
    for (version, conduct, reason) in [
        ("1.1", Version::Dead, "is failed"),
        ("1.2", Version::NoApi, "the api is failing"),
        ("1.3", Version::Loops, "systemd restarted the launcher"),
        ("1.4", Version::Kills, "stopped by SIGTERM"),
    ] {
        let ended = host.upgrade(version, conduct).refused(1, reason);
        assert_eq!((&ended.result["outcome"], &ended.result["installed"]), (&json!("rolled_back"), &json!("1.0")));
        assert_eq!(host.installed(), "1.0");
        host.run("health", json!({"version": "1.0", "settled": 0})).go().well();
    }
}

#[test]
fn nothing_is_installed_that_was_not_asked_for_or_cannot_run() {
    let Some(host) = Host::new("nothing_is_installed_that_was_not_asked_for_or_cannot_run") else { return };
    let restarts = || host.calls().matches("systemctl restart").count();
    let before = restarts();
    host.upgrade("1.1", Version::Rejects).refused(1, "cannot run with this host's configuration");
    host.upgrade("0.9", Version::Good).refused(2, "pass allow_downgrade=true");
    let file = host.package("1.2", Version::Good);
    let asked = |more: Value| {
        let mut parameters = json!({"version": "1.2", "sha256": digest(&file), "start_wait": 3, "settle": 0});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        host.run("upgrade", parameters)
    };
    asked(json!({"sha256": "0".repeat(64)})).go().refused(1, "not the expected");
    asked(json!({})).go().refused(2, "pass without_rollback=true");
    asked(json!({"version": "7.7"})).go().refused(3, "No such file or directory");
    // Another package's content under the name of the version.
    fs::copy(&file, host.dir.path().join(file.file_name().unwrap().to_str().unwrap().replace("1.2", "1.5"))).unwrap();
    asked(json!({"version": "1.5"})).go().refused(1, "the file is bolt-agent 1.2");
    let first = digest(&host.package("1.0", Version::Good));
    let dry = asked(json!({"rollback_sha256": first})).noop().go().well();
    assert_eq!(dry.result["outcome"], "would_install");
    assert_eq!((host.installed().as_str(), restarts()), ("1.0", before));
    assert_eq!(host.kept(), ["lock"], "a staging directory remains");
    let downgrade = json!({"version": "0.9", "sha256": digest(&host.package("0.9", Version::Good)), "allow_downgrade": true,
        "without_rollback": true, "start_wait": 3, "settle": 0});
    assert_eq!(host.run("upgrade", downgrade).go().well().result["outcome"], "upgraded");
    assert_eq!(host.installed(), "0.9");
}

#[test]
fn the_timer_stays_when_the_rollback_fails_and_goes_with_the_next_success() {
    let Some(host) = Host::new("the_timer_stays_when_the_rollback_fails_and_goes_with_the_next_success") else {
        return;
    };
    let ended = host.upgrade("1.1", Version::Poisons).refused(1, "the api is failing");
    assert_eq!(ended.result["outcome"], "rollback_failed");
    let is_armed = || {
        let calls = host.calls();
        calls.rfind("systemd-run") > calls.rfind("systemctl stop -- bolt-engine-rollback.timer")
    };
    assert!(is_armed(), "{}", host.calls());
    fs::remove_file(host.bin.path().join("poisoned")).unwrap();
    host.systemctl("restart");
    assert_eq!(host.upgrade("1.0", Version::Good).well().result["outcome"], "already");
    assert!(!is_armed(), "{}", host.calls());
}

#[test]
fn an_upgrade_whose_timer_cannot_be_started_is_refused_unless_it_may_go_without() {
    let Some(host) = Host::new("an_upgrade_whose_timer_cannot_be_started_is_refused_unless_it_may_go_without") else {
        return;
    };
    fs::write(host.bin.path().join("no-timers"), "").unwrap();
    let restarts = host.calls().matches("systemctl restart").count();
    let refused = host.upgrade("1.1", Version::Good).refused(1, "cannot be started: no bus; nothing was installed");
    assert!(refused.stderr.contains("pass without_rollback=true"), "{}", refused.stderr);
    assert_eq!((host.installed().as_str(), host.calls().matches("systemctl restart").count()), ("1.0", restarts));
    let (file, first) = (host.package("1.1", Version::Good), host.package("1.0", Version::Good));
    let parameters = json!({"version": "1.1", "sha256": digest(&file), "rollback_sha256": digest(&first),
        "without_rollback": true, "start_wait": 3, "settle": 0});
    assert_eq!(host.run("upgrade", parameters).go().well().result["outcome"], "upgraded");
    assert_eq!(host.installed(), "1.1");
}

#[test]
fn a_refused_upgrade_leaves_the_way_back_of_the_last_one() {
    let Some(host) = Host::new("a_refused_upgrade_leaves_the_way_back_of_the_last_one") else { return };
    host.upgrade("1.1", Version::Good).well();
    fs::write(host.bin.path().join("no-timers"), "").unwrap();
    host.upgrade("1.2", Version::Good).refused(1, "nothing was installed");
    assert_eq!(host.kept(), ["current.deb", "lock", "previous.deb"]);
    let back = host.run("rollback", json!({"start_wait": 3, "settle": 0})).go().well();
    assert_eq!((&back.result["outcome"], host.installed().as_str()), (&json!("rolled_back"), "1.0"));
}

#[test]
fn a_package_that_is_half_installed_can_be_rolled_back() {
    let Some(host) = Host::new("a_package_that_is_half_installed_can_be_rolled_back") else { return };
    host.upgrade("1.1", Version::Good).well();
    let status = host.root().join("var/lib/dpkg/status");
    let text = fs::read_to_string(&status).unwrap().replace("install ok installed", "install ok half-configured");
    fs::write(&status, text).unwrap();
    let back = host.run("rollback", json!({"start_wait": 3, "settle": 0})).go().well();
    assert_eq!((&back.result["outcome"], host.installed().as_str()), (&json!("rolled_back"), "1.0"));
}
