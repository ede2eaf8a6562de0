//! An action: its file as written ([`ActionFile`]), and its checked definition ([`Action`]), which is
//! what sync stores, the agent lists and the launcher obeys.

mod check;
mod file;
mod runner;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use file::{ActionFile, BoltSection, ConcurrencySection, LimitsSection, LintSection, OutputSection, RateSection};

use crate::base::name::{ActionName, ActionRef, GroupName, PackName, UserName};
use crate::base::quantity::{Bytes, CpuShare, Span};
use crate::pack::param::{Parameters, Schema};

/// What an action does to its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Reads only.
    Diagnostic,
    /// Repairs something that is wrong.
    Remediation,
    /// Changes something that is right.
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

/// How the entry point is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub enum Runner {
    /// In the pack's virtual environment when it has one, else by its shebang.
    #[serde(rename = "python-script")]
    PythonScript,
    /// By its shebang.
    #[serde(rename = "local-shell-script")]
    LocalShellScript,
}

/// A file of the pack, relative to its `actions` directory: no `..`, no leading `/`, no hidden part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schemas", schemars(with = "String"))]
pub struct EntryPoint(String);

/// Why a text is not an entry point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry point {0:?} is not a file of the pack: give a path inside actions/, such as clear_snapshots.py")]
pub struct EntryPointError(String);

impl EntryPoint {
    /// Checks `text`.
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

    /// The path, relative to `actions`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, each a plain file name.
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

/// What an execution may use. All processes of it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, page cache included.
    pub memory: Bytes,
    /// Share of the processors.
    pub cpu: CpuShare,
    /// Processes and threads.
    pub pids: u32,
    /// Open files of each process.
    pub open_files: u32,
    /// Weight of its block I/O among that of its neighbours, 1 to 10000; absent: the kernel's default, which is 100. A
    /// preference: where the host has no weights, the execution says so, and is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { memory: Bytes(256 << 20), cpu: CpuShare(1000), pids: 64, open_files: 1024, io_weight: None }
    }
}

/// What happens to a request that finds its group busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// It waits, first in, first out.
    Queue,
    /// It is refused.
    Reject,
}

/// What happens to processes that are still there when the action has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LeftoverPolicy {
    /// They are stopped.
    #[default]
    Stop,
    /// After exit status 0 they stay, in a cgroup without the execution's limits; otherwise they are stopped.
    Keep,
}

impl LeftoverPolicy {
    fn is_default(&self) -> bool {
        *self == LeftoverPolicy::Stop
    }
}

/// How many executions of a group may run at once on an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// The most at once.
    pub max: u32,
    /// The group that counts; actions of all packs may share one. Absent: the action by itself.
    pub group: Option<GroupName>,
    /// What happens beyond.
    pub when_busy: WhenBusy,
}

/// How often an action may be started on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// The most starts …
    pub max: u32,
    /// … within this time.
    pub per: Span,
}

/// An action that may be run: its checked definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Its pack.
    pub pack: PackName,
    /// Its name within the pack.
    pub name: ActionName,
    /// What it does, to a caller.
    pub description: String,
    /// How its entry point is run.
    pub runner_type: Runner,
    /// The file that is run.
    pub entry_point: EntryPoint,
    /// `false`: it may not be run.
    pub enabled: bool,
    /// What callers may give it.
    pub parameters: Parameters,
    /// What its structured result must fit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output_schema: Option<Schema>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What it does to its host.
    pub class: Class,
    /// The account it runs as; absent: one that each execution has to itself, or the agent's configured default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_as: Option<UserName>,
    /// When it is stopped.
    pub timeout: Span,
    /// Between TERM and KILL.
    pub grace: Span,
    /// How long it may wait for its start.
    pub start_within: Span,
    /// What it may use.
    pub limits: Limits,
    /// How many at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concurrency: Option<Concurrency>,
    /// How often.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<Rate>,
    /// How much of each output stream is kept.
    pub output_max: Bytes,
    /// It understands `BOLT_NOOP=1`.
    pub noop: bool,
    /// It may gain privileges (`sudo`, set-user-id programs): `no_new_privs` is not set.
    pub new_privileges: bool,
    /// What becomes of processes that it leaves behind.
    #[serde(default, skip_serializing_if = "LeftoverPolicy::is_default")]
    pub leftovers: LeftoverPolicy,
    /// It gets its parameters as arguments too, which `/proc` shows to every account of the host.
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
    /// Its reference: `<pack>.<action>`.
    pub fn reference(&self) -> ActionRef {
        ActionRef::join(&self.pack, &self.name)
    }

    /// The name under which its executions count for `concurrency`.
    pub fn group(&self) -> String {
        match self.concurrency.as_ref().and_then(|c| c.group.as_ref()) {
            Some(group) => group.to_string(),
            None => self.reference().to_string(),
        }
    }

    /// When it is stopped.
    pub fn timeout(&self) -> Duration {
        self.timeout.0
    }
}
