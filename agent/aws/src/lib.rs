//! AWS access: repositories of packs in S3 buckets, credentials, instances of EC2, and the instance metadata service (IMDS).
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
//! - Instance metadata: [`fetch_instance_metadata`]. Instances of an account: `ec2`, by requests that are signed here. Other
//!   services: `web`.
//!
//! The bucket is untrusted: an `ETag` saves a transfer but never proves a content. Must never: print credentials, follow a
//! redirect, or take an endpoint from other sources than its caller and the SDK's configuration.
//!
//! The limits: five attempts with pauses that double and are drawn at random below that; `repository.timeout` of silence; 32 KiB/s
//! after it; the signed length, or 16 MiB of metadata; 1 MiB of an answer that is no object.

mod bucket;
mod date;
#[cfg(feature = "ec2")]
pub mod ec2;
pub mod environment;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod http;
mod instance;
mod list;
mod percent;
mod read;
mod sdk;
mod transport;
mod upload;
#[cfg(feature = "ec2")]
pub mod web;
mod write;

pub use bucket::Bucket;
pub use environment::EnvironmentError;
pub use error::{BucketError, Problem};
pub use instance::{InstanceError, InstanceMetadata, fetch_instance_metadata};
pub use list::ListedObject;
pub use read::{Etag, Fetched, Object};
pub use sdk::{MAX_ATTEMPTS, Options, sdk_config};
pub use transport::BucketTransport;
pub use upload::Upload;
