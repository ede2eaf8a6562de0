//! `[repository]`: the repository of packs.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::base::bucket_url::{BucketUrl, check_endpoint};
use crate::base::name::ChannelName;
use crate::base::quantity::{Bytes, Span};

/// `[repository]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// URL of a TUF repository: `file:///path` or `s3://bucket/prefix`.
    pub url: String,
    /// Region of the bucket; absent: from the environment, the profile or the instance.
    #[serde(default)]
    pub region: Option<String>,
    /// URL of an S3-compatible store other than Amazon's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Allow an `endpoint` without TLS on another host.
    #[serde(default)]
    pub allow_http: bool,
    /// Put the name of the bucket into the path instead of the host name.
    #[serde(default)]
    pub path_style: bool,
    /// Profile of the shared AWS configuration; absent: the default chain of credentials.
    #[serde(default)]
    pub profile: Option<String>,
    /// Time without data after which a request to the bucket is repeated.
    #[serde(default = "thirty_seconds")]
    pub timeout: Span,
    /// Path of the trusted root of the repository.
    pub root: PathBuf,
    /// Channel that this instance follows.
    pub channel: ChannelName,
    /// Interval of polls.
    #[serde(default = "two_minutes")]
    pub poll: Span,
    /// Maximum size of a pack archive.
    #[serde(default = "max_pack")]
    pub max_pack: Bytes,
}

fn two_minutes() -> Span {
    Span(Duration::from_secs(120))
}

fn thirty_seconds() -> Span {
    Span(Duration::from_secs(30))
}

fn max_pack() -> Bytes {
    Bytes(128 << 20)
}

impl RepositoryConfig {
    /// Returns the bucket, if the repository is in one.
    pub fn bucket(&self) -> Option<BucketUrl> {
        BucketUrl::new(&self.url).ok()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.url.starts_with("file:///") {
            let given = [
                ("region", self.region.is_some()),
                ("endpoint", self.endpoint.is_some()),
                ("allow_http", self.allow_http),
                ("path_style", self.path_style),
                ("profile", self.profile.is_some()),
            ];
            return given
                .into_iter()
                .find(|(_, given)| *given)
                .map_or(Ok(()), |(key, _)| Err(ConfigError::ForBuckets(key)));
        }
        if !self.url.starts_with("s3://") {
            return Err(ConfigError::Url(self.url.clone()));
        }
        BucketUrl::new(&self.url).map_err(|problem| ConfigError::Bucket { url: self.url.clone(), problem })?;
        let checked = self.endpoint.as_deref().map_or(Ok(()), |endpoint| check_endpoint(endpoint, self.allow_http));
        checked
            .map_err(|problem| ConfigError::Endpoint { endpoint: self.endpoint.clone().unwrap_or_default(), problem })
    }
}
