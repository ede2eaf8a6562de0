//! Cost of a command: processor time, peak memory and descriptors of its process.
//!
//! Measured by a process of its own, whose only child is the command: the kernel adds up the usage of all children, and
//! counts as a child's peak memory also that of the process that started it.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

/// Interval at which descriptors are counted.
const SAMPLE: Duration = Duration::from_millis(20);

/// Cost of a command from its start to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Time that passed.
    pub wall_ms: f64,
    /// Processor time, user and system.
    pub cpu_ms: f64,
    /// Part of it spent in the kernel.
    pub system_ms: f64,
    /// Peak resident memory.
    pub peak_kb: u64,
    /// Maximum number of open descriptors in the samples.
    pub descriptors: u64,
}

/// Runs `command` with its output discarded, writes its [`Cost`] to `file` as JSON, and exits as it did.
pub fn measure(file: &Path, command: &[&str]) -> ExitCode {
    let begun = Instant::now();
    let mut child = Command::new(command[0]);
    child.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = match child.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("bolt-fleet-sim: cannot run {}: {error}", command[0]);
            return ExitCode::FAILURE;
        }
    };
    let (pid, over, most) = (child.id(), AtomicBool::new(false), AtomicU64::new(0));
    let (status, wall) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let open = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64);
                most.fetch_max(open, Ordering::Relaxed);
                std::thread::sleep(SAMPLE);
            }
        });
        let status = child.wait();
        over.store(true, Ordering::Relaxed);
        (status, begun.elapsed())
    });
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return ExitCode::FAILURE };
    let ms = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e3;
    let cost = Cost {
        wall_ms: wall.as_secs_f64() * 1e3,
        cpu_ms: ms(usage.user_time()) + ms(usage.system_time()),
        system_ms: ms(usage.system_time()),
        peak_kb: u64::try_from(usage.max_rss()).unwrap_or_default(),
        descriptors: most.into_inner(),
    };
    let written = std::fs::write(file, serde_json::json!(cost).to_string());
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    match (written, code) {
        (Ok(()), Some(code)) => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    }
}
