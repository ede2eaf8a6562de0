//! Resource usage of the api process, from `/proc/self` (proc(5)). Read when metrics are asked for, never otherwise.

use std::fs;

use super::exposition::Exposition;
use super::families as f;

/// Clock ticks of a second in `/proc/<pid>/stat`: `USER_HZ`, which is 100 on all architectures with an agent.
const TICKS: u64 = 100;

/// Writes usage of processor, memory and descriptors. Leaves out what `/proc` does not tell.
pub(super) fn write(out: &mut Exposition) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name of the program, which may contain spaces; the third follows the last parenthesis.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied();
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let us = (user + system) * (1_000_000 / TICKS);
        out.single(&f::PROCESS_CPU, super::histogram::seconds(us));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, family) in [("VmRSS:", f::PROCESS_RESIDENT), ("VmSize:", f::PROCESS_VIRTUAL)] {
        if let Some(kib) = number_after(&status, name) {
            out.single(&family, kib * 1024);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the descriptor of the directory itself.
        out.single(&f::PROCESS_OPEN_FDS, open.count().saturating_sub(1));
    }
    if let Ok((soft, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        out.single(&f::PROCESS_MAX_FDS, soft);
    }
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    if let (Some(boot_s), Some(ticks)) = (number_after(&boot, "btime"), field(22)) {
        out.single(&f::PROCESS_START_TIME, boot_s + ticks / TICKS);
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

    #[test]
    fn the_process_tells_its_own_usage() {
        let mut out = Exposition::default();
        write(&mut out);
        let text = out.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}\n{text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e5, "{text}");
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"), "{text}");
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"), "{text}");
        let age = crate::clock::now_ms() as f64 / 1e3 - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}\n{text}");
        assert!(value("process_cpu_seconds_total") >= 0.0, "{text}");
    }
}
