//! Doors for the fuzz targets in `tests/fuzz` to readers that are private otherwise. Behind the feature `fuzzing`, which no program
//! that ships has (`tests/e2e/architecture.rs`).

pub use bolt_aws::fuzz::{ec2_error, ec2_page, identity_document};

pub use crate::connection::fuzz::{Answering, Asked};
pub use crate::inventory::fuzz::{document_json, document_toml, ec2, gate};
pub use crate::pack::import::fuzz::{Imported, puppet, rundeck, ssm, stackstorm, wheel};
pub use crate::pki::fuzz::signing_request;
pub use crate::runs::fuzz::{group, lease, stored_run};
