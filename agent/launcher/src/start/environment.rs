//! The environment of an action: it starts empty, and everything in it is put there here.

use std::ffi::CString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::base::name::ParamName;
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::param::deliver::{Delivery, ambiguous_item};
use serde_json::{Map, Value};

use super::venv::Venv;
use super::{Refused, refuse};
use crate::account::Account;

/// Where programs are found. The same for every process that we start.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest trace context that is passed on.
const MAX_TRACEPARENT: usize = 256;

/// What the environment tells of.
pub(super) struct Given<'a> {
    pub(super) instance: &'a Facts,
    pub(super) start: &'a Start,
    pub(super) account: &'a Account,
    /// The pack's configuration on this site, without what is secret.
    pub(super) config: &'a Map<String, Value>,
    /// The virtual environment that it runs in.
    pub(super) venv: Option<&'a Venv>,
    pub(super) timeout: Duration,
}

/// All variables, as `NAME=value`, but `BOLT_RESULT`, which names a descriptor of the process and is set there.
pub(super) fn build(given: &Given<'_>, delivery: &Delivery) -> Result<Vec<CString>, Refused> {
    let Given { instance, start, account, config, venv, timeout } = given;
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + *timeout;
    let mut list: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| list.push((name.to_owned(), value.to_owned()));
    match venv {
        None => set("PATH", PATH),
        Some(venv) => {
            let home = venv.home.to_string_lossy();
            set("PATH", &format!("{home}/bin:{PATH}"));
            set("VIRTUAL_ENV", &home);
        }
    }
    set("HOME", &account.home);
    set("USER", &account.name);
    set("LANG", "C.UTF-8");
    set("BOLT_EXECUTION_ID", start.execution.as_str());
    set("BOLT_RUN_ID", start.run.as_ref().map_or("", |run| run.as_str()));
    set("BOLT_PACK", start.pack.as_str());
    set("BOLT_ACTION", start.action.as_str());
    set("BOLT_VERSION", &start.version.to_string());
    set("BOLT_DEADLINE", &deadline.as_secs().to_string());
    set("BOLT_INSTANCE_ID", instance.id.as_str());
    set("BOLT_REGION", &instance.region);
    set("BOLT_ZONE", &instance.zone);
    set("BOLT_NOOP", if start.noop { "1" } else { "0" });
    let trace = start.traceparent.as_deref().unwrap_or_default();
    if !trace.is_empty() && trace.len() <= MAX_TRACEPARENT && trace.bytes().all(|b| b.is_ascii_graphic()) {
        set("TRACEPARENT", trace);
    }
    if !config.is_empty() {
        set("BOLT_CONFIG", &Value::Object((*config).clone()).to_string());
        for (name, value) in *config {
            if let (Ok(name), Some(text)) = (ParamName::new(name.as_str()), plain(value)) {
                set(&format!("BOLT_CONFIG_{}", name.as_str().to_ascii_uppercase()), &text);
            }
        }
    }
    list.extend(delivery.environment.iter().cloned());
    list.into_iter()
        .map(|(name, value)| {
            CString::new(format!("{name}={value}"))
                .or_else(|_| refuse(Refusal::InvalidParameters, format!("{name} would hold a NUL character")))
        })
        .collect()
}

/// A scalar as text, a list of scalars joined by commas. Deeper values, and lists whose items the commas would split, are in
/// `BOLT_CONFIG` only.
fn plain(value: &Value) -> Option<String> {
    match value {
        _ if ambiguous_item(value).is_some() => None,
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) if items.iter().all(|i| !i.is_array() && !i.is_object()) => {
            Some(items.iter().filter_map(plain).collect::<Vec<_>>().join(","))
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}
