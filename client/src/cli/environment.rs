//! The `BOLT_…` environment variables: checks their names before a command runs, and reads those of global options.

use std::ffi::OsString;

use clap::ValueEnum as _;
use packs_schema::base::environment::find_unknown;

use super::Color;
use super::failure::{Exit, Failure};
use crate::errln;

/// Environment variable for `--json`.
const JSON: &str = "BOLT_JSON";
/// Environment variable for `--color`.
const COLOR: &str = "BOLT_COLOR";
/// Environment variable that the launcher sets for an action.
const EXECUTION: &str = "BOLT_EXECUTION_ID";

/// Refuses variables that nothing of Bolt's reads: a misspelt name is a setting without effect.
///
/// Inside an execution an unknown name is only reported: the launcher of a later release may have set it.
pub(super) fn check(names: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let in_execution = names.iter().any(|name| name == EXECUTION);
    for one in find_unknown(names.iter().map(String::as_str)) {
        if in_execution {
            errln!("bolt: environment variable {} has no effect", one.name);
            continue;
        }
        let problem = format!("unknown variable {}", one.name);
        let hint = match one.meant {
            Some((meant, _)) => format!("did you mean {meant}? Otherwise unset it"),
            None => "unset it; `bolt --help` lists the variables".to_owned(),
        };
        return Err(Failure::new(Exit::Usage, problem).hint(hint));
    }
    Ok(())
}

/// Returns the value of `BOLT_JSON`; false when it is not set.
pub(super) fn json() -> Result<bool, Failure> {
    let Some(value) = set(JSON) else { return Ok(false) };
    match value.to_str() {
        Some("1" | "true" | "yes" | "on") => Ok(true),
        Some("0" | "false" | "no" | "off") => Ok(false),
        _ => Err(not_understood(JSON, "1 or 0")),
    }
}

/// Returns the value of `BOLT_COLOR`, when it is set.
pub(super) fn color() -> Result<Option<Color>, Failure> {
    let Some(value) = set(COLOR) else { return Ok(None) };
    let color = value.to_str().and_then(|text| Color::from_str(text, false).ok());
    color.map(Some).ok_or_else(|| not_understood(COLOR, "auto, always or never"))
}

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn not_understood(name: &str, takes: &str) -> Failure {
    Failure::new(Exit::Usage, format!("environment variable {name} is invalid: it takes {takes}"))
}
