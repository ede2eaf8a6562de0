//! What the process may take of the host. A fault in it, or in what it reads, must cost the poll and not the instance.

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::alarm;

/// The most memory of its own, in bytes: several times what the largest pack needs.
const MEMORY: u64 = 256 << 20;
/// What a child that installs Python packages may raise that to, for itself.
const CHILD_MEMORY: u64 = packs_schema::agent::python::INSTALL_MEMORY;
/// The most processor time, in seconds.
const PROCESSOR: u64 = 300;
/// The most time, in seconds: a little less than after what the launcher ends it, so that the log says which of the two it was.
const TIME: u32 = 590;
/// The most open files.
const FILES: u64 = 256;
/// What such a child may raise that to.
const CHILD_FILES: u64 = 1024;

/// Bounds this process from here on. The launcher has it niced already.
pub(super) fn bound() {
    let limits = [
        // Private memory that can be written, not addresses: the C library reserves those by the gigabyte.
        (Resource::RLIMIT_DATA, MEMORY, CHILD_MEMORY),
        (Resource::RLIMIT_CPU, PROCESSOR, PROCESSOR),
        (Resource::RLIMIT_NOFILE, FILES, CHILD_FILES),
        // A core would hold what the configuration keeps secret.
        (Resource::RLIMIT_CORE, 0, 0),
    ];
    for (resource, most, hard) in limits {
        if let Err(error) = setrlimit(resource, most, hard) {
            tracing::warn!(?resource, most, %error, "cannot be limited");
        }
    }
    alarm::set(TIME);
}

/// The most physical memory that the process has held, in kB.
pub(super) fn peak_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
