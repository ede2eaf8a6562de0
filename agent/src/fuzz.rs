//! Doors for the fuzz targets in `tests/fuzz` to readers that are private otherwise. Behind the feature `fuzzing`, which no program
//! that ships has (`tests/e2e/architecture.rs`).

pub use crate::api::fuzz::Service;
pub use crate::api::tls::fuzz::{principal, revocation_lists};
pub use crate::audit::fuzz::continue_chain;
pub use crate::exec::fuzz::{Piece, archive, archive_segments, segments};
pub use crate::sync::fuzz::{Verified, last_verified, unpack_archive, verify_metadata};
