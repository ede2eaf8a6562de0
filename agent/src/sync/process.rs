//! Resource limits of the process: a fault in it, or in its input, must cost the poll and not the instance.

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::alarm;

/// Maximum private memory, in bytes: several times the need of the largest pack.
const MEMORY: u64 = 256 << 20;
/// Limit to which a child that installs Python packages may raise that for itself.
const CHILD_MEMORY: u64 = packs_schema::agent::python::INSTALL_MEMORY;
/// Maximum processor time, in seconds.
const PROCESSOR: u64 = 300;
/// Maximum time, in seconds: a little less than the launcher's limit, so that the log shows which of the two ended it.
const TIME: u32 = 590;
/// Maximum number of open files.
const FILES: u64 = 256;
/// Limit to which such a child may raise that.
const CHILD_FILES: u64 = 1024;

/// Limits this process from now on. The launcher has set its nice value already.
pub(super) fn limit() {
    let limits = [
        // Private writable memory, not address space: the C library reserves gigabytes of that.
        (Resource::RLIMIT_DATA, MEMORY, CHILD_MEMORY),
        (Resource::RLIMIT_CPU, PROCESSOR, PROCESSOR),
        (Resource::RLIMIT_NOFILE, FILES, CHILD_FILES),
        // A core dump would contain secrets of the configuration.
        (Resource::RLIMIT_CORE, 0, 0),
    ];
    for (resource, most, hard) in limits {
        if let Err(error) = setrlimit(resource, most, hard) {
            tracing::warn!(?resource, most, %error, "cannot set a resource limit");
        }
    }
    alarm::set(TIME);
}

/// Returns the peak physical memory of the process, in kB.
pub(super) fn peak_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
