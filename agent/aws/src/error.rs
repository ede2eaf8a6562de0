//! Why a bucket did not do what was asked, in one line that says what to do about it.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// The longest text of a bucket's that is passed on, in characters.
const MAX_TEXT: usize = 200;

/// What was not done with which object, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {object}: {problem}")]
pub struct BucketError {
    /// `read`, `write` or `list`.
    pub what: &'static str,
    /// The object, or the prefix, as `s3://…`.
    pub object: String,
    /// Why not.
    pub problem: Problem,
}

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no such object.
    #[error("it is not there")]
    Missing,
    /// There is no such bucket.
    #[error("there is no such bucket")]
    NoBucket,
    /// The bucket is elsewhere.
    #[error("the bucket is in {}: set the region", .0.as_deref().unwrap_or("another region"))]
    Region(Option<String>),
    /// No credentials were found.
    #[error(
        "no AWS credentials were found ({0}): give the instance a profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile"
    )]
    NoCredentials(String),
    /// Not with these credentials.
    #[error("access is denied ({0}): look at the credentials, the bucket's policy and the clock")]
    Denied(String),
    /// A condition of a write does not hold any more: somebody else was first.
    #[error("somebody else has written it meanwhile")]
    Raced,
    /// The bucket answered with another error, the last time it was asked.
    #[error("the bucket answered {0}")]
    Answered(String),
    /// There was no answer, the last time it was asked.
    #[error("{0}")]
    Unreachable(String),
    /// It took too long.
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    /// It came, but too slowly.
    #[error("only {received} bytes came in {after:?}")]
    Slow {
        /// So many …
        received: u64,
        /// … in this time.
        after: Duration,
    },
    /// It ended before its end.
    #[error("it was cut off after {received} bytes: {why}")]
    Cut {
        /// So many came.
        received: u64,
        /// What broke.
        why: String,
    },
    /// It does not end.
    #[error("it has more than the {0} bytes that are taken")]
    TooLarge(u64),
    /// The SDK cannot make such a request.
    #[error("the request cannot be made: {0}")]
    Request(String),
}

impl Problem {
    /// True when the same request may go well a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            Problem::Answered(_)
            | Problem::Unreachable(_)
            | Problem::Silent(_)
            | Problem::Slow { .. }
            | Problem::Cut { .. }
            | Problem::Raced => true,
            Problem::Missing
            | Problem::NoBucket
            | Problem::Region(_)
            | Problem::NoCredentials(_)
            | Problem::Denied(_)
            | Problem::TooLarge(_)
            | Problem::Request(_) => false,
        }
    }

    /// What an error of the SDK comes to.
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Problem
    where
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let Some(response) = error.raw_response() else { return without_answer(&error) };
        let status = response.status().as_u16();
        let region = response.headers().get("x-amz-bucket-region").map(shorten);
        let (code, message) = (error.code().map(shorten), error.message().map(shorten));
        let said = match (&code, message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.clone(),
            (None, _) => "without saying why".to_owned(),
        };
        match (status, code.as_deref()) {
            (_, Some("NoSuchBucket")) => Problem::NoBucket,
            (404, _) => Problem::Missing,
            (301 | 307, _) | (400, Some("AuthorizationHeaderMalformed")) => Problem::Region(region),
            (412, _) | (409, Some("ConditionalRequestConflict")) => Problem::Raced,
            (401 | 403, _) => Problem::Denied(said),
            (200..=299, _) => Problem::Answered(format!("nonsense ({})", deepest(&error))),
            _ => Problem::Answered(format!("{status} {said}")),
        }
    }
}

fn without_answer<E>(error: &SdkError<E, HttpResponse>) -> Problem
where
    E: Error + Send + Sync + 'static,
{
    let said = deepest(error);
    match error {
        SdkError::TimeoutError(_) => Problem::Unreachable("there was no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => Problem::Unreachable(said),
        // What it then lists is the whole chain.
        _ if about_credentials(error) => {
            Problem::NoCredentials(said.split(". Attempted:").next().unwrap_or_default().to_owned())
        }
        SdkError::DispatchFailure(_) => Problem::Unreachable(said),
        _ => Problem::Request(said),
    }
}

/// The SDK has a type for it in a crate of its own; its name is all that is needed here.
fn about_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        if said.contains("credential") || said.contains("identity") {
            return true;
        }
        next = error.source();
    }
    false
}

/// What lies behind an error: its last two layers, since the layers above repeat each other.
pub(crate) fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut layers = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        layers.push(error.to_string());
        next = error.source();
    }
    layers.dedup();
    let said = layers[layers.len().saturating_sub(2)..].join(": ");
    shorten(&said)
}

/// One line of bounded length, without control characters.
fn shorten(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
