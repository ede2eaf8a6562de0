//! `openapi.json` (OpenAPI 3.1), as the agent serves it.
//!
//! The document states types and constraints of every input, so that a request that conforms to it is not refused for its
//! form, and uses only constructs that client generators understand. It is made from the route table by a test, not by the
//! agent: requests for it, which need no grant, cost no more than their bytes, and the programs have no generator of schemas.

#[cfg(test)]
mod document;
#[cfg(test)]
mod problems;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use hyper::Response;

use super::body::Body;
use super::handlers;
#[cfg(test)]
pub(crate) use document::document;

/// The document, as `BOLT_BLESS=1 cargo test -p bolt-agent openapi` writes it.
const DOCUMENT: &[u8] = include_bytes!("../../openapi.json");

/// Returns the document as a response.
pub(super) fn response() -> Response<Body> {
    handlers::content(200, "application/json", Body::Whole(Bytes::from_static(DOCUMENT)))
}
