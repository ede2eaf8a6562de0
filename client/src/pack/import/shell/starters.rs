//! Programs that start another one, which their arguments name.

use super::grammar::{COMMON, Grammar, Input, Role};
use super::limit::Limit;

const DATA: &[Role] = &[Role::Data];
const CODE: &[Role] = &[Role::Code];

/// Programs that start the program that an operand names.
const STARTERS: &[&str] = &[
    "xargs",
    "watch",
    "parallel",
    "nsenter",
    "chroot",
    "systemd-run",
    "script",
    "setpriv",
    "unshare",
    "strace",
    "ltrace",
    "stdbuf",
    "taskset",
    "numactl",
    "chrt",
    "cgexec",
    "capsh",
    "busybox",
    "flock",
    "runcon",
    "doas",
    "pkexec",
    "gosu",
    "su-exec",
    "fakeroot",
    "entr",
    "start-stop-daemon",
    "unbuffer",
    "perf",
    "daemonize",
    "sshpass",
    "tmux",
    "screen",
    "npx",
    "ansible",
    "parallel-ssh",
    "pssh",
    "pdsh",
    "clush",
    "rsh",
    "autossh",
    "prlimit",
    "chronic",
    "systemd-inhibit",
    "tini",
    "dumb-init",
    "lxc-attach",
    "setarch",
    "linux32",
    "linux64",
    "choom",
    "eatmydata",
    "faketime",
    "proxychains",
    "proxychains4",
    "torsocks",
    "ssh-agent",
    "dbus-run-session",
    "dbus-launch",
    "xvfb-run",
    "valgrind",
    "cpulimit",
    "firejail",
    "bwrap",
    "proot",
    "run0",
    "systemd-nspawn",
    "catchsegv",
    "softlimit",
    "chpst",
    "setuidgid",
    "envdir",
    "coreutils",
    "toybox",
    "caffeinate",
    "hyperfine",
    "runuser",
    "uclampset",
    "rlwrap",
    "ip",
    "gcloud",
    "salt",
    "salt-call",
    "systemd-cat",
    "systemd-socket-activate",
    "dtach",
    "abduco",
    "byobu",
    "tsp",
    "fakechroot",
    "direnv",
];

/// Their arguments: behind options, which are not known, stands the name of a program.
static STARTER: Grammar =
    Grammar { limit: Limit::Path, code: "c", shell: true, long: &[("command", CODE)], first: Role::Program, ..COMMON };

/// Programs that may start a program of their arguments somewhere else.
const CONTAINERS: &[&str] =
    &["docker", "podman", "nerdctl", "crictl", "kubectl", "oc", "lxc", "machinectl", "docker-compose", "find"];

static CONTAINER: Grammar = Grammar {
    limit: Limit::Path,
    flags: "itdqa",
    data: "uwevpnclhmf",
    long: &[
        ("user", DATA),
        ("workdir", DATA),
        ("env", DATA),
        ("name", DATA),
        ("network", DATA),
        ("volume", DATA),
        ("namespace", DATA),
        ("container", DATA),
        ("context", DATA),
        ("entrypoint", &[Role::Program]),
    ],
    first: Role::Data,
    rest: Role::Data,
    permutes: true,
    ..COMMON
};

/// Programs that take a path for the name of a service: of a script that they run, or of a unit that they install.
const MANAGERS: &[&str] = &["service", "invoke-rc.d", "rc-service", "systemctl"];

static MANAGER: Grammar = Grammar { input: Input::Never, ..COMMON };

/// True for a program that takes a path for the name of a service.
pub(in crate::pack::import) fn manages_services(program: &str) -> bool {
    MANAGERS.contains(&program)
}

/// Returns how such a program reads its arguments up to the name of the other one.
pub(super) fn grammar(program: &str) -> Option<&'static Grammar> {
    let starter = STARTERS.contains(&program).then_some(&STARTER);
    let container = || CONTAINERS.contains(&program).then_some(&CONTAINER);
    starter.or_else(container).or_else(|| MANAGERS.contains(&program).then_some(&MANAGER))
}

/// True for programs that start the one after their first operand, which is data.
pub(super) fn starts_second(program: &str) -> bool {
    ["flock", "chroot", "taskset", "gosu", "su-exec", "runcon", "setarch", "setuidgid", "envdir", "faketime"]
        .contains(&program)
}

/// True for an option of such a program whose operand is the next word.
pub(super) fn takes_word(option: &str) -> bool {
    let short = option.strip_prefix('-').filter(|letter| letter.len() == 1);
    short.is_some_and(|letter| "InPLdsEatpuoewSGUCR".contains(letter)) || option.starts_with("--")
}

/// True for programs that start another one, which their arguments name.
pub(super) fn starts(program: &str) -> bool {
    STARTERS.contains(&program) || CONTAINERS.contains(&program)
}

/// True for programs of [`starts`] whose arguments, options included, are data up to that name.
pub(super) fn contains(program: &str) -> bool {
    CONTAINERS.contains(&program)
}
