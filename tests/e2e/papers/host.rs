//! A host of its own for papers that install Bolt: in mount, process and network namespaces, with copies of `/etc`, `/usr`
//! and the like that the commands may change, and with stand-ins for what needs a booted systemd.
//!
//! The installed programs are the ones that run: the stand-in for `systemctl` starts the command of the installed unit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bolt_tests::limits_available;

use super::sandbox::Sandbox;

/// Directories that are copied on write.
const OVERLAID: [&str; 5] = ["etc", "usr", "opt", "var", "srv"];

/// The control group of executions as the packaged configuration names it; the host's must not be touched.
const PACKAGED_CGROUP: &str = "bolt.slice/bolt-executions.service";

/// Starts, stops and lists the launcher as systemd would, and waits until the first poll has ended.
const SYSTEMCTL: &str = r#"#!/bin/sh
stop() {
    pid=$(cat /run/launcher.pid 2>/dev/null) || return 0
    kill "$pid" && while [ -e "/proc/$pid" ]; do sleep 0.05; done
    rm -f /run/launcher.pid /run/bolt/sync.json
}
start() {
    [ -e /run/launcher.pid ] && return 0
    command=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/bolt-launch.service)
    setsid $command >>/var/log/bolt-launch.log 2>&1 </dev/null &
    echo $! >/run/launcher.pid
    waited=0
    until [ -e /run/bolt/sync.json ] && [ -e /var/lib/bolt/api.address ]; do
        sleep 0.1; waited=$((waited + 1))
        [ $waited -lt 600 ] || { cat /var/log/bolt-launch.log; exit 1; }
    done
}
case "$*" in
    *bolt-launch*) ;;
    *) exit 0 ;;
esac
for unit in "$@"; do
    case "$unit" in
        bolt*.socket | bolt*.service | bolt*.slice) ;;
        bolt*) unit=$unit.service ;;
        *) continue ;;
    esac
    [ -e "/etc/systemd/system/$unit" ] || { echo "Unit $unit does not exist"; exit 1; }
done
case "$1" in
    enable | start) start ;;
    restart) stop; start ;;
    disable | stop) stop ;;
    *) echo "unknown verb: $1" >&2; exit 1 ;;
esac
"#;

/// Prints the log of the launcher.
const JOURNALCTL: &str = "#!/bin/sh\nexec cat /var/log/bolt-launch.log\n";

/// Brings loopback up, which is down in a new network namespace, and gives it the address of the papers' instance, with
/// SIOCSIFADDR and SIOCSIFFLAGS: `ip` is not on every host.
const NETWORK: &str = r#"
import fcntl, socket, struct
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
fcntl.ioctl(s, 0x8916, struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton("10.0.0.7")))
"#;

/// Returns a sandbox with a host of its own, or `None` where this account cannot make one, or cannot cap executions.
pub(super) fn sandbox() -> Option<Sandbox> {
    if !limits_available() {
        return None;
    }
    let mut sandbox = Sandbox::checkout();
    let upper = sandbox.path("host");
    let mut probe = Command::new(NAMESPACES[0]);
    if !probe
        .args(&NAMESPACES[1..])
        .args(["sh", "-ec", &setup(&upper)])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return None;
    }
    sandbox.program("systemctl", SYSTEMCTL);
    sandbox.program("journalctl", JOURNALCTL);
    let config = sandbox.path("bolt/systemd/agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(PACKAGED_CGROUP));
    fs::write(&config, text.replace(PACKAGED_CGROUP, &cgroup())).unwrap();
    sandbox.enter(&NAMESPACES, setup(&upper));
    Some(sandbox)
}

/// Runs a command in namespaces of its own; its processes end with it.
const NAMESPACES: [&str; 7] = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"];

/// Returns the control group of the launcher's executions, relative to the root of each hierarchy.
fn cgroup() -> String {
    let name = format!("bolt-paper-{}", std::process::id());
    std::env::var("BOLT_TEST_CGROUP").map_or(name.clone(), |parent| format!("{parent}/{name}"))
}

/// Returns the commands that prepare the namespaces.
fn setup(upper: &Path) -> String {
    let upper = upper.display();
    let mut setup =
        format!("set -e\nmount --make-rprivate /\nmkdir -p {upper}\nmount -t tmpfs -o mode=755 host {upper}\n");
    for name in OVERLAID {
        let own = format!("{upper}/{name}");
        setup += &format!("mkdir -p {own}/upper {own}/work\n");
        setup +=
            &format!("mount -t overlay -o lowerdir=/{name},upperdir={own}/upper,workdir={own}/work {name} /{name}\n");
    }
    setup + &format!("mount -t tmpfs -o mode=755 run /run\n/usr/bin/python3 -c '{NETWORK}'\nset +e\n")
}

/// Removes the control groups that the launcher of the paper left.
pub(super) fn remove_cgroups() {
    let name = format!("bolt-paper-{}", std::process::id());
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for path in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
        {
            if path.components().any(|part| part.as_os_str() == name.as_str()) {
                found.push(path.clone());
            }
            left.push(path);
        }
    }
    // Parents were found before their children.
    for path in found.iter().rev() {
        drop(fs::remove_dir(path));
    }
}
