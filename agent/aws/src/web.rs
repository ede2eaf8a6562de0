//! Plain requests without the SDK: signed ones to EC2, and those of other services that list instances.
//!
//! The same connections, proxies and TLS as for the SDK. Answers are bounded, in bytes and in time; redirects are not followed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{HeaderMap, Request};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::environment::{self, EnvironmentError};
use crate::error::deepest;
use crate::http::Http;

/// Maximum time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Upper bound of the first backoff, doubled for each further attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
/// Maximum upper bound of a backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// HTTP client. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Web {
    http: Http,
    /// Maximum time to the answer's head, and again to the end of its body.
    timeout: Duration,
}

/// Certificates of a client that does not use those of the host.
#[derive(Default)]
pub struct WebTls {
    /// Authorities (PEM) in place of the host's.
    pub authorities: Option<Vec<u8>>,
    /// Certificate and key of the client (PEM).
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Complete answer.
#[derive(Debug)]
pub struct WebAnswer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Error returned when a request got no complete answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// An environment variable is invalid.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// A certificate or key cannot be used.
    #[error("cannot use {what}: {why}")]
    Certificate {
        /// `ca`, `certificate` or `key`.
        what: &'static str,
        /// Reason.
        why: String,
    },
    /// The server did not answer, or not completely.
    #[error("{0}")]
    NoAnswer(String),
    /// The answer is too large.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

impl Web {
    /// Creates a client with the authorities of the host and the proxies of the environment.
    pub fn new(timeout: Duration) -> Result<Web, EnvironmentError> {
        Ok(Web { http: Http::new(environment::checked()?), timeout })
    }

    /// Creates a client with these certificates.
    pub fn with_tls(timeout: Duration, tls: &WebTls) -> Result<Web, WebError> {
        let web = Web::new(timeout)?;
        if tls.authorities.is_some() || tls.identity.is_some() {
            web.http.set_tls(Arc::new(config(tls)?));
        }
        Ok(web)
    }

    /// Sends a request, and reads an answer of at most `max` bytes.
    pub async fn send(&self, request: Request<Bytes>, max: usize) -> Result<WebAnswer, WebError> {
        let request = request.map(SdkBody::from);
        let sent = self.http.send(request, Some(CONNECT_TIMEOUT.min(self.timeout)), Some(self.timeout)).await;
        let response = sent.map_err(|error| WebError::NoAnswer(deepest(&error)))?;
        let (parts, body) = response.into_parts();
        let read = tokio::time::timeout(self.timeout, Limited::new(body, max).collect()).await;
        let late = || WebError::NoAnswer(format!("no complete answer within {:?}", self.timeout));
        let body = read.map_err(|_| late())?.map_err(|error| match error.downcast_ref() {
            Some(http_body_util::LengthLimitError { .. }) => WebError::TooLarge(max),
            None => WebError::NoAnswer(format!("the answer broke off: {}", deepest(&*error))),
        })?;
        Ok(WebAnswer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes() })
    }
}

/// Returns a random backoff (full jitter) after this many attempts, so that clients that failed at the same time do not retry at
/// the same time.
pub fn backoff(attempts: u32) -> Duration {
    let max = INITIAL_BACKOFF.saturating_mul(1 << attempts.min(8)).min(MAX_BACKOFF);
    let per_mille = RandomState::new().hash_one(attempts) % 1001;
    max.saturating_mul(u32::try_from(per_mille).unwrap_or(1000)) / 1000
}

fn config(tls: &WebTls) -> Result<rustls::ClientConfig, WebError> {
    let wrong = |what: &'static str, why: String| WebError::Certificate { what, why };
    let roots = match &tls.authorities {
        None => crate::http::host_authorities().map_err(|error| wrong("ca", error.to_string()))?,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| wrong("ca", error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong("ca", error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("ca", "it holds no certificate (PEM)".to_owned()));
            }
            roots
        }
    };
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong("ca", error.to_string()))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| wrong("certificate", error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| wrong("key", "it holds no private key (PEM)".to_owned()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| wrong("certificate", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoffs_are_random_and_bounded() {
        for attempts in 0..40 {
            assert!(backoff(attempts) <= MAX_BACKOFF);
        }
        let drawn: std::collections::HashSet<Duration> = (0..50).map(|_| backoff(3)).collect();
        assert!(drawn.len() > 10, "{drawn:?}");
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let tls = |authorities: &[u8], identity: Option<(&[u8], &[u8])>| WebTls {
            authorities: Some(authorities.to_vec()),
            identity: identity.map(|(certificate, key)| (certificate.to_vec(), key.to_vec())),
        };
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert!(config(&tls(certificate.as_bytes(), Some((certificate.as_bytes(), key.as_bytes())))).is_ok());
        for (tls, what) in [
            (tls(b"", None), "cannot use ca: it holds no certificate"),
            (
                tls(certificate.as_bytes(), Some((certificate.as_bytes(), b"x"))),
                "cannot use key: it holds no private key",
            ),
            (tls(certificate.as_bytes(), Some((b"", key.as_bytes()))), "cannot use certificate"),
        ] {
            let error = config(&tls).err().map(|error| error.to_string()).unwrap();
            assert!(error.starts_with(what), "{error}");
        }
    }
}
