//! The instance, its packs and its actions in the REST interface. Times are milliseconds since 1970, UTC.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::finding::Finding;
use crate::base::name::{ChannelName, Digest, InstanceId, PackName, PackVersion};
use crate::base::quantity::CpuShare;
use crate::delivery::facts::Facts;
use crate::delivery::pushed::PushInfo;
use crate::pack::action::Action;

/// Response of `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Health {
    /// True: the process responds.
    pub live: bool,
    /// True if it accepts executions; if false, the HTTP status is 503.
    pub ready: bool,
    /// True if there is a problem that does not stop it.
    pub degraded: bool,
    /// Problems.
    pub reasons: Vec<Reason>,
    /// Conditions that are not problems, or not yet: `dev_pack` (a pushed version, which is not signed), `shared_account`
    /// (one account for all actions that name none), and the first warning of `certificate_expiring` and its like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Reason>,
    /// Instance id.
    pub instance: InstanceId,
    /// Version of the agent.
    pub version: String,
}

/// Problem or note of a health response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Reason {
    /// Stable code, such as `sync_failed` or `certificate_expiring`. The operator's paper (`systemd/README.md`, "Health
    /// codes") lists each code with its meaning and remedy.
    pub code: String,
    /// Description and remedy.
    pub message: String,
}

/// Response of `GET /v1/info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Info {
    /// Facts of the instance.
    pub instance: Facts,
    /// Version of the agent.
    pub version: String,
    /// Time of the start of the api process.
    pub started_at_ms: u64,
    /// Channel that the instance follows.
    pub channel: ChannelName,
    /// Enforcement of limits on this host.
    pub enforcement: Enforcement,
    /// Number of running executions.
    pub running: u32,
    /// Number of queued executions.
    pub queued: u32,
    /// Maximum number of running executions.
    pub max_running: u32,
    /// Maximum number of queued executions.
    pub max_queued: u32,
}

/// Enforcement of limits on this host. The launcher writes it to `enforcement.json` in the run-time directory when it
/// starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Enforcement {
    /// `v2`, `v1`, `hybrid` or `none`.
    pub cgroups: String,
    /// True if memory can be limited.
    pub memory: bool,
    /// True if processor time can be limited.
    pub cpu: bool,
    /// True if the number of processes can be limited.
    pub pids: bool,
    /// True if `cgroup.kill` is available; otherwise the cgroup is frozen and its processes are killed.
    pub cgroup_kill: bool,
    /// True if actions can run as their accounts.
    pub run_as: bool,
    /// True if executions are refused when one of these is missing.
    pub required: bool,
    /// True if block I/O can be weighted, which is never required.
    #[serde(default)]
    pub io_weight: bool,
    /// Limits of all executions together.
    #[serde(default)]
    pub total: TotalLimits,
    /// Account shared by all actions that name none; absent if each execution gets one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_account: Option<String>,
    /// Warnings about a configuration that separates executions less than possible, or prevents them from running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Parent directories of executions' cgroups: the cgroup of execution `<id>` is the directory `bolt-<id>` in each
    /// of them.
    #[serde(default)]
    pub groups: Vec<CgroupDirectory>,
}

/// Effective limits of all executions together; absent means unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct TotalLimits {
    /// Memory, including page cache.
    pub memory_bytes: Option<u64>,
    /// Processor time: `150%` is one and a half processors.
    pub cpu: Option<CpuShare>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Directory in a cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct CgroupDirectory {
    /// Version of the hierarchy, 1 or 2.
    pub version: u8,
    /// Controller of a hierarchy of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// Path.
    pub path: PathBuf,
}

/// Response of `GET /v1/packs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct PackList {
    /// Packs that the caller may see, by name.
    pub items: Vec<PackView>,
    /// Status of the last polls of the repository; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
}

/// Pack of `GET /v1/packs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct PackView {
    /// Name.
    pub name: PackName,
    /// Description.
    pub description: String,
    /// Active version; absent if none could be activated yet.
    pub version: Option<PackVersion>,
    /// Digest of its archive.
    pub digest: Option<Digest>,
    /// Present if that version was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// Signed version that becomes active again after a pushed one; absent if there is none.
    #[serde(default, rename = "over", skip_serializing_if = "Option::is_none")]
    pub signed: Option<PackVersion>,
    /// Number of its actions that the caller may see.
    pub actions: u32,
    /// Version that the channel selects but that could not be activated.
    pub failed: Option<FailedVersion>,
}

/// Step of a [`FailedVersion`] that waits for its virtual environment.
pub const BUILDING: &str = "building";

/// Version that could not be activated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct FailedVersion {
    /// Version; absent if the channel could not be read.
    pub version: Option<PackVersion>,
    /// Digest of its archive, as signed; absent if not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Step that failed: `choose`, `fetch`, `unpack`, `check`, `environment`, `activate` or `configure`. `building` is
    /// not a failure: the version waits for its virtual environment.
    pub step: String,
    /// Error in one line; like the findings, withheld from callers whose grant does not cover the whole pack.
    pub message: String,
    /// Findings of the check of its actions.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Time of the last attempt.
    pub at_ms: u64,
    /// Number of attempts.
    #[serde(default)]
    pub attempts: u32,
}

impl FailedVersion {
    /// True if the version did not fail but waits for its virtual environment.
    pub fn is_building(&self) -> bool {
        self.step == BUILDING
    }
}

/// Time by the clock of a boot, which cannot be set: two times of one boot are ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct BootMoment {
    /// Id of the boot.
    pub boot: String,
    /// Milliseconds since its start.
    pub ms: u64,
}

/// Exit of the last sync process, which the launcher writes to `sync.json` in the run-time directory: a poll that finds
/// nothing new writes nothing itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncEnd {
    /// Time of its start.
    pub began_at_ms: u64,
    /// Exit status: 0 if the poll succeeded, 1 if it failed and `.status.json` has the reason.
    pub status: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Time of its start by the clock of the boot; absent from earlier launchers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<BootMoment>,
}

/// State of the api process, which the launcher writes to `api.json` in the run-time directory when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiProcess {
    /// State.
    pub state: ApiState,
    /// Time of the change to this state.
    pub since_ms: u64,
    /// Number of consecutive exits or failed starts; reset after it has run for a minute.
    pub failures: u32,
    /// Exit status of the last process.
    pub status: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// True if the launcher killed it because it gave no sign of life for `api.hang_after`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hung: bool,
}

/// State of the api process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiState {
    /// Running.
    Running,
    /// Ended; being restarted, or just restarted.
    Restarting,
    /// Ended several times in a row.
    Failing,
}

/// Status of the sync, which it writes to `.status.json` in the store after each poll with news, and part of `GET
/// /v1/packs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct SyncStatus {
    /// Time of the start of the last poll.
    pub polled_at_ms: u64,
    /// Start of that poll by the clock of the boot; absent from earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<BootMoment>,
    /// Time of the start of the last successful poll; absent if none succeeded yet.
    pub succeeded_at_ms: Option<u64>,
    /// Error of the last poll as a whole, in one line.
    pub failure: Option<String>,
    /// True if the metadata has expired, so that nothing new is activated.
    pub expired: bool,
    /// Packs whose selected version could not be activated; in the REST interface, those that the caller may see.
    pub failed: Vec<(PackName, FailedVersion)>,
    /// Number of polls since the store was created that were requested, failed, or found something new.
    pub polls: u64,
    /// Number of these polls that failed.
    pub failures: u64,
    /// Number of failures by step, of polls as a whole and of versions that could not be activated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures_by_step: BTreeMap<String, u64>,
    /// Newest version of each pack of the channel, as the last complete verification found it; in the REST interface, of
    /// packs that the caller may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<(PackName, Rollout)>,
    /// Present if the channel has no packs although the repository has other channels: its name may be misspelt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_empty: Option<EmptyChannel>,
    /// Ends of the repository's signatures, as the last complete verification found them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expires: Vec<SignatureEnd>,
}

/// Newest version of a pack in the instance's channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Rollout {
    /// The version.
    pub version: PackVersion,
    /// True if the channel gives it to this instance, or this instance has it.
    pub reached: bool,
}

/// End of the signatures of a role of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct SignatureEnd {
    /// `root`, `targets`, `snapshot`, `timestamp`, or the role of a team.
    pub role: String,
    /// Time of the end.
    pub expires_at_ms: u64,
}

/// Channel without packs in a repository that has other channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct EmptyChannel {
    /// Channel that the instance follows.
    pub channel: ChannelName,
    /// Channels with packs, by name; at most [`EmptyChannel::MAX_OTHERS`].
    pub others: Vec<ChannelName>,
    /// Number of further channels.
    #[serde(default)]
    pub more: u64,
}

impl EmptyChannel {
    /// Maximum number of listed channels.
    pub const MAX_OTHERS: usize = 20;
}

impl std::fmt::Display for EmptyChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let others: Vec<&str> = self.others.iter().map(ChannelName::as_str).collect();
        write!(f, "channel {} has no packs; the repository has {}", self.channel, others.join(", "))?;
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        f.write_str(": check [repository] channel, or publish a pack into it")
    }
}

/// Action of `GET /v1/actions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ActionView {
    /// Version of the pack.
    pub version: PackVersion,
    /// Digest of the pack archive.
    pub digest: Digest,
    /// Present if the version was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// Definition.
    #[serde(flatten)]
    pub action: Action,
}
