//! Check that no account, group, container or directory service of the host uses the range of user ids for executions.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use packs_schema::agent::accounts::{id_in_range, named_in_range, subordinate_in_range};
use packs_schema::agent::config::{Config, UidRange};

use crate::search_path::SEARCH_PATH;
use crate::{log, proc};

/// Maximum number of bytes read of a file or of an answer.
const MAX_BYTES: u64 = 8 << 20;
/// Maximum time for the name service to list its accounts.
const NAME_SERVICE_TIMEOUT: Duration = Duration::from_secs(5);

/// Error returned when the range cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UidRangeInUse {
    #[error(
        "execution.uid_range = \"{range}\" is in use: {user}; name a range that no account, group, container or directory \
         service of this host has, or set execution.default_run_as to one account that all actions share"
    )]
    InUse { range: UidRange, user: String },
    #[error(
        "execution.uid_range = \"{range}\" is not mapped in this user namespace (/proc/self/{map}): name a range that is, or \
         set execution.default_run_as to one account that all actions share"
    )]
    Unmapped { range: UidRange, map: &'static str },
}

pub(super) fn check(config: &Config) -> Result<(), UidRangeInUse> {
    let range = config.execution.uid_range;
    for map in ["uid_map", "gid_map"] {
        if !is_mapped(range, &proc::read_text(format!("/proc/self/{map}"), MAX_BYTES)) {
            return Err(UidRangeInUse::Unmapped { range, map });
        }
    }
    let user = named_in_range(config)
        .or_else(|| find("/etc/passwd", |text| id_in_range(range, text, "account")))
        .or_else(|| find("/etc/group", |text| id_in_range(range, text, "group")))
        .or_else(|| find("/etc/subuid", |text| subordinate_in_range(range, text)))
        .or_else(|| find("/etc/subgid", |text| subordinate_in_range(range, text)))
        .or_else(|| in_name_service(range, "passwd", "account"))
        .or_else(|| in_name_service(range, "group", "group"));
    user.map_or(Ok(()), |user| Err(UidRangeInUse::InUse { range, user }))
}

/// Searches a file of the host.
fn find(path: &str, search: impl Fn(&str) -> Option<String>) -> Option<String> {
    search(&proc::read_text(path, MAX_BYTES)).map(|user| format!("{user} ({path})"))
}

/// Returns true if every id of the range is mapped by one line of `uid_map` or `gid_map` (user_namespaces(7)).
fn is_mapped(range: UidRange, map: &str) -> bool {
    // The file does not exist on a kernel without user namespaces.
    map.is_empty()
        || map.lines().any(|line| {
            let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
            let (Some(first), Some(_), Some(count)) = (numbers.next(), numbers.next(), numbers.next()) else {
                return false;
            };
            first <= u64::from(range.first()) && u64::from(range.last()) < first + count
        })
}

/// Searches the list of the name service, in an unprivileged process, because its modules use the network. Finds nothing if the
/// service does not list its accounts, which is the default of many, or does not answer in time.
fn in_name_service(range: UidRange, database: &str, what: &str) -> Option<String> {
    let mut getent = Command::new("getent");
    getent.arg(database).env_clear().env("PATH", SEARCH_PATH).current_dir("/");
    getent.uid(range.last()).gid(range.last());
    let spawned = getent.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            log::warn("cannot check execution.uid_range against the name service", &[("reason", &error)]);
            return None;
        }
    };
    let text = child.stdout.take().map(|out| read_until(out, NAME_SERVICE_TIMEOUT)).unwrap_or_default();
    let _ = child.kill();
    let _ = child.wait();
    id_in_range(range, &text, what).map(|user| format!("{user} (getent {database})"))
}

/// Reads until the end, the maximum size, or `timeout`.
fn read_until(mut from: impl Read + std::os::fd::AsFd, timeout: Duration) -> String {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let until = Instant::now() + timeout;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    while (bytes.len() as u64) < MAX_BYTES {
        let left = until.saturating_duration_since(Instant::now());
        let poll_timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], poll_timeout);
        match ready {
            Ok(0) => break,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => break,
            Ok(_) => {}
        }
        match from.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> UidRange {
        UidRange::parse("70000-70009").unwrap()
    }

    #[test]
    fn a_range_must_be_mapped_as_a_whole() {
        assert!(is_mapped(range(), "         0          0 4294967295\n"));
        assert!(!is_mapped(range(), "0 1000 1\n1 100000 65536\n"));
        assert!(!is_mapped(range(), "0 0 70005\n"));
        assert!(is_mapped(range(), ""));
    }
}
