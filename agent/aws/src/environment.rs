//! Check of all environment variables that affect access to AWS, before any of them is used.
//!
//! The SDK ignores a value that it cannot parse, and so does the proxy matcher. Requests would then go to another address, or with
//! other credentials, than intended. An invalid value is therefore an error that names the variable, never its value, which may
//! contain a password.
//!
//! The type `Checked` enforces the check: [`sdk_config`](crate::sdk_config), [`Bucket::open`](crate::Bucket::open) and
//! [`fetch_instance_metadata`](crate::fetch_instance_metadata) begin with it.
//!
//! Not checked, because neither the SDK nor Bolt reads them: `AWS_METADATA_SERVICE_TIMEOUT` and
//! `AWS_METADATA_SERVICE_NUM_ATTEMPTS` (boto). `AWS_MAX_ATTEMPTS`, `AWS_RETRY_MODE` and the checksum variables are checked although
//! Bolt's settings override them, because the same value would fail in other tools.

mod authorities;
mod kind;
mod no_proxy;
mod proxy;

use std::ffi::OsString;
use std::fmt;

use kind::Kind;

pub(crate) use authorities::named as named_authorities;

/// Function that returns the value of a variable.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Error returned when a variable is invalid. Never contains the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name} is invalid: {why}")]
pub struct EnvironmentError {
    /// Name of the variable.
    pub name: &'static str,
    /// Description of the problem and of the expected format, without the value.
    pub why: String,
}

/// Variables that the SDK reads, with the format of each.
const AWS: [(&str, Kind); 42] = [
    ("AWS_ACCESS_KEY_ID", Kind::Credential),
    ("AWS_SECRET_ACCESS_KEY", Kind::Credential),
    ("AWS_SESSION_TOKEN", Kind::Credential),
    ("AWS_PROFILE", Kind::Text),
    ("AWS_CONFIG_FILE", Kind::File),
    ("AWS_SHARED_CREDENTIALS_FILE", Kind::File),
    ("AWS_REGION", Kind::Region),
    ("AWS_DEFAULT_REGION", Kind::Region),
    ("AWS_USE_FIPS_ENDPOINT", Kind::Boolean),
    ("AWS_USE_DUALSTACK_ENDPOINT", Kind::Boolean),
    ("AWS_ROLE_ARN", Kind::Text),
    ("AWS_ROLE_SESSION_NAME", Kind::Text),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Kind::File),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Kind::Path),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Kind::Url),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", Kind::Credential),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Kind::File),
    ("AWS_EC2_METADATA_DISABLED", Kind::Boolean),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", Kind::Url),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", Kind::OneOf(&["IPv4", "IPv6"])),
    ("AWS_EC2_METADATA_V1_DISABLED", Kind::Boolean),
    ("AWS_ENDPOINT_URL", Kind::Url),
    ("AWS_ENDPOINT_URL_S3", Kind::Url),
    ("AWS_ENDPOINT_URL_KMS", Kind::Url),
    ("AWS_ENDPOINT_URL_EC2", Kind::Url),
    ("AWS_ENDPOINT_URL_STS", Kind::Url),
    ("AWS_ENDPOINT_URL_SSO", Kind::Url),
    ("AWS_ENDPOINT_URL_SSO_OIDC", Kind::Url),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", Kind::Boolean),
    ("AWS_MAX_ATTEMPTS", Kind::Number { min: 1 }),
    ("AWS_RETRY_MODE", Kind::OneOf(&["standard", "adaptive", "legacy"])),
    ("AWS_NEW_RETRIES_2026", Kind::Boolean),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", Kind::OneOf(&["when_supported", "when_required"])),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", Kind::OneOf(&["when_supported", "when_required"])),
    ("AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", Kind::Number { min: 0 }),
    ("AWS_DISABLE_REQUEST_COMPRESSION", Kind::Boolean),
    ("AWS_DISABLE_CLOCK_SKEW_CORRECTION", Kind::Boolean),
    ("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", Kind::Boolean),
    ("AWS_ACCOUNT_ID_ENDPOINT_MODE", Kind::OneOf(&["preferred", "disabled", "required"])),
    ("AWS_AUTH_SCHEME_PREFERENCE", Kind::List),
    ("AWS_SIGV4A_SIGNING_REGION_SET", Kind::List),
    ("AWS_SDK_UA_APP_ID", Kind::Token),
];

/// Pairs of variables: if the first is set without the second, the SDK would use other credentials.
const PAIRS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
];

/// Variables with proxies, which the proxy matcher reads.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// Variables with hosts that are reached without a proxy.
const NO_PROXIES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Proof that the environment was checked; required for access to the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked(());

/// Checks all variables of this process; the error names the first invalid one.
pub fn check() -> Result<(), EnvironmentError> {
    checked().map(drop)
}

/// Checks all variables like [`check`], and returns the proof.
pub(crate) fn checked() -> Result<Checked, EnvironmentError> {
    check_all(&|name| std::env::var_os(name)).map(Checked)
}

fn check_all(lookup: Lookup<'_>) -> Result<(), EnvironmentError> {
    let proxies = PROXIES.iter().map(|name| (*name, Kind::Proxy));
    let no_proxies = NO_PROXIES.iter().map(|name| (*name, Kind::NoProxy));
    for (name, kind) in AWS.into_iter().chain(proxies).chain(no_proxies) {
        let Some(value) = lookup(name) else { continue };
        kind.check(&value).map_err(|why| EnvironmentError { name, why })?;
    }
    for (name, other) in PAIRS {
        if is_set(lookup, name) && !is_set(lookup, other) {
            return Err(EnvironmentError { name, why: format!("requires {other}, which is not set") });
        }
    }
    authorities::check(lookup)
}

/// Returns true if the variable is set to a non-empty value.
fn is_set(lookup: Lookup<'_>, name: &str) -> bool {
    lookup(name).is_some_and(|value| !value.is_empty())
}

/// Returns the message for an entry of a list, with its number.
fn entry_error(index: usize, why: impl fmt::Display) -> String {
    format!("entry {}: {why}", index + 1)
}

#[cfg(test)]
mod tests;
