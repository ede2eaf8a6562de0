//! AWS access: repositories of packs in S3 buckets, credentials, and the instance metadata service (IMDS).
//!
//! ```text
//!  agent.toml or the command line ─▶ Bucket ─▶ transport ─▶ tough: verifies
//!                                      ├─▶ get: the single conditional request of a poll without changes
//!                                      └─▶ create, create_from, replace: conditional writes
//! ```
//!
//! - Credentials: the SDK's default chain of environment, profile, web identity, container, instance (IMDSv2).
//! - Transient failures are retried with exponential backoff and full jitter, up to [`MAX_ATTEMPTS`] times or four times the
//!   time-out. A body that breaks off is resumed at the same byte.
//! - Limits: time to an answer, time without data, minimum speed, bytes.
//! - Instance metadata: [`fetch_instance_metadata`].
//!
//! The bucket is untrusted: an `ETag` saves a transfer but never proves a content. Must never: print credentials, follow a
//! redirect, or take an endpoint from other sources than its caller and the SDK's configuration.

mod date;
pub mod environment;
mod error;
mod http;
mod instance;
mod list;
mod read;
mod transport;
mod upload;
mod write;

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig};
use packs_schema::base::bucket_url::BucketUrl;

pub use environment::EnvironmentError;
pub use error::{BucketError, Problem};
pub use instance::{InstanceError, InstanceMetadata, fetch_instance_metadata};
pub use list::ListedObject;
pub use read::{Etag, Fetched, Object};
pub use transport::BucketTransport;
pub use upload::Upload;

/// Maximum number of attempts of one request.
pub const MAX_ATTEMPTS: u32 = 5;
/// Upper bound of the first backoff, doubled for each further attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
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

/// A bucket and the prefix of a repository in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: aws_sdk_s3::Client,
    url: BucketUrl,
    profile: Option<String>,
    timeout: Duration,
    date: date::LastDate,
}

impl Bucket {
    /// Opens the repository at `url`. Sends nothing to the bucket; the region may be fetched from the instance metadata service.
    /// Fails only when an environment variable is invalid.
    pub async fn open(url: BucketUrl, options: &Options) -> Result<Bucket, EnvironmentError> {
        let config = sdk_config(options).await?;
        let date = date::LastDate::default();
        let config = aws_sdk_s3::config::Builder::from(&config)
            .interceptor(date.clone())
            .force_path_style(options.path_style)
            // Signed metadata authenticate every byte: checksums of the bucket would add nothing.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Ok(Bucket {
            client: aws_sdk_s3::Client::from_conf(config),
            url,
            profile: options.profile.clone(),
            timeout: options.timeout,
            date,
        })
    }

    /// Returns the bucket's clock at its last answer, in milliseconds since 1970.
    pub fn date_ms(&self) -> Option<u64> {
        self.date.ms()
    }

    /// Returns the address.
    pub fn url(&self) -> &BucketUrl {
        &self.url
    }

    /// Returns the transport for tough, with the maximum sizes of metadata and target files in bytes.
    pub fn transport(&self, max_metadata: u64, max_target: u64) -> BucketTransport {
        BucketTransport::new(self.clone(), max_metadata, max_target)
    }

    fn failed(&self, operation: &'static str, name: &str, problem: Problem) -> BucketError {
        let problem = match (problem, &self.profile) {
            (Problem::NoCredentials(why), Some(profile)) => {
                Problem::NoCredentials(format!("profile {profile:?}: {why}"))
            }
            (problem, _) => problem,
        };
        let object = if name.is_empty() { self.url.to_string() } else { format!("{}/{name}", self.url) };
        BucketError { operation, object, problem }
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
fn timeout_config(timeout: Duration, attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(timeout.min(CONNECT_TIMEOUT))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt.saturating_add(timeout))
        .operation_timeout(attempt.saturating_mul(4))
        .build()
}
