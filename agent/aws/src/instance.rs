//! What the instance's metadata service says of the instance: id, region, zone, tags. Version 2 of the service only, which
//! answers nobody without a session token.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html>
//!
//! Where it is comes from the SDK's own configuration (`AWS_EC2_METADATA_SERVICE_ENDPOINT`, a profile); it is asked straight
//! and never through a proxy.

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
/// The service is on the host: one answer comes in milliseconds, or not at all.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often one thing is asked for that the service answers with an error of its own.
const ATTEMPTS: u32 = 3;
/// How long the identity may take, and all tags together.
const EACH: Duration = Duration::from_secs(5);
/// The most tags; an instance has 50 of its own, and a few of AWS's.
const MAX_TAGS: usize = 100;
/// The longest name of a tag, in characters.
const MAX_NAME: usize = 128;
/// The longest value of anything, in characters.
const MAX_VALUE: usize = 256;

/// An instance as its metadata service describes it.
#[derive(Debug)]
pub struct Described {
    /// The instance id.
    pub id: InstanceId,
    /// Its region.
    pub region: String,
    /// Its availability zone.
    pub zone: String,
    /// Its tags, none when the instance does not let its metadata tell them; or why they cannot be had now.
    pub tags: Result<BTreeMap<String, String>, InstanceError>,
}

/// Why the service did not say it.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// A variable that says how to reach it.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// There is nobody, or nobody who answers in time.
    #[error(
        "the instance's metadata service (IMDSv2) cannot be reached: {0}; is it enabled, and is this an EC2 instance? \
         Otherwise write the facts under [instance] in agent.toml, with metadata = false"
    )]
    Unreachable(String),
    /// It answers, but not that.
    #[error("the instance's metadata service answered {status} for {path}")]
    Answered {
        /// The HTTP status.
        status: u16,
        /// What it was asked for.
        path: String,
    },
    /// It says what cannot be.
    #[error("the instance's metadata service gives an identity document that is none: {0}")]
    Document(String),
}

/// The identity document, as far as it is of use here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    instance_id: String,
    region: String,
    availability_zone: String,
}

/// Asks the service.
pub async fn describe() -> Result<Described, InstanceError> {
    environment::check()?;
    let reach = ProviderConfig::without_region().with_http_client(Http::of_this_host());
    let client = Client::builder()
        .configure(&reach)
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .max_attempts(ATTEMPTS)
        .build();
    let document = in_time(get(&client, DOCUMENT)).await?;
    let Document { instance_id, region, availability_zone } =
        serde_json::from_str(&document).map_err(|e| InstanceError::Document(shorten(&e.to_string())))?;
    let id = InstanceId::new(instance_id).map_err(|e| InstanceError::Document(e.to_string()))?;
    for (what, place) in [("region", &region), ("availabilityZone", &availability_zone)] {
        if !is_place(place) {
            return Err(InstanceError::Document(format!("{what} is {:?}", shorten(place))));
        }
    }
    Ok(Described { id, region, zone: availability_zone, tags: in_time(tags(&client)).await })
}

async fn in_time<T>(answer: impl Future<Output = Result<T, InstanceError>>) -> Result<T, InstanceError> {
    let late = || InstanceError::Unreachable(format!("it did not say everything within {EACH:?}"));
    tokio::time::timeout(EACH, answer).await.unwrap_or_else(|_| Err(late()))
}

async fn tags(client: &Client) -> Result<BTreeMap<String, String>, InstanceError> {
    let mut tags = BTreeMap::new();
    let names = match get(client, TAGS).await {
        Ok(names) => names,
        Err(InstanceError::Answered { status: 404, .. }) => {
            tracing::debug!("the instance's tags are not in its metadata (InstanceMetadataTags is not enabled)");
            return Ok(tags);
        }
        Err(error) => return Err(error),
    };
    for name in names.lines().take(MAX_TAGS) {
        // What else AWS allows in tags it does not allow in those that metadata tell.
        if !is_name(name) {
            tracing::warn!(tag = shorten(name), "a tag of this instance has a name that cannot be asked for; left out");
            continue;
        }
        match get(client, &format!("{TAGS}/{name}")).await {
            Ok(value) if is_value(&value) => drop(tags.insert(name.to_owned(), value)),
            Ok(_) => {
                tracing::warn!(tag = name, "a tag of this instance has a value that is not one line of text; left out")
            }
            // Taken away since the names were read.
            Err(InstanceError::Answered { status: 404, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tags)
}

async fn get(client: &Client, path: &str) -> Result<String, InstanceError> {
    let answered = |status| InstanceError::Answered { status, path: path.to_owned() };
    match client.get(path).await {
        Ok(text) => Ok(text.into()),
        Err(ImdsError::ErrorResponse(response)) => Err(answered(response.response().status().as_u16())),
        Err(error) => Err(InstanceError::Unreachable(deepest(&error))),
    }
}

fn is_place(text: &str) -> bool {
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
