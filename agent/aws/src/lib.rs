//! A repository of packs in an S3 bucket: read by the sync, written by publishers, hostile to both.
//!
//! ```text
//!  agent.toml or the command line ─▶ Bucket ─▶ transport ─▶ tough: verifies
//!                                      ├─▶ get: the one conditional request of a poll with nothing new
//!                                      └─▶ create, create_from, replace: only where nobody else was first
//! ```
//!
//! - Credentials come by the SDK's usual chain: environment, profile, web identity, container, instance (IMDSv2).
//! - What fails for a moment is asked again, after pauses that double and are drawn at random below that, until
//!   [`MAX_ATTEMPTS`] or four times the patience are used up. A body that breaks goes on where it broke.
//! - Everything is bounded: the time to an answer, the silence between two pieces, the least speed, the bytes.
//!
//! Beside it: [`describe`], what the instance's metadata service says of the instance.
//!
//! Nothing is believed for having come from the bucket: an `ETag` saves a transfer, and never stands for a content.
//! Must never: print credentials, follow a redirect, or read an endpoint from anywhere but its caller and the SDK's own
//! configuration.

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
pub use instance::{Described, InstanceError, describe};
pub use list::Listed;
pub use read::{Etag, Got, Object};
pub use transport::BucketTransport;
pub use upload::Upload;

/// How often one request is sent before it has failed.
pub const MAX_ATTEMPTS: u32 = 5;
/// The pauses between attempts are drawn below this, doubled each time …
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest time for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How a bucket is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its region; absent: what the environment, the profile or the instance says.
    pub region: Option<String>,
    /// The address of a store that is not Amazon's.
    pub endpoint: Option<String>,
    /// The bucket's name stands in the path, and not before the host.
    pub path_style: bool,
    /// A profile of the shared AWS configuration.
    pub profile: Option<String>,
    /// How long the bucket may be silent before it is asked again.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { region: None, endpoint: None, path_style: false, profile: None, patience: Duration::from_secs(30) }
    }
}

/// A bucket and the prefix of a repository in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: aws_sdk_s3::Client,
    url: BucketUrl,
    profile: Option<String>,
    patience: Duration,
    date: date::LastDate,
}

impl Bucket {
    /// Prepares to reach `url`. Nothing is sent to the bucket; the region may be asked of the instance.
    /// Fails only when the environment holds a variable that is not understood.
    pub async fn open(url: BucketUrl, options: &Options) -> Result<Bucket, EnvironmentError> {
        let config = sdk_config(options).await?;
        let date = date::LastDate::default();
        let config = aws_sdk_s3::config::Builder::from(&config)
            .interceptor(date.clone())
            .force_path_style(options.path_style)
            // Signed metadata say what each byte must be: a checksum by the bucket would add bytes and no certainty.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Ok(Bucket {
            client: aws_sdk_s3::Client::from_conf(config),
            url,
            profile: options.profile.clone(),
            patience: options.patience,
            date,
        })
    }

    /// The time by the bucket's clock when it answered last, in milliseconds since 1970.
    pub fn date_ms(&self) -> Option<u64> {
        self.date.ms()
    }

    /// Where it is.
    pub fn url(&self) -> &BucketUrl {
        &self.url
    }

    /// What tough reads this repository with; never more than so many bytes of metadata and of targets.
    pub fn transport(&self, max_metadata: u64, max_target: u64) -> BucketTransport {
        BucketTransport::new(self.clone(), max_metadata, max_target)
    }

    fn failed(&self, what: &'static str, name: &str, problem: Problem) -> BucketError {
        let problem = match (problem, &self.profile) {
            (Problem::NoCredentials(why), Some(profile)) => {
                Problem::NoCredentials(format!("profile {profile:?}: {why}"))
            }
            (problem, _) => problem,
        };
        let object = if name.is_empty() { self.url.to_string() } else { format!("{}/{name}", self.url) };
        BucketError { what, object, problem }
    }
}

/// What a client of any service of AWS is made from: the usual credentials, our HTTP, our patience.
pub async fn sdk_config(options: &Options) -> Result<SdkConfig, EnvironmentError> {
    let checked = environment::checked()?;
    let Options { region, endpoint, profile, patience, .. } = options;
    let retry = RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(FIRST_PAUSE)
        .with_max_backoff(LONGEST_PAUSE);
    let http = http::Http::new(checked);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .retry_config(retry)
        .timeout_config(times(*patience, *patience))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(profile) = profile {
        // The usual chain would take the keys in the environment first, whatever profile was named.
        let reach = ProviderConfig::without_region().with_http_client(http);
        let provider = ProfileFileCredentialsProvider::builder().configure(&reach).profile_name(profile).build();
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
        // Stores that are not Amazon's have no regions, and take the first that there was for any.
        config = config.into_builder().region(Region::from_static("us-east-1")).build();
    }
    Ok(config)
}

/// For requests that may take `attempt` each.
fn times(patience: Duration, attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(patience.min(CONNECT))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt.saturating_add(patience))
        .operation_timeout(attempt.saturating_mul(4))
        .build()
}
