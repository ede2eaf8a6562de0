//! Actions: the file as written ([`ActionFile`]) and the checked definition ([`Action`]), which the sync stores, the
//! api lists and the launcher runs.

mod check;
mod file;
pub mod runner;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use file::{ActionFile, BoltSection, ConcurrencySection, LimitsSection, LintSection, OutputSection, RateSection};

use crate::base::name::{ActionName, ActionRef, GroupName, PackName, UserName};
use crate::base::quantity::{Bytes, CpuShare, Span};
use crate::pack::param::{Parameters, Schema};

/// Effect of an action on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Reads only.
    Diagnostic,
    /// Repairs a fault.
    Remediation,
    /// Changes a healthy host.
    Maintenance,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Diagnostic => "diagnostic",
            Class::Remediation => "remediation",
            Class::Maintenance => "maintenance",
        })
    }
}

impl FromStr for Class {
    type Err = String;
    fn from_str(text: &str) -> Result<Class, String> {
        [Class::Diagnostic, Class::Remediation, Class::Maintenance]
            .into_iter()
            .find(|class| class.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a class: use diagnostic, remediation or maintenance"))
    }
}

/// Runner of the entry point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub enum Runner {
    /// In the pack's virtual environment if it has one, otherwise by its shebang.
    #[serde(rename = "python-script")]
    PythonScript,
    /// By its shebang.
    #[serde(rename = "local-shell-script")]
    LocalShellScript,
}

/// Path of a file, relative to the pack's `actions` directory: no `..`, no leading `/`, no hidden part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schemas", schemars(with = "String"))]
pub struct EntryPoint(String);

/// Error returned when a text is not a valid entry point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry point {0:?} is not a file of the pack: give a path inside actions/, such as clear_snapshots.py")]
pub struct EntryPointError(String);

impl EntryPoint {
    /// Validates `text`.
    pub fn new(text: impl Into<String>) -> Result<EntryPoint, EntryPointError> {
        let text = text.into();
        let good = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b))
        };
        if text.len() <= 200 && text.split('/').count() <= 8 && text.split('/').all(good) {
            Ok(EntryPoint(text))
        } else {
            Err(EntryPointError(text.chars().take(80).collect()))
        }
    }

    /// Returns the path, relative to `actions`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components of the path, each a plain file name.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl TryFrom<String> for EntryPoint {
    type Error = EntryPointError;
    fn try_from(text: String) -> Result<EntryPoint, EntryPointError> {
        EntryPoint::new(text)
    }
}

impl From<EntryPoint> for String {
    fn from(entry: EntryPoint) -> String {
        entry.0
    }
}

/// Resource limits of an execution, for all its processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, including page cache.
    pub memory: Bytes,
    /// Processor time.
    pub cpu: CpuShare,
    /// Processes and threads.
    pub pids: u32,
    /// Open files of each process.
    pub open_files: u32,
    /// Weight of block I/O relative to other groups, 1 to 10000; absent: the kernel's default of 100. Not required: on
    /// a host without weights the execution runs and reports the limit as unenforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { memory: Bytes(256 << 20), cpu: CpuShare(1000), pids: 64, open_files: 1024, io_weight: None }
    }
}

/// Handling of a request while its group is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// Queue it, first in, first out.
    Queue,
    /// Reject it.
    Reject,
}

/// Handling of processes that are still running when the action has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LeftoverPolicy {
    /// Stop them.
    #[default]
    Stop,
    /// After exit status 0, move them to a cgroup without the execution's limits; otherwise stop them.
    Keep,
}

impl LeftoverPolicy {
    fn is_default(&self) -> bool {
        *self == LeftoverPolicy::Stop
    }
}

/// Maximum number of concurrent executions of a group on an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Maximum number of concurrent executions.
    pub max: u32,
    /// Concurrency group, which actions of all packs may share. Absent: the action is its own group.
    pub group: Option<GroupName>,
    /// Handling of requests above the maximum.
    pub when_busy: WhenBusy,
}

/// Rate limit of an action on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Maximum number of starts …
    pub max: u32,
    /// … within this period.
    pub per: Span,
}

/// Checked definition of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Its pack.
    pub pack: PackName,
    /// Its name within the pack.
    pub name: ActionName,
    /// Description for callers.
    pub description: String,
    /// Runner of the entry point.
    pub runner_type: Runner,
    /// File to run.
    pub entry_point: EntryPoint,
    /// `false`: the action cannot be run.
    pub enabled: bool,
    /// Parameters of callers.
    pub parameters: Parameters,
    /// Schema of the structured result.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output_schema: Option<Schema>,
    /// Tags to search for.
    pub tags: Vec<String>,
    /// Effect on the host.
    pub class: Class,
    /// Account to run as; absent: an account of its own for each execution, or the agent's configured default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_as: Option<UserName>,
    /// Time-out, after which it is stopped.
    pub timeout: Span,
    /// Grace period between SIGTERM and SIGKILL.
    pub grace: Span,
    /// Maximum time in the queue.
    pub start_within: Span,
    /// Resource limits.
    pub limits: Limits,
    /// Maximum number of concurrent executions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concurrency: Option<Concurrency>,
    /// Rate limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<Rate>,
    /// Maximum number of bytes kept of each output stream.
    pub output_max: Bytes,
    /// True if the action supports dry runs (`BOLT_NOOP=1`).
    pub noop: bool,
    /// True if it may gain privileges (`sudo`, set-user-id programs): `no_new_privs` is not set.
    pub new_privileges: bool,
    /// Handling of processes that it leaves behind.
    #[serde(default, skip_serializing_if = "LeftoverPolicy::is_default")]
    pub leftovers: LeftoverPolicy,
    /// True if parameters are passed as arguments too, which `/proc` shows to all accounts of the host.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub arguments: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

impl Action {
    /// Returns the full name, `<pack>.<action>`.
    pub fn reference(&self) -> ActionRef {
        ActionRef::join(&self.pack, &self.name)
    }

    /// Returns the name of its concurrency group.
    pub fn group(&self) -> String {
        match self.concurrency.as_ref().and_then(|c| c.group.as_ref()) {
            Some(group) => group.to_string(),
            None => self.reference().to_string(),
        }
    }

    /// Returns the time-out.
    pub fn timeout(&self) -> Duration {
        self.timeout.0
    }
}
