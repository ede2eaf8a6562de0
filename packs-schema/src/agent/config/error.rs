//! What is wrong with an `agent.toml`.

use std::path::PathBuf;

/// Why `agent.toml` is not one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a wrong value; the text says where.
    #[error(transparent)]
    Toml(#[from] crate::base::document::DocumentError),
    /// A bound in which nothing can run.
    #[error("{0} must be at least {least}", least = crate::base::quantity::format_bytes(*.1))]
    TooSmall(&'static str, u64),
    /// A path must not depend on where the agent was started.
    #[error("{key} = {path:?} must be an absolute path")]
    Relative {
        /// The key of the path.
        key: &'static str,
        /// What was given.
        path: PathBuf,
    },
    /// The content of a file where its path belongs. Not shown: it may be a private key.
    #[error("{0} holds the content of a PEM file: write it to a file and give the absolute path")]
    Content(&'static str),
    /// A bound that would stop everything.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A time that would never pass, or pass at once.
    #[error("{0} must be longer than 0s: write it like 2m")]
    NoTime(&'static str),
    /// The launcher would refuse what the api may start.
    #[error("execution.max_shims = {max_shims} must be at least execution.max_running = {max_running}")]
    MaxShims {
        /// What was given.
        max_shims: u32,
        /// What it must not be below.
        max_running: u32,
    },
    /// Executions would have to share accounts.
    #[error(
        "execution.uid_range = \"{range}\" has {} ids, and {needed} executions may run at once (execution.max_shims): make it larger",
        range.count()
    )]
    UidRangeTooSmall {
        /// What was given.
        range: super::UidRange,
        /// How many ids are needed at least.
        needed: u32,
    },
    /// A cgroup that would lie elsewhere.
    #[error(
        "execution.cgroup = {0:?} must be a path below the mount, such as bolt.slice, without '..' and leading '/'"
    )]
    Cgroup(String),
    /// The package index.
    #[error(
        "python.index must be an address such as https://index.example/simple, without a password: credentials stand in a \
         file of pip's that python.pip_config names"
    )]
    Index,
    /// The repository's address.
    #[error("repository.url = {0:?} is not supported: use file:///absolute/path or s3://bucket/prefix")]
    Url(String),
    /// The repository's bucket.
    #[error("repository.url = {url:?} names no bucket: {problem}")]
    Bucket {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The address of the store.
    #[error("repository.endpoint = {endpoint:?} cannot be used: {problem}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody to ask who this is.
    #[error(
        "instance.id is missing: write the identity that the certificate names, or metadata = true to ask the instance's metadata service"
    )]
    NoInstance,
    /// A key that says nothing for a directory.
    #[error("repository.{0} is for a repository in a bucket, and repository.url names a directory")]
    ForBuckets(&'static str),
}
