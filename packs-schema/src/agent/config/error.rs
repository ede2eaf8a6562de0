//! Errors of `agent.toml`.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::quantity::format_duration;

/// Error returned for an invalid `agent.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key or an invalid value; the message names the place.
    #[error(transparent)]
    Toml(#[from] crate::base::document::DocumentError),
    /// A size that is too small to run anything.
    #[error("{0} must be at least {least}", least = crate::base::quantity::format_bytes(*.1))]
    TooSmall(&'static str, u64),
    /// A size that no host is meant to have.
    #[error("{0} must be at most {most}", most = crate::base::quantity::format_bytes(*.1))]
    TooLarge(&'static str, u64),
    /// A number that no host is meant to have.
    #[error("{key} = {given} must be at most {most}")]
    AtMost {
        /// Key of the number.
        key: &'static str,
        /// Given value.
        given: usize,
        /// Maximum.
        most: usize,
    },
    /// Two listeners that one host cannot have.
    #[error("api.health_listen = \"{health}\" is the address of api.listen = \"{api}\": give it a port of its own")]
    SameAddress {
        /// Address of the REST interface.
        api: std::net::SocketAddr,
        /// Address of the plain health listener.
        health: std::net::SocketAddr,
    },
    /// A relative path, which would depend on the working directory.
    #[error("{key} = {path:?} must be an absolute path")]
    Relative {
        /// Key of the path.
        key: &'static str,
        /// Given value.
        path: PathBuf,
    },
    /// The content of a PEM file instead of its path. Not quoted: it may be a private key.
    #[error("{0} holds the content of a PEM file: write it to a file and give the absolute path")]
    Content(&'static str),
    /// No authority of callers.
    #[error(
        "[tls] names no authority of callers: set client_ca to its certificate, or add [[tls.client_authority]] with file and \
         principals"
    )]
    NoClientAuthority,
    /// An authority that may vouch for no principal.
    #[error(
        "[[tls.client_authority]] {0:?} has no principals: list those that it may vouch for, such as \"spiffe://example/studio/*\""
    )]
    NoPrincipals(PathBuf),
    /// Too many entries of a list.
    #[error("{0} has more than {1} entries")]
    TooMany(&'static str, usize),
    /// A maximum of 0.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A duration of 0.
    #[error("{0} must be longer than 0s, such as 2m")]
    NoTime(&'static str),
    /// A time in which a busy api may give no sign of life, or one that is too long to be meant.
    #[error(
        "api.hang_after = {given} must be between {least} and {most}; 0 turns it off",
        given = format_duration(*.0),
        least = format_duration(super::ApiConfig::MIN_HANG_AFTER),
        most = format_duration(super::ApiConfig::MAX_HANG_AFTER)
    )]
    HangAfter(Duration),
    /// The launcher would refuse executions that the api may start.
    #[error("execution.max_shims = {max_shims} must be at least execution.max_running = {max_running}")]
    MaxShims {
        /// Given value.
        max_shims: u32,
        /// Minimum.
        max_running: u32,
    },
    /// Executions would have to share accounts.
    #[error(
        "execution.uid_range = \"{range}\" has {} ids, and {needed} executions may run at once (execution.max_shims): make it larger",
        range.count()
    )]
    UidRangeTooSmall {
        /// Given value.
        range: super::UidRange,
        /// Required number of ids.
        needed: u32,
    },
    /// A cgroup outside the mount point.
    #[error("execution.cgroup = {0:?} must be a path relative to the mount point, such as bolt.slice, without '..'")]
    Cgroup(String),
    /// Invalid package index.
    #[error(
        "python.index must be a URL such as https://index.example/simple, without a password: put credentials into a \
         configuration file of pip, and set python.pip_config to its path"
    )]
    Index,
    /// Unsupported URL of the repository.
    #[error("repository.url = {0:?} is not supported: use file:///absolute/path or s3://bucket/prefix")]
    Url(String),
    /// Invalid bucket of the repository.
    #[error("repository.url = {url:?} is invalid: {problem}")]
    Bucket {
        /// Given value.
        url: String,
        /// Problem.
        problem: &'static str,
    },
    /// Invalid endpoint.
    #[error("repository.endpoint = {endpoint:?} cannot be used: {problem}")]
    Endpoint {
        /// Given value.
        endpoint: String,
        /// Problem.
        problem: &'static str,
    },
    /// No source of the instance id.
    #[error(
        "instance.id is missing: set it to the id in the certificate, or set metadata = true to query the metadata service"
    )]
    NoInstance,
    /// A key that has no effect for a repository in a directory.
    #[error("repository.{0} applies to a repository in a bucket, but repository.url is a directory: remove it")]
    ForBuckets(&'static str),
}
