//! TLS 1.3 with the certificate authorities of the host, or those of `SSL_CERT_FILE`, `SSL_CERT_DIR` and
//! `AWS_CA_BUNDLE`.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use super::HttpError;
use crate::environment;

/// Reads the authorities and returns the TLS configuration. Takes some milliseconds, so it is done at the first `https` request.
pub(super) fn config() -> Result<Arc<ClientConfig>, HttpError> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(HttpError::Tls)?
        .with_root_certificates(host_authorities()?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Reads the authorities of the host, or those that the environment names.
pub(crate) fn host_authorities() -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    let named = environment::named_authorities().map_err(|error| HttpError::NoAuthorities(error.to_string()))?;
    let (certificates, why) = match named {
        Some(named) => {
            (named, "SSL_CERT_FILE, SSL_CERT_DIR and AWS_CA_BUNDLE contain no certificate of an authority".to_owned())
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            tracing::debug!(errors = found.errors.len(), "read the certificate authorities of this host");
            (found.certs, found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string))
        }
    };
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    tracing::debug!(added, ignored, "loaded certificate authorities");
    if roots.is_empty() {
        return Err(HttpError::NoAuthorities(why));
    }
    Ok(roots)
}
