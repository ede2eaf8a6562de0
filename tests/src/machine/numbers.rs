//! The benchmark of one action on a booted machine, under cgroup v2. The machine is emulated: its times say nothing of hardware, but
//! how they compare to the floor of the same run does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bolt_client::local::{PROGRAMS, binary};

use super::vm::Vm;

/// Time within which the benchmark must end: it takes four minutes on an idle host.
const WITHIN: Duration = Duration::from_secs(1_800);
/// The group below which the agent of the benchmark has its own. Its parent passes these controllers on.
const PREPARE: &str = "mkdir -p /root/bench /sys/fs/cgroup/bench && tar -C /root/bench -xf /dev/vdb \
    && echo '+cpu +io +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control \
    && echo '+cpu +io +memory +pids' >/sys/fs/cgroup/bench/cgroup.subtree_control";
/// The benchmark, away from the shell that takes commands, each of which has four minutes.
const RUN: &str = "systemd-run --quiet --unit=bench --collect --setenv=BOLT_TEST_CGROUP=bench \
    sh -c '/root/bench/numbers --bench warm >/root/bench/output 2>&1; echo $? >/root/bench/status'";

/// Boots a machine, runs `numbers`, this benchmark, with `warm` on it, and returns what it printed.
///
/// # Errors
/// If the machine does not boot, or the benchmark fails or takes longer than half an hour; with what it printed.
pub fn run(image: &Path, numbers: &Path) -> Result<String, String> {
    let directory = tempfile::Builder::new().prefix("bolt-machine-").tempdir().map_err(|e| e.to_string())?;
    let payload = directory.path().join("payload");
    fs::create_dir(&payload).map_err(|e| e.to_string())?;
    let copy = |from: &Path, name: &str| fs::copy(from, payload.join(name)).map(drop).map_err(|e| e.to_string());
    copy(numbers, "numbers")?;
    for name in PROGRAMS.into_iter().chain(["bolt"]) {
        copy(&binary(name).map_err(|e| e.to_string())?, name)?;
    }
    let archive = directory.path().join("payload.tar");
    let status = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&payload).arg(".").status();
    if !status.is_ok_and(|status| status.success()) {
        return Err("tar failed".to_owned());
    }
    // The guest needs no bucket: nothing listens on the port of discard.
    let created = Vm::create(image, &directory.path().join("machine"), archive, ([127, 0, 0, 1], 9).into());
    let mut vm = created.map_err(|e| e.to_string())?;
    vm.boot()?;
    vm.ok(PREPARE)?;
    vm.ok(RUN)?;
    let until = Instant::now() + WITHIN;
    while vm.run("test -s /root/bench/status")?.status != 0 {
        if Instant::now() > until {
            return Err(format!("the benchmark does not end: {}", vm.run("cat /root/bench/output")?.output));
        }
        std::thread::sleep(Duration::from_secs(5));
    }
    let output = vm.ok("cat /root/bench/output")?;
    match vm.ok("cat /root/bench/status")?.trim() {
        "0" => Ok(output),
        status => Err(format!("the benchmark ended with {status}: {output}")),
    }
}
