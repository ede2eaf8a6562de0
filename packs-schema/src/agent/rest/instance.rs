//! The instance, its packs and its actions on the wire. Times are milliseconds since 1970, UTC.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::finding::Finding;
use crate::base::name::{ChannelName, Digest, InstanceId, PackName, PackVersion};
use crate::base::quantity::CpuShare;
use crate::delivery::facts::Facts;
use crate::delivery::pushed::PushInfo;
use crate::pack::action::Action;

/// `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Health {
    /// The process answers.
    pub live: bool,
    /// It takes executions; when false, the status is 503.
    pub ready: bool,
    /// Something is wrong that does not stop it.
    pub degraded: bool,
    /// What is wrong.
    pub reasons: Vec<Reason>,
    /// What is unusual and not wrong: `dev_pack`, a version that was pushed and not signed; `shared_account`, one account for
    /// all actions that name none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Reason>,
    /// Which instance.
    pub instance: InstanceId,
    /// The agent's version.
    pub version: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Reason {
    /// A stable name: `never_synced`, `sync_failed`, `pack_failed`, `metadata_expired`, `launcher_gone`, `history_failed`,
    /// `grants_invalid`, `tls_invalid`, `certificate_wrong`, `certificate_expired`, `certificate_expiring`, `config_invalid`,
    /// `root_untrusted`, `limits_unavailable`, `execution_configuration`, `starting`, `stopping`, `recovering`,
    /// `listen_changed`, `channel_empty`.
    pub code: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// `GET /v1/info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Info {
    /// What is known of the instance.
    pub instance: Facts,
    /// The agent's version.
    pub version: String,
    /// The api process has run since.
    pub started_at_ms: u64,
    /// The channel that it follows.
    pub channel: ChannelName,
    /// What is enforced on actions here.
    pub enforcement: Enforcement,
    /// Executions that run now.
    pub running: u32,
    /// Executions that wait.
    pub queued: u32,
    /// The most that may run.
    pub max_running: u32,
    /// The most that may wait.
    pub max_queued: u32,
}

/// What the launcher can enforce on this host. It writes this to `enforcement.json` in the runtime directory at its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Enforcement {
    /// `v2`, `v1`, `hybrid` or `none`.
    pub cgroups: String,
    /// A memory limit.
    pub memory: bool,
    /// A processor limit.
    pub cpu: bool,
    /// A limit of processes.
    pub pids: bool,
    /// `cgroup.kill`; without it, freeze and kill.
    pub cgroup_kill: bool,
    /// Running as the action's account.
    pub run_as: bool,
    /// Executions are refused when something of this is missing.
    pub required: bool,
    /// A weight of block I/O, which is never required.
    #[serde(default)]
    pub io_weight: bool,
    /// What all executions together may take.
    #[serde(default)]
    pub total: TotalLimits,
    /// The account that all actions share that name none; absent where each execution gets one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_account: Option<String>,
    /// What is configured so that executions are less separated than they could be, or cannot run: for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where the groups of executions are: the group of execution `<id>` is the directory `bolt-<id>` in each of these.
    #[serde(default)]
    pub groups: Vec<CgroupDirectory>,
}

/// Limits in force on all executions together; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct TotalLimits {
    /// Memory, page cache included.
    pub memory_bytes: Option<u64>,
    /// Processor time, of one processor: `150%` are one and a half.
    pub cpu: Option<CpuShare>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// A directory of a cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct CgroupDirectory {
    /// The version of the hierarchy, 1 or 2.
    pub version: u8,
    /// The controller of a hierarchy of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// Its path.
    pub path: PathBuf,
}

/// `GET /v1/packs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct PackList {
    /// The packs that the caller may see, by name.
    pub items: Vec<PackView>,
    /// The last polls of the repository; absent when there was none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
}

/// One pack of `GET /v1/packs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct PackView {
    /// Its name.
    pub name: PackName,
    /// What it is for.
    pub description: String,
    /// The version whose actions are run; absent when none could be activated yet.
    pub version: Option<PackVersion>,
    /// Its digest.
    pub digest: Option<Digest>,
    /// Set when that version was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// The signed version that is active again when a pushed one has gone; absent when there is none.
    #[serde(default, rename = "over", skip_serializing_if = "Option::is_none")]
    pub signed: Option<PackVersion>,
    /// How many of its actions the caller may see.
    pub actions: u32,
    /// The version that the channel wants and that could not be activated.
    pub failed: Option<FailedVersion>,
}

/// The step of a [`FailedVersion`] that waits for its virtual environment.
pub const BUILDING: &str = "building";

/// A version that could not be activated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct FailedVersion {
    /// Which; absent when the channel could not be read.
    pub version: Option<PackVersion>,
    /// The digest of its archive, as signed; absent when it was not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The step that failed: `choose`, `fetch`, `unpack`, `check`, `environment`, `activate`, or `configure`. With `building`
    /// nothing has failed: the version waits for its virtual environment.
    pub step: String,
    /// What was wrong, in one line; withheld from callers whose grant does not cover the whole pack, as the findings are.
    pub message: String,
    /// What the check of its actions found.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Tried last at.
    pub at_ms: u64,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
}

impl FailedVersion {
    /// True if nothing has failed yet: the version waits for its virtual environment.
    pub fn is_building(&self) -> bool {
        self.step == BUILDING
    }
}

/// A moment by the clock of a boot, which nobody sets: of two in one boot the order is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct BootMoment {
    /// The id of the boot.
    pub boot: String,
    /// Milliseconds since its start.
    pub ms: u64,
}

/// What the launcher writes to `sync.json` in the runtime directory, which is in memory, when a sync process has ended: a poll
/// that finds nothing new writes nothing itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncEnd {
    /// It was started at.
    pub began_at_ms: u64,
    /// Its exit status: 0 when the poll succeeded, 1 when it failed and `.status.json` says why.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It was started at, by the clock of the boot; absent from earlier launchers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<BootMoment>,
}

/// What the launcher writes to `api.json` in the runtime directory when the api has gone over to another state, or has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiProcess {
    /// How it fares.
    pub state: ApiState,
    /// Since when.
    pub since_ms: u64,
    /// How often in a row it has ended, or could not be started; those are forgotten when it has run for a minute.
    pub failures: u32,
    /// The exit status of the last that ended.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// How the api's process fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiState {
    /// It runs.
    Running,
    /// It has ended and is, or was just, started again.
    Restarting,
    /// It has done so several times in a row.
    Failing,
}

/// What the sync writes to `.status.json` in the store after each poll that had something to say, and a part of `GET /v1/packs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct SyncStatus {
    /// The last poll began at.
    pub polled_at_ms: u64,
    /// The poll that wrote this began at, by the clock of the boot; absent from earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<BootMoment>,
    /// The last poll that succeeded began at; absent: none yet.
    pub succeeded_at_ms: Option<u64>,
    /// Why the last poll failed as a whole, in one line.
    pub failure: Option<String>,
    /// The metadata have expired: nothing new is activated.
    pub expired: bool,
    /// Packs whose wanted version could not be activated; over REST, those that the caller may see.
    pub failed: Vec<(PackName, FailedVersion)>,
    /// Polls since the store was made that were asked for, failed, or found something new.
    pub polls: u64,
    /// Polls that failed since then.
    pub failures: u64,
    /// Set when the channel has no pack although the repository has other channels: its name may be mistyped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_empty: Option<EmptyChannel>,
}

/// A channel without packs, in a repository that has others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct EmptyChannel {
    /// The channel that the instance follows.
    pub channel: ChannelName,
    /// Channels that have packs, by name; at most [`EmptyChannel::MAX_OTHERS`].
    pub others: Vec<ChannelName>,
    /// Number of channels that are not listed.
    #[serde(default)]
    pub more: u64,
}

impl EmptyChannel {
    /// Largest number of other channels that are listed.
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

/// One action of `GET /v1/actions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ActionView {
    /// The pack's version.
    pub version: PackVersion,
    /// The pack's digest.
    pub digest: Digest,
    /// Set when the version was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// Its definition.
    #[serde(flatten)]
    pub action: Action,
}
