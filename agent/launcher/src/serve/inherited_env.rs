//! Variables of the launcher's environment that api and sync inherit. Nothing else of it is passed on, and actions inherit none.

use packs_schema::base::log_event::VARIABLE;

use crate::log;

/// Variables for both.
const BOTH: [&str; 2] = ["BOLT_LOG", "RUST_BACKTRACE"];

/// Variables for the sync, which accesses repositories in S3: credentials, region, proxies and certificate authorities.
///
/// An explicit list: the AWS SDK obeys many more variables, and some of them (such as `AWS_ENDPOINT_URL`) would override
/// `agent.toml`. The api, which serves callers, inherits none of them.
const SYNC: [&str; 32] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_EC2_METADATA_V1_DISABLED",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "AWS_CA_BUNDLE",
];

/// Returns the names of all inherited variables.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BOTH.into_iter().chain(SYNC)
}

/// Returns the variables that a role inherits, as `NAME=value`. Values that are not UTF-8 were refused at the start.
pub(super) fn for_role(role: &str) -> Vec<String> {
    let more: &[&str] = if role == "sync" { &SYNC } else { &[] };
    let names = BOTH.iter().chain(more);
    let inherited = names.filter_map(|name| std::env::var(name).ok().map(|value| format!("{name}={value}")));
    // As the launcher chose it: all three write one log.
    inherited.chain([format!("{VARIABLE}={}", log::format().as_str())]).collect()
}
