//! Which variables of our environment api and sync are given. Everything else of it ends here, and actions get none.

/// For both of them.
const BOTH: [&str; 2] = ["BOLT_LOG", "RUST_BACKTRACE"];

/// For the sync, which reaches a repository in a bucket: who it is there, the way there, and whom it trusts on it.
///
/// Named one by one: the SDK obeys many more, and some of them (such as `AWS_ENDPOINT_URL`) would send it elsewhere than
/// `agent.toml` says. None goes to the api, which callers talk to, nor to an action.
const SYNC: [&str; 31] = [
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
];

/// The names of all that is handed on.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BOTH.into_iter().chain(SYNC)
}

/// Returns the variables of our environment that a role is given, as `NAME=value`. Values that are not UTF-8 were refused at
/// the start.
pub(super) fn to(role: &str) -> Vec<String> {
    let more: &[&str] = if role == "sync" { &SYNC } else { &[] };
    let names = BOTH.iter().chain(more);
    names.filter_map(|name| std::env::var(name).ok().map(|value| format!("{name}={value}"))).collect()
}
