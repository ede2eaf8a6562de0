//! Resource usage of the api process and of the launcher, from `/proc/<pid>` (proc(5)). Read when metrics are asked for, never
//! otherwise.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::exposition::Exposition;
use super::families as f;
use super::histogram::seconds;

/// Clock ticks of a second in `/proc/<pid>/stat`: `USER_HZ`, which is 100 on all architectures with an agent.
const TICKS: u64 = 100;

/// Writes usage of processor, memory and descriptors of this process. Leaves out what `/proc` does not tell.
pub(super) fn own(out: &mut Exposition) {
    let process = Process::of("self");
    if let Some(us) = process.cpu_us() {
        out.single(&f::PROCESS_CPU, seconds(us));
    }
    for (name, family) in [("VmRSS:", f::PROCESS_RESIDENT), ("VmSize:", f::PROCESS_VIRTUAL)] {
        if let Some(bytes) = process.memory(name) {
            out.single(&family, bytes);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the descriptor of the directory itself.
        out.single(&f::PROCESS_OPEN_FDS, open.count().saturating_sub(1));
    }
    if let Ok((soft, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        out.single(&f::PROCESS_MAX_FDS, soft);
    }
    if let Some(start_s) = process.start_s() {
        out.single(&f::PROCESS_START_TIME, start_s);
    }
}

/// Writes usage of the launcher, which is another account's process: what `/proc` tells everybody, and the number of descriptors
/// that the launcher has `told`.
pub(super) fn launcher(out: &mut Exposition, pid: i32, told: Option<u32>) {
    let process = Process::of(&pid.to_string());
    if let Some(us) = process.cpu_us() {
        out.single(&f::LAUNCHER_CPU, seconds(us));
    }
    if let Some(bytes) = process.memory("VmRSS:") {
        out.single(&f::LAUNCHER_RESIDENT, bytes);
    }
    // A launcher that asks for no signs of life (`api.hang_after = 0`), or is of an earlier release, tells none.
    if let Some(open) = told.map(u64::from).or_else(|| process.open_descriptors()) {
        out.single(&f::LAUNCHER_OPEN_FDS, open);
    }
    if let Some(start_s) = process.start_s() {
        out.single(&f::LAUNCHER_START_TIME, start_s);
    }
}

/// Files of a process below `/proc`, empty where they cannot be read.
struct Process {
    directory: PathBuf,
    /// Fields of `stat` from the third on.
    fields: Vec<u64>,
    status: String,
}

impl Process {
    fn of(pid: &str) -> Process {
        let directory = Path::new("/proc").join(pid);
        let stat = fs::read_to_string(directory.join("stat")).unwrap_or_default();
        // The second field is the name of the program, which may contain spaces; the third follows the last parenthesis.
        let fields = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
            .unwrap_or_default();
        let status = fs::read_to_string(directory.join("status")).unwrap_or_default();
        Process { directory, fields, status }
    }

    /// Returns a field of `stat` by its number in proc(5).
    fn field(&self, number: usize) -> Option<u64> {
        self.fields.get(number - 3).copied()
    }

    /// Returns its processor time in microseconds.
    fn cpu_us(&self) -> Option<u64> {
        Some((self.field(14)? + self.field(15)?) * (1_000_000 / TICKS))
    }

    /// Returns a size from `status`, in bytes.
    fn memory(&self, name: &str) -> Option<u64> {
        number_after(&self.status, name).map(|kib| kib * 1024)
    }

    /// Returns the start, in seconds since 1970.
    fn start_s(&self) -> Option<u64> {
        let boot_s = number_after(&fs::read_to_string("/proc/stat").unwrap_or_default(), "btime")?;
        Some(boot_s + self.field(22)? / TICKS)
    }

    /// Returns the number of open descriptors without reading their directory, which only its own account may: since Linux
    /// 6.2 they are the directory's size, which was 0 before.
    fn open_descriptors(&self) -> Option<u64> {
        fs::metadata(self.directory.join("fd")).ok().map(|fds| fds.size()).filter(|size| *size > 0)
    }
}

/// Returns the number after `name` at the start of a line.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(write: impl FnOnce(&mut Exposition)) -> impl Fn(&str) -> Option<f64> {
        let mut out = Exposition::default();
        write(&mut out);
        let text = out.finish();
        move |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn the_process_tells_its_own_usage() {
        let found = values(own);
        let value = |name: &str| found(name).unwrap_or_else(|| panic!("{name}"));
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        let age = crate::clock::now_ms() as f64 / 1e3 - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }

    #[test]
    fn another_process_is_measured_as_it_measures_itself() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let (by_others, by_itself) = (values(|out| launcher(out, pid, None)), values(own));
        assert_eq!(by_others("bolt_launcher_start_time_seconds"), by_itself("process_start_time_seconds"));
        assert!(by_others("bolt_launcher_resident_memory_bytes") > Some(1e5));
        assert!(by_others("bolt_launcher_cpu_seconds_total") >= Some(0.0));
        // Absent on older kernels, unless the launcher tells.
        assert!(by_others("bolt_launcher_open_fds").is_none_or(|open| open >= 3.0));
        assert_eq!(values(|out| launcher(out, pid, Some(17)))("bolt_launcher_open_fds"), Some(17.0));
        assert_eq!(values(|out| launcher(out, i32::MAX, None))("bolt_launcher_resident_memory_bytes"), None);
    }
}
