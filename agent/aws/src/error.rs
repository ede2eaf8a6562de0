//! Errors of requests to a bucket: one line each, with the remedy.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// Maximum length of a text from the bucket, in characters.
const MAX_TEXT: usize = 200;

/// Error returned when an operation on an object fails.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}: {problem}")]
pub struct BucketError {
    /// `read`, `write`, `list` or `remove`.
    pub operation: &'static str,
    /// The object, or the prefix, as `s3://…`.
    pub object: String,
    /// Reason of the failure.
    pub problem: Problem,
}

/// Reason of a failure.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The object does not exist.
    #[error("it does not exist")]
    Missing,
    /// The bucket does not exist.
    #[error("the bucket does not exist")]
    NoBucket,
    /// The bucket is in another region.
    #[error("the bucket is in {}: set the region", .0.as_deref().unwrap_or("another region"))]
    Region(Option<String>),
    /// No credentials were found.
    #[error(
        "no AWS credentials were found ({0}): give the instance a profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile"
    )]
    NoCredentials(String),
    /// The credentials do not allow the operation.
    #[error("access is denied ({0}): check the credentials, the bucket's policy and the clock")]
    Denied(String),
    /// The condition of a write is not met: another writer was first.
    #[error("another writer has changed it meanwhile")]
    Conflict,
    /// The bucket returned another error at the last attempt.
    #[error("the bucket answered {0}")]
    ErrorResponse(String),
    /// The bucket did not answer the last attempt.
    #[error("{0}")]
    Unreachable(String),
    /// No data was received for this time.
    #[error("no data received for {0:?}")]
    NoData(Duration),
    /// The transfer was slower than the minimum speed.
    #[error("only {received} bytes received in {after:?}")]
    TooSlow {
        /// Number of bytes received.
        received: u64,
        /// Duration of the transfer.
        after: Duration,
    },
    /// The body ended early.
    #[error("truncated after {received} bytes: {why}")]
    Truncated {
        /// Number of bytes received.
        received: u64,
        /// Reason.
        why: String,
    },
    /// The object is larger than the maximum.
    #[error("larger than the maximum of {0} bytes")]
    TooLarge(u64),
    /// The bucket goes on with a listing.
    #[error("the listing does not end: {0}")]
    EndlessListing(String),
    /// The SDK cannot build the request.
    #[error("invalid request: {0}")]
    Request(String),
}

impl Problem {
    /// Classifies an error of the SDK.
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Problem
    where
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let Some(response) = error.raw_response() else { return without_answer(&error) };
        let status = response.status().as_u16();
        let region = response.headers().get("x-amz-bucket-region").map(shorten);
        let (code, message) = (error.code().map(shorten), error.message().map(shorten));
        let text = match (&code, message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.clone(),
            (None, _) => "without a reason".to_owned(),
        };
        match (status, code.as_deref()) {
            (_, Some("NoSuchBucket")) => Problem::NoBucket,
            (404, _) => Problem::Missing,
            (301 | 307, _) | (400, Some("AuthorizationHeaderMalformed")) => Problem::Region(region),
            (412, _) | (409, Some("ConditionalRequestConflict")) => Problem::Conflict,
            (401 | 403, _) => Problem::Denied(text),
            (200..=299, _) => Problem::ErrorResponse(format!("an invalid success ({})", deepest(&error))),
            _ => Problem::ErrorResponse(format!("{status} {text}")),
        }
    }
}

/// Classifies an error without an answer of the bucket.
fn without_answer<E>(error: &SdkError<E, HttpResponse>) -> Problem
where
    E: Error + Send + Sync + 'static,
{
    let text = deepest(error);
    match error {
        SdkError::TimeoutError(_) => Problem::Unreachable("no answer within the time-out".to_owned()),
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => Problem::Unreachable(text),
        // Without the list of the whole chain that follows.
        _ if is_about_credentials(error) => {
            Problem::NoCredentials(text.split(". Attempted:").next().unwrap_or_default().to_owned())
        }
        SdkError::DispatchFailure(_) => Problem::Unreachable(text),
        _ => Problem::Request(text),
    }
}

/// Returns true for an error about credentials, recognised by its text: the SDK's type is in a crate that is not a dependency.
fn is_about_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if text.contains("credential") || text.contains("identity") {
            return true;
        }
        next = error.source();
    }
    false
}

/// Returns the messages of the two innermost sources of an error, because the outer layers repeat each other.
pub(crate) fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut layers = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        layers.push(error.to_string());
        next = error.source();
    }
    layers.dedup();
    let text = layers[layers.len().saturating_sub(2)..].join(": ");
    shorten(&text)
}

/// Truncates a text and replaces control characters by blanks.
fn shorten(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
