//! An action file as people write it: StackStorm's keys, and Bolt's own under `bolt`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::absent::{null_is_default, null_is_true, null_values};
use crate::base::name::UserName;
use crate::base::quantity::{Bytes, CpuShare, Span};
use crate::pack::param::Schema;

use super::{Class, LeftoverPolicy, WhenBusy};

/// The file `actions/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ActionFile {
    /// The name within the pack.
    pub name: String,
    /// What it does, to a caller.
    #[serde(default, deserialize_with = "null_is_default")]
    pub description: String,
    /// `python-script` or `local-shell-script`; StackStorm's others are read and reported.
    pub runner_type: String,
    /// The script, relative to `actions/`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub entry_point: String,
    /// `false`: callers see it but may not run it.
    #[serde(default = "yes", deserialize_with = "null_is_true")]
    pub enabled: bool,
    /// What callers may give it, by name.
    #[serde(default, deserialize_with = "null_values")]
    pub parameters: BTreeMap<String, Schema>,
    /// What its structured result must fit: a schema, or StackStorm's map of properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Words to find it by.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Value>,
    /// StackStorm: the pack; it must be the pack that the file is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<String>,
    /// StackStorm: notifications; no meaning in Bolt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Value>,
    /// Bolt's own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bolt: Option<BoltSection>,
    /// Keys that Bolt does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schemas", schemars(skip))]
    pub other: BTreeMap<String, Value>,
}

fn yes() -> bool {
    true
}

/// The key `bolt` of an action file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BoltSection {
    /// `diagnostic` (reads only), `remediation` or `maintenance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The account to run as; when absent, each execution gets one of its own, unless the site names one for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as: Option<UserName>,
    /// When it is stopped; 5m when absent, at most 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Between TERM and KILL; 10s when absent, at most 10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// How long it may wait in a queue for its start; 10m when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Span>,
    /// What it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSection>,
    /// How many at once on an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencySection>,
    /// How often on an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateSection>,
    /// How much output is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSection>,
    /// It understands `BOLT_NOOP=1`: it says what it would do and changes nothing.
    #[serde(deserialize_with = "null_is_default")]
    pub noop: bool,
    /// It may gain privileges through set-user-id programs.
    #[serde(deserialize_with = "null_is_default")]
    pub new_privileges: bool,
    /// `false`: parameters come on standard input and in the environment only, and not as arguments, which `/proc` shows to
    /// every account of the host. `true` when absent. Secrets are never arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<bool>,
    /// Processes that are still there when the action has ended: `stop` (the default), or `keep`, so that a service that it
    /// started stays. Only after exit status 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leftovers: Option<LeftoverPolicy>,
    /// What `bolt pack lint` is to let stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lint: Option<LintSection>,
}

/// `lint` of an action file: for authors; agents pass it over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LintSection {
    /// Codes of findings about this action, each with the reason why it may stand.
    #[serde(deserialize_with = "null_is_default")]
    pub allow: BTreeMap<String, String>,
}

/// `limits` of an action file. What is absent has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Memory; 256MiB when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Share of the processors; 100% (of one) when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuShare>,
    /// Processes and threads; 64 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Open files of each process; 1024 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
    /// Weight of its block I/O, 1 to 10000, where the host has weights; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
}

/// `concurrency` of an action file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConcurrencySection {
    /// The most at once.
    pub max: u32,
    /// The group that counts; the action by itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<crate::base::name::GroupName>,
    /// `queue` (the default) or `reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_busy: Option<WhenBusy>,
}

/// `rate` of an action file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateSection {
    /// The most starts …
    pub max: u32,
    /// … within this time.
    pub per: Span,
}

/// `output` of an action file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OutputSection {
    /// What is kept of each stream, first and last half; 16MiB when absent.
    pub max: Bytes,
}
