//! `[repository]`: where packs come from.

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
    /// `file:///path` or `s3://bucket/prefix` of a TUF repository.
    pub url: String,
    /// The bucket's region; absent: what the environment, the profile or the instance says.
    #[serde(default)]
    pub region: Option<String>,
    /// The address of a store that is not Amazon's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Allow an `endpoint` without TLS that is not this host.
    #[serde(default)]
    pub allow_http: bool,
    /// Put the bucket's name into the path, and not before the host.
    #[serde(default)]
    pub path_style: bool,
    /// A profile of the shared AWS configuration; absent: the usual chain of credentials.
    #[serde(default)]
    pub profile: Option<String>,
    /// How long the bucket may be silent before it is asked again.
    #[serde(default = "thirty_seconds")]
    pub timeout: Span,
    /// The trusted root of the repository.
    pub root: PathBuf,
    /// The channel that this instance follows.
    pub channel: ChannelName,
    /// Time between polls.
    #[serde(default = "two_minutes")]
    pub poll: Span,
    /// The largest pack, as an archive.
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
    /// The bucket, when the repository is in one.
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
