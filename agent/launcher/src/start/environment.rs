//! The environment of an action. It starts empty: nothing of the launcher's environment is inherited.

use std::ffi::CString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::deliver::Delivery;

use super::venv::Venv;
use crate::account::Account;
use crate::refusal::{Refused, refuse};
use crate::search_path::SEARCH_PATH;

/// Maximum length of a trace context, in bytes; a longer one is not passed on.
const MAX_TRACEPARENT: usize = 256;

/// The values that the environment describes.
pub(super) struct Inputs<'a> {
    pub(super) facts: &'a Facts,
    pub(super) start: &'a Start,
    pub(super) account: &'a Account,
    /// The virtual environment of a Python action.
    pub(super) venv: Option<&'a Venv>,
    pub(super) timeout: Duration,
}

/// Returns all variables as `NAME=value`, except `BOLT_RESULT`, which names a descriptor of the action's process and is added there.
pub(super) fn build(inputs: &Inputs<'_>, delivery: &Delivery) -> Result<Vec<CString>, Refused> {
    let Inputs { facts, start, account, venv, timeout } = inputs;
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + *timeout;
    let mut list: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| list.push((name.to_owned(), value.to_owned()));
    match venv {
        None => set("PATH", SEARCH_PATH),
        Some(venv) => {
            let home = venv.home.to_string_lossy();
            set("PATH", &format!("{home}/bin:{SEARCH_PATH}"));
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
    set("BOLT_INSTANCE_ID", facts.id.as_str());
    set("BOLT_REGION", &facts.region);
    set("BOLT_ZONE", &facts.zone);
    set("BOLT_NOOP", if start.noop { "1" } else { "0" });
    let trace = start.traceparent.as_deref().unwrap_or_default();
    if !trace.is_empty() && trace.len() <= MAX_TRACEPARENT && trace.bytes().all(|b| b.is_ascii_graphic()) {
        set("TRACEPARENT", trace);
    }
    list.extend(delivery.environment.iter().cloned());
    list.into_iter()
        .map(|(name, value)| {
            CString::new(format!("{name}={value}")).or_else(|_| {
                refuse(Refusal::InvalidParameters, format!("the value of {name} contains a NUL character"))
            })
        })
        .collect()
}
