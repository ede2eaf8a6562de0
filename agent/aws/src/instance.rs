//! Facts from the instance metadata service: id, region, zone, tags. Only version 2 of the service (IMDSv2), which requires a session
//! token.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html>
//!
//! The address comes from the SDK's configuration (`AWS_EC2_METADATA_SERVICE_ENDPOINT`, a profile). The service is never reached
//! through a proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use packs_schema::base::name::InstanceId;
use serde::Deserialize;

use crate::environment::{self, EnvironmentError};
use crate::error::deepest;
use crate::http::Http;

const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";
const TAGS: &str = "/latest/meta-data/tags/instance";
/// Maximum time of one attempt. The service is on the host and answers within milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of attempts of one request.
const MAX_ATTEMPTS: u32 = 3;
/// Maximum time for the identity document, and for all tags together.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of tags. An instance has up to 50 tags and a few of AWS.
const MAX_TAGS: usize = 100;
/// Maximum length of a tag name, in characters.
const MAX_NAME: usize = 128;
/// Maximum length of a tag value, in characters.
const MAX_VALUE: usize = 256;

/// Facts of an instance.
#[derive(Debug)]
pub struct InstanceMetadata {
    /// Instance id.
    pub id: InstanceId,
    /// Region.
    pub region: String,
    /// Availability zone.
    pub zone: String,
    /// Tags; empty when the instance does not allow tags in its metadata.
    pub tags: Result<BTreeMap<String, String>, InstanceError>,
}

/// Error returned when facts cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// An environment variable is invalid.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The service does not exist or does not answer in time.
    #[error(
        "the instance's metadata service (IMDSv2) cannot be reached: {0}; enable it, or, if this is not an EC2 instance, \
         write the facts under [instance] in agent.toml, with metadata = false"
    )]
    Unreachable(String),
    /// The service answered with an error.
    #[error("the instance's metadata service answered {status} for {path}")]
    ErrorResponse {
        /// HTTP status.
        status: u16,
        /// Requested path.
        path: String,
    },
    /// The identity document is invalid.
    #[error("the instance's metadata service returned an invalid identity document: {0}")]
    Document(String),
}

/// Used fields of the identity document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    instance_id: String,
    region: String,
    availability_zone: String,
}

/// Fetches the facts of this instance from its metadata service.
pub async fn fetch_instance_metadata() -> Result<InstanceMetadata, InstanceError> {
    environment::check()?;
    let provider_config = ProviderConfig::without_region().with_http_client(Http::for_this_host());
    let client = Client::builder()
        .configure(&provider_config)
        .connect_timeout(ATTEMPT_TIMEOUT)
        .read_timeout(ATTEMPT_TIMEOUT)
        .max_attempts(MAX_ATTEMPTS)
        .build();
    let document = in_time(get(&client, DOCUMENT)).await?;
    let found = parse_document(&document)?;
    Ok(InstanceMetadata { tags: in_time(tags(&client)).await, ..found })
}

/// Parses the identity document. The tags are not in it.
pub(crate) fn parse_document(document: &str) -> Result<InstanceMetadata, InstanceError> {
    let Document { instance_id, region, availability_zone } =
        serde_json::from_str(document).map_err(|e| InstanceError::Document(shorten(&e.to_string())))?;
    let id = InstanceId::new(instance_id).map_err(|e| InstanceError::Document(e.to_string()))?;
    for (field, name) in [("region", &region), ("availabilityZone", &availability_zone)] {
        if !is_location(name) {
            return Err(InstanceError::Document(format!("{field} is {:?}", shorten(name))));
        }
    }
    Ok(InstanceMetadata { id, region, zone: availability_zone, tags: Ok(BTreeMap::new()) })
}

async fn in_time<T>(answer: impl Future<Output = Result<T, InstanceError>>) -> Result<T, InstanceError> {
    let late = || InstanceError::Unreachable(format!("no complete answer within {TOTAL_TIMEOUT:?}"));
    tokio::time::timeout(TOTAL_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late()))
}

async fn tags(client: &Client) -> Result<BTreeMap<String, String>, InstanceError> {
    let mut tags = BTreeMap::new();
    let names = match get(client, TAGS).await {
        Ok(names) => names,
        Err(InstanceError::ErrorResponse { status: 404, .. }) => {
            tracing::debug!("tags are not available in the instance metadata (InstanceMetadataTags is not enabled)");
            return Ok(tags);
        }
        Err(error) => return Err(error),
    };
    for name in names.lines().take(MAX_TAGS) {
        // AWS allows only these names for tags in instance metadata.
        if !is_name(name) {
            tracing::warn!(tag = shorten(name), "ignoring an instance tag with an invalid name");
            continue;
        }
        match get(client, &format!("{TAGS}/{name}")).await {
            Ok(value) if is_value(&value) => drop(tags.insert(name.to_owned(), value)),
            Ok(_) => {
                tracing::warn!(tag = name, "ignoring an instance tag whose value is not one line of text")
            }
            // The tag was removed after the names were read.
            Err(InstanceError::ErrorResponse { status: 404, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tags)
}

async fn get(client: &Client, path: &str) -> Result<String, InstanceError> {
    let answered = |status| InstanceError::ErrorResponse { status, path: path.to_owned() };
    match client.get(path).await {
        Ok(text) => Ok(text.into()),
        Err(ImdsError::ErrorResponse(response)) => Err(answered(response.response().status().as_u16())),
        Err(error) => Err(InstanceError::Unreachable(deepest(&error))),
    }
}

fn is_location(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-=.,_:@".contains(&b);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain) && !matches!(text, "." | "..")
}

fn is_value(text: &str) -> bool {
    text.chars().count() <= MAX_VALUE && !text.chars().any(char::is_control)
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}
