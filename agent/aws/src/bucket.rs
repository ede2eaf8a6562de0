//! A repository in an S3 bucket. The operations on its objects are in `read`, `write` and `list`.

use std::time::Duration;

use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use packs_schema::base::bucket_url::BucketUrl;

use crate::date::LastDate;
use crate::environment::EnvironmentError;
use crate::error::{BucketError, Problem};
use crate::sdk::{Options, sdk_config};

/// A bucket and the prefix of a repository in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(crate) client: aws_sdk_s3::Client,
    pub(crate) url: BucketUrl,
    profile: Option<String>,
    pub(crate) timeout: Duration,
    date: LastDate,
}

impl Bucket {
    /// Opens the repository at `url`. Sends nothing to the bucket; the region may be fetched from the instance metadata service.
    /// Fails only when an environment variable is invalid.
    pub async fn open(url: BucketUrl, options: &Options) -> Result<Bucket, EnvironmentError> {
        let config = sdk_config(options).await?;
        let date = LastDate::default();
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

    /// Returns the error of an operation on the object `name`; an empty name means the whole repository.
    pub(crate) fn failed(&self, operation: &'static str, name: &str, problem: Problem) -> BucketError {
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
