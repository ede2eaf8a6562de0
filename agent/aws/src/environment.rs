//! Checks the environment variables that reach a bucket, before anything uses them.
//!
//! The SDK logs a value that it cannot parse and goes on without it, and the proxy matcher drops it. Requests would then go
//! elsewhere than the site meant, or as somebody else. So each variable that this process or the SDK reads is checked
//! first. One that is set and not understood is an error that names the variable and never its value, which may hold a
//! password.
//!
//! `checked` is the only way to the SDK: [`sdk_config`](crate::sdk_config), [`Bucket::open`](crate::Bucket::open) and
//! [`describe`](crate::describe) all begin with it.
//!
//! Not here, because neither the SDK nor Bolt reads them: `AWS_METADATA_SERVICE_TIMEOUT` and
//! `AWS_METADATA_SERVICE_NUM_ATTEMPTS`, which are boto's. `AWS_MAX_ATTEMPTS`, `AWS_RETRY_MODE` and the two about checksums
//! are checked although Bolt's own settings replace them: other tools would stumble over the same value.

mod authorities;
mod kind;
mod no_proxy;
mod proxy;

use std::ffi::OsString;
use std::fmt;

use kind::Kind;

pub(crate) use authorities::named as named_authorities;

/// Looks a variable up.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Error returned when a variable is set and not understood. It never holds the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name} is invalid: {why}")]
pub struct EnvironmentError {
    /// The variable.
    pub name: &'static str,
    /// Describes the problem and the expected form; never holds the value.
    pub why: String,
}

/// Variables that the SDK reads, and what each takes.
const AWS: [(&str, Kind); 41] = [
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
    ("AWS_ENDPOINT_URL_STS", Kind::Url),
    ("AWS_ENDPOINT_URL_SSO", Kind::Url),
    ("AWS_ENDPOINT_URL_SSO_OIDC", Kind::Url),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", Kind::Boolean),
    ("AWS_MAX_ATTEMPTS", Kind::Number { least: 1 }),
    ("AWS_RETRY_MODE", Kind::OneOf(&["standard", "adaptive", "legacy"])),
    ("AWS_NEW_RETRIES_2026", Kind::Boolean),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", Kind::OneOf(&["when_supported", "when_required"])),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", Kind::OneOf(&["when_supported", "when_required"])),
    ("AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", Kind::Number { least: 0 }),
    ("AWS_DISABLE_REQUEST_COMPRESSION", Kind::Boolean),
    ("AWS_DISABLE_CLOCK_SKEW_CORRECTION", Kind::Boolean),
    ("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", Kind::Boolean),
    ("AWS_ACCOUNT_ID_ENDPOINT_MODE", Kind::OneOf(&["preferred", "disabled", "required"])),
    ("AWS_AUTH_SCHEME_PREFERENCE", Kind::List),
    ("AWS_SIGV4A_SIGNING_REGION_SET", Kind::List),
    ("AWS_SDK_UA_APP_ID", Kind::Token),
];

/// Variables that only count together: with the first and without the second, the SDK would go on as somebody else.
const PAIRS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
];

/// Variables that name proxies; the matcher reads them.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// Variables that say what is reached without a proxy.
const NO_PROXIES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Proof that the environment was checked. Whatever reaches the network takes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked(());

/// Checks every variable of this process; the error names the first that is not understood.
pub fn check() -> Result<(), EnvironmentError> {
    checked().map(drop)
}

/// As [`check`], with the proof.
pub(crate) fn checked() -> Result<Checked, EnvironmentError> {
    all(&|name| std::env::var_os(name)).map(Checked)
}

fn all(lookup: Lookup<'_>) -> Result<(), EnvironmentError> {
    let proxies = PROXIES.iter().map(|name| (*name, Kind::Proxy));
    let no_proxies = NO_PROXIES.iter().map(|name| (*name, Kind::NoProxy));
    for (name, kind) in AWS.into_iter().chain(proxies).chain(no_proxies) {
        let Some(value) = lookup(name) else { continue };
        kind.check(&value).map_err(|why| EnvironmentError { name, why })?;
    }
    for (name, other) in PAIRS {
        if is_set(lookup, name) && !is_set(lookup, other) {
            return Err(EnvironmentError {
                name,
                why: format!("it counts only together with {other}, which is not set"),
            });
        }
    }
    authorities::check(lookup)
}

/// True if the variable has a value. An empty one counts as not set.
fn is_set(lookup: Lookup<'_>, name: &str) -> bool {
    lookup(name).is_some_and(|value| !value.is_empty())
}

/// An error of an entry of a list, which is named by its place.
fn at(place: usize, why: impl fmt::Display) -> String {
    format!("entry {}: {why}", place + 1)
}

#[cfg(test)]
mod tests;
