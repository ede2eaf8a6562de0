//! Check of the launcher's environment at its start: an invalid value is an error that names the variable, never its value.
//!
//! Values that only the sync uses are checked by the sync, which knows their formats.

use std::ffi::OsString;

use packs_schema::base::environment::{self, Owner};

use super::inherited_env;
use crate::log;

/// Valid values of `BOLT_LOG`.
const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];
/// Maximum number of names in one log line.
const MAX_NAMES: usize = 32;

/// Error returned for an invalid environment variable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvironmentError {
    #[error("environment variable {0} is invalid: not UTF-8")]
    NotUtf8(&'static str),
    #[error("environment variable BOLT_LOG is invalid: must be one of error, warn, info, debug")]
    Level,
}

/// Checks the variables that are inherited, and logs those that have no effect.
pub(super) fn check() -> Result<(), EnvironmentError> {
    let variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    check_values(&variables)?;
    let names: Vec<&str> = variables.iter().filter_map(|(name, _)| name.to_str()).collect();
    for unknown in environment::find_unknown(names.iter().copied()) {
        let nearest = unknown.meant.filter(|(_, owner)| *owner == Owner::Agent).map_or("none", |(name, _)| name);
        log::warn("environment variable has no effect", &[("name", &unknown.name), ("nearest", &nearest)]);
    }
    let dropped = without_effect(&names);
    if !dropped.is_empty() {
        let names = dropped.join(" ");
        let see = "[repository] in agent.toml";
        log::info("environment variables have no effect", &[("names", &names), ("see", &see)]);
    }
    Ok(())
}

fn check_values(variables: &[(OsString, OsString)]) -> Result<(), EnvironmentError> {
    let value = |wanted: &str| variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    for name in inherited_env::names() {
        if value(name).is_some_and(|value| value.to_str().is_none()) {
            return Err(EnvironmentError::NotUtf8(name));
        }
    }
    match value("BOLT_LOG").and_then(|level| level.to_str()) {
        None | Some("") => Ok(()),
        Some(level) if LEVELS.contains(&level) => Ok(()),
        Some(_) => Err(EnvironmentError::Level),
    }
}

/// Returns the AWS variables that the sync does not inherit.
fn without_effect<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let shown = |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let dropped = |name: &&&str| {
        name.starts_with("AWS_") && shown(name) && !inherited_env::names().any(|inherited| inherited == **name)
    };
    let mut dropped: Vec<&str> = names.iter().filter(dropped).copied().collect();
    dropped.sort_unstable();
    dropped.truncate(MAX_NAMES);
    dropped
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn of(name: &str, value: &[u8]) -> Vec<(OsString, OsString)> {
        vec![(name.into(), OsString::from_vec(value.to_vec()))]
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_the_variable() {
        for name in inherited_env::names() {
            let error = check_values(&of(name, b"canary7f\xff")).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("canary7f"), "{error}");
        }
        for level in ["trace", "INFO", " info", "canary7f"] {
            let error = check_values(&of("BOLT_LOG", level.as_bytes())).unwrap_err().to_string();
            assert!(error.contains("BOLT_LOG") && !error.contains("canary7f"), "{error}");
        }
        for level in ["", "error", "warn", "info", "debug"] {
            check_values(&of("BOLT_LOG", level.as_bytes())).unwrap();
        }
        check_values(&of("SOMETHING", b"\xff")).unwrap();
    }

    #[test]
    fn variables_that_the_sync_does_not_inherit_are_listed() {
        let names = ["AWS_REGION", "AWS_MAX_ATTEMPTS", "AWS_ENDPOINT_URL", "PATH", "AWS_\n"];
        assert_eq!(without_effect(&names), ["AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS"]);
    }
}
