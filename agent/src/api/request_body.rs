//! Bodies of requests, read within their limits of size and time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use packs_schema::agent::rest::MAX_BODY;

use super::problem::ApiError;

/// Time limit for receiving a body.
const READ: Duration = Duration::from_secs(20);

/// Reads a request's body of at most [`MAX_BODY`] bytes, with or without a content length.
pub(super) async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let reading = Limited::new(body, MAX_BODY).collect();
    let read = tokio::time::timeout(READ, reading).await;
    match read.map_err(|_| ApiError::BadRequest(format!("the body did not arrive within {} s", READ.as_secs())))? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge),
        Err(error) => Err(ApiError::BadRequest(format!("the body cannot be read: {error}"))),
    }
}
