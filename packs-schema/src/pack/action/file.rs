//! Action files as written: StackStorm's keys, and Bolt's own keys under `bolt`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::absent::{null_is_default, null_is_true, null_values};
use crate::base::name::UserName;
use crate::base::quantity::{Bytes, CpuShare, Span};
use crate::pack::param::Schema;

use super::{Class, LeftoverPolicy, WhenBusy};

/// An action file, `actions/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ActionFile {
    /// Name of the action within the pack; the file must have the same name.
    pub name: String,
    /// Description for callers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub description: String,
    /// `python-script` or `local-shell-script`. StackStorm's other runners are reported as errors.
    pub runner_type: String,
    /// Path of the script, relative to `actions/`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub entry_point: String,
    /// `false`: callers can see the action but not run it.
    #[serde(default = "yes", deserialize_with = "null_is_true")]
    pub enabled: bool,
    /// Parameters of callers, by name.
    #[serde(default, deserialize_with = "null_values")]
    pub parameters: BTreeMap<String, Schema>,
    /// Schema of the structured result: a JSON schema, or StackStorm's map of properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Tags to search for.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Value>,
    /// StackStorm: name of the pack. If given, it must be the pack that contains the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<String>,
    /// StackStorm: notifications. Ignored by Bolt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Value>,
    /// Bolt's own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bolt: Option<BoltSection>,
    /// Unknown keys.
    #[serde(flatten)]
    #[cfg_attr(feature = "schemas", schemars(skip))]
    pub other: BTreeMap<String, Value>,
}

fn yes() -> bool {
    true
}

/// Bolt's own keys of an action file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BoltSection {
    /// Effect on the host: `diagnostic` (reads only), `remediation` (repairs a fault) or `maintenance` (changes a
    /// healthy host).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Account to run as. Default: each execution gets an account of its own, unless the site configures one for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as: Option<UserName>,
    /// Time-out, after which the action is stopped. Default 5m, maximum 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Grace period between SIGTERM and SIGKILL. Default 10s, maximum 10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// Maximum time in the queue. Default 10m, maximum 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Span>,
    /// Resource limits of an execution, for all its processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSection>,
    /// Maximum number of concurrent executions on an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencySection>,
    /// Rate limit on an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateSection>,
    /// Limits of kept output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSection>,
    /// The action supports dry runs: under `BOLT_NOOP=1` it reports what it would change, and changes nothing.
    #[serde(deserialize_with = "null_is_default")]
    pub noop: bool,
    /// The action may gain privileges through set-user-id programs such as `sudo`.
    #[serde(deserialize_with = "null_is_default")]
    pub new_privileges: bool,
    /// `false`: pass parameters on standard input and in the environment only, not as arguments, which `/proc` shows to
    /// all accounts of the host. Default `true`. Secrets are never arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<bool>,
    /// Handling of processes that are still running when the action has ended: `stop` (default) or `keep`, for actions
    /// that start a service. They are kept after exit status 0 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leftovers: Option<LeftoverPolicy>,
    /// Findings of `bolt pack lint` to accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lint: Option<LintSection>,
}

/// Key `lint` of an action file: for authors; agents ignore it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LintSection {
    /// Codes of findings about this action to accept, each with a reason.
    #[serde(deserialize_with = "null_is_default")]
    pub allow: BTreeMap<String, String>,
}

/// Key `limits` of an action file; missing keys have their default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Memory, including page cache. Default 256MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processor time. Default 100% (one processor).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuShare>,
    /// Number of processes and threads. Default 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Number of open files of each process. Default 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
    /// Weight of block I/O, 1 to 10000, on hosts that support weights. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
}

/// Key `concurrency` of an action file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConcurrencySection {
    /// Maximum number of concurrent executions.
    pub max: u32,
    /// Concurrency group, which actions of all packs may share. Default: the action is its own group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<crate::base::name::GroupName>,
    /// Handling of requests above the maximum: `queue` (default) or `reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_busy: Option<WhenBusy>,
}

/// Key `rate` of an action file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateSection {
    /// Maximum number of starts …
    pub max: u32,
    /// … within this period.
    pub per: Span,
}

/// Key `output` of an action file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OutputSection {
    /// Maximum size kept of each stream: its first and last half are kept. Default 16MiB.
    pub max: Bytes,
}
