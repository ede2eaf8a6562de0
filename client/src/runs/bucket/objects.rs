//! Names and contents of the objects of a run.

use std::time::Duration;

use packs_schema::base::name::RunId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::read::{check_run, damaged, versioned};
use super::super::record::{Entry, FORMAT, Head};
use super::super::{StoreError, Summary};
use super::EXPIRY_BOUNDS;
use crate::show;

/// Start of the names of all heads.
pub(super) const HEADS: &str = "heads/";

/// Maximum size of a head in bytes.
pub(super) const MAX_HEAD: u64 = 64 << 10;
/// Maximum size of a plan in bytes: 100,000 instances.
pub(super) const MAX_PLAN: u64 = 256 << 20;
/// Maximum size of a lease in bytes.
pub(super) const MAX_LEASE: u64 = 4 << 10;
/// Maximum size of a group of entries in bytes.
pub(super) const MAX_GROUP: u64 = 64 << 20;
/// Size in bytes at which a group is closed and the next one begins.
pub(super) const FULL_GROUP: usize = 8 << 20;
/// Maximum number of groups of a run.
pub(super) const MAX_GROUPS: usize = 200_000;
/// Maximum size of all groups of a run in bytes.
pub(super) const MAX_PROGRESS: u64 = 1 << 30;
/// Number of the last group that a name can hold.
const LAST: u64 = 99_999_999;
/// Maximum length of the description of a holder, in characters.
const MAX_BY: usize = 100;

/// Head of a run, with the name of its plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredHead {
    #[serde(flatten)]
    pub(super) head: Head,
    /// SHA-256 of the plan.
    pub(super) plan: String,
    /// Token of the client that planned the run: two clients never write the same head.
    #[serde(default)]
    pub(super) by: String,
}

/// Client that carries out a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LeaseObject {
    pub(super) format: u64,
    pub(super) run: RunId,
    /// Random name of the client.
    pub(super) token: String,
    /// Description of the client.
    by: String,
    /// Time without a renewal after which another client may take over.
    expiry_ms: u64,
    /// Number of renewals so far: each gives the object another state.
    pub(super) renewals: u64,
    /// True once the client has given up the run.
    #[serde(default)]
    pub(super) released: bool,
}

impl LeaseObject {
    pub(super) fn new(run: &RunId, token: String, expiry: Duration) -> LeaseObject {
        let host = nix::unistd::gethostname().unwrap_or_default();
        LeaseObject {
            format: FORMAT,
            run: run.clone(),
            token,
            by: format!("process {} on host {}", std::process::id(), host.to_string_lossy()),
            expiry_ms: u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX),
            renewals: 0,
            released: false,
        }
    }

    pub(super) fn parse(what: &str, run: &RunId, bytes: &[u8]) -> Result<LeaseObject, StoreError> {
        let lease: LeaseObject = versioned(what, bytes)?;
        check_run(what, run, &lease.run)?;
        Ok(lease)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records are JSON")
    }

    /// Returns the time without a renewal after which another client may take over, within bounds.
    pub(super) fn expiry(&self) -> Duration {
        let (shortest, longest) = EXPIRY_BOUNDS;
        Duration::from_millis(self.expiry_ms).clamp(shortest, longest)
    }

    /// Returns the description of the client, made safe for a terminal.
    pub(super) fn by(&self) -> String {
        show::visible(&self.by.chars().take(MAX_BY).collect::<String>())
    }
}

/// Group of entries.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Group {
    format: u64,
    run: RunId,
    number: u64,
    /// Token of the client that wrote it.
    token: String,
    pub(super) entries: Vec<Entry>,
    /// Summary of all entries up to these.
    pub(super) summary: Summary,
}

impl Group {
    pub(super) fn new(run: &RunId, number: u64, token: &str, entries: Vec<Entry>, summary: Summary) -> Group {
        Group { format: FORMAT, run: run.clone(), number, token: token.to_owned(), entries, summary }
    }

    pub(super) fn parse(what: &str, run: &RunId, number: u64, bytes: &[u8]) -> Result<Group, StoreError> {
        let group: Group = versioned(what, bytes)?;
        check_run(what, run, &group.run)?;
        if group.number != number {
            return Err(damaged(what, &format!("it is group {}, not {number}", group.number)));
        }
        Ok(group)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records are JSON")
    }
}

/// Returns a random name for a client.
pub(super) fn new_token() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub(super) fn head(run: &RunId) -> String {
    format!("{HEADS}{run}.json")
}

/// Returns the run whose head has this name.
pub(super) fn run_of_head(name: &str) -> Option<RunId> {
    RunId::new(name.strip_prefix(HEADS)?.strip_suffix(".json")?).ok()
}

/// Returns the name of the plan with this digest; `None` if it is none.
pub(super) fn plan(run: &RunId, sha256: &str) -> Option<String> {
    let is_digest = sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then(|| format!("runs/{run}/plan-{sha256}.json"))
}

pub(super) fn lease(run: &RunId) -> String {
    format!("runs/{run}/lease.json")
}

/// Returns the start of the names of all groups.
pub(super) fn progress(run: &RunId) -> String {
    format!("runs/{run}/progress/")
}

/// Returns the name of the group with this number, from 1.
pub(super) fn group(run: &RunId, number: u64) -> String {
    format!("{}{:08}.json", progress(run), LAST.saturating_sub(number))
}

/// Returns the number of the group whose name ends with this.
pub(super) fn number(rest: &str) -> Option<u64> {
    let digits = rest.strip_suffix(".json")?;
    let left: u64 = digits.parse().ok()?;
    let is_name = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit());
    LAST.checked_sub(left).filter(|number| is_name && (1..LAST).contains(number))
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_begins_with_the_newest_group() {
        let run = RunId::new("r-1").unwrap();
        let names: Vec<String> = (1..1200).map(|number| group(&run, number)).collect();
        assert!(names.is_sorted_by(|a, b| a > b));
        for (name, wanted) in names.iter().zip(1..) {
            assert_eq!(number(name.strip_prefix(&progress(&run)).unwrap()), Some(wanted));
        }
        for wrong in ["", "1.json", "99999999.json", "100000000.json", "+9999998.json", "0000000x.json", "99999998"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_others_are_no_runs() {
        assert_eq!(run_of_head("heads/r-1.json").unwrap().as_str(), "r-1");
        for wrong in ["heads/.json", "heads/a b.json", "heads/r-1", "runs/r-1.json", "heads/\u{1b}.json"] {
            assert_eq!(run_of_head(wrong), None, "{wrong}");
        }
        let run = RunId::new("r-1").unwrap();
        for wrong in ["", "../../lease", &"A".repeat(64)] {
            assert_eq!(plan(&run, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_time_of_a_hostile_lease_is_bounded() {
        let run = RunId::new("r-1").unwrap();
        let mut lease = LeaseObject::new(&run, new_token(), Duration::from_secs(30));
        for (ms, wanted) in [(0, 1), (30_000, 30), (u64::MAX, 600)] {
            lease.expiry_ms = ms;
            assert_eq!(lease.expiry(), Duration::from_secs(wanted));
        }
        lease.by = "\u{1b}[2J".repeat(100);
        assert!(!lease.by().contains('\u{1b}') && lease.by().len() < 1000);
    }
}
