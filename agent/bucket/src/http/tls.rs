//! TLS to the bucket: 1.3, with the authorities that this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use super::HttpError;

/// Reads the host's authorities; that takes some milliseconds, so it is done for the first `https` address only.
pub(super) fn config() -> Result<Arc<ClientConfig>, HttpError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, errors = found.errors.len(), "authorities of this host");
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(HttpError::NoAuthorities(why));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(HttpError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
