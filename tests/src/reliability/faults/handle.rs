//! Handle to the current api of an agent under faults.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bolt_client::local::Caller;

use crate::http::{Answer, Call, send};

/// Owned handle to the api.
#[derive(Clone)]
pub(super) struct ApiHandle {
    /// File in which the api publishes its address.
    pub(super) address: PathBuf,
    pub(super) operator: Caller,
}

impl ApiHandle {
    /// Sends a request to the current api.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, String> {
        send(read_address(&self.address)?, Some(&self.operator), call).await
    }
}

/// Reads the address that the api has published.
pub(super) fn read_address(path: &Path) -> Result<SocketAddr, String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    text.trim().parse().map_err(|_| "no address".to_owned())
}
