//! Configuration of the AWS SDK: credentials, region, retries and time-outs.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::StalledStreamProtectionConfig;

use crate::environment::{self, EnvironmentError};
use crate::http;

/// Maximum number of attempts of one request.
pub const MAX_ATTEMPTS: u32 = 5;
/// Upper bound of the first backoff, doubled for each further attempt.
pub(crate) const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
/// Maximum upper bound of a backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Maximum time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of the access to a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Region of the bucket; by default that of the environment, the profile or the instance.
    pub region: Option<String>,
    /// Address of an S3-compatible store.
    pub endpoint: Option<String>,
    /// True to put the bucket's name into the path instead of the host name.
    pub path_style: bool,
    /// Profile of the shared AWS configuration.
    pub profile: Option<String>,
    /// Maximum time without data before a request is retried.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { region: None, endpoint: None, path_style: false, profile: None, timeout: Duration::from_secs(30) }
    }
}

/// Returns the SDK configuration for any AWS service: default credentials chain, HTTP client of this crate, time-outs, retries.
pub async fn sdk_config(options: &Options) -> Result<SdkConfig, EnvironmentError> {
    let checked = environment::checked()?;
    let Options { region, endpoint, profile, timeout, .. } = options;
    let retry = RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(INITIAL_BACKOFF)
        .with_max_backoff(MAX_BACKOFF);
    let http = http::Http::new(checked);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .retry_config(retry)
        .timeout_config(timeout_config(*timeout, *timeout))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(profile) = profile {
        // The default chain would prefer keys in the environment to the named profile.
        let provider_config = ProviderConfig::without_region().with_http_client(http);
        let provider =
            ProfileFileCredentialsProvider::builder().configure(&provider_config).profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(provider);
    }
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = region {
        loader = loader.region(Region::new(region.clone()));
    }
    let mut config = loader.load().await;
    if config.region().is_none() {
        // S3-compatible stores have no regions and accept the default one.
        config = config.into_builder().region(Region::from_static("us-east-1")).build();
    }
    Ok(config)
}

/// Returns the time-outs of requests whose attempts may take `attempt` each.
pub(crate) fn timeout_config(timeout: Duration, attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(timeout.min(CONNECT_TIMEOUT))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt.saturating_add(timeout))
        .operation_timeout(attempt.saturating_mul(4))
        .build()
}
