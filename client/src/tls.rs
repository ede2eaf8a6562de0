//! TLS 1.3 with certificates on both sides, and the identity of the server.
//!
//! ```text
//!  client.pem, client.key, ca.pem ──load──▶ Identity ──for an instance id──▶ rustls configuration
//! ```
//!
//! A server is accepted only if its certificate chains to the configured authority, is valid now, is meant for servers, and
//! names `bolt://instance/<id>` of the instance that was asked for: addresses get reused, ids do not. Sessions are never
//! resumed, since a resumed one skips these checks.
//!
//! Invariants: no certificate is accepted for its DNS name or address, and no key is printed.

mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use packs_schema::base::certificate::CertificateInfo;
use packs_schema::base::name::InstanceId;
use packs_schema::base::pem::{self, Expected, PemError, PemProblem};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, version};
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use crate::files::{self, FileError};

pub(crate) use verify::{NotForServers, WrongInstance};

/// Maximum size of a certificate or key file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Error returned when the client's certificate, key or authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read, or others can read the key.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold a key or certificate that can be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate cannot be used.
    #[error("{path} holds no usable {what}: {problem}", path = crate::show::path(path))]
    Content {
        /// The file.
        path: PathBuf,
        /// Content that is expected.
        what: &'static str,
        /// Problem of the certificate.
        problem: String,
    },
    /// The content of a file was given in place of its path. It is not shown: it may be a private key.
    #[error("the {0} is given as the content of a PEM file: write it to a file and give the path")]
    Inline(&'static str),
    /// Certificate and key do not belong together.
    #[error(
        "the key {key} does not belong to the first certificate in {certificate}: give both of the same issue, your own \
         certificate first",
        key = crate::show::path(key), certificate = crate::show::path(certificate)
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// End of validity of a certificate that an [`Identity`] rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// `the client certificate` or `the certificate authority`.
    pub what: &'static str,
    /// Its file.
    pub path: PathBuf,
    /// Last moment of validity.
    pub at: Timestamp,
}

/// The client's certificate and key, and the authorities that it trusts to name instances. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    principal: Option<Arc<str>>,
    expiries: Arc<[Expiry]>,
    base: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the client's certificate (and chain), its key, and the authority's certificates, all PEM.
    pub fn load(certificate: &Path, key: &Path, ca: &Path) -> Result<Identity, IdentityError> {
        let content =
            |path: &Path, what, problem: String| IdentityError::Content { path: path.to_owned(), what, problem };
        for (what, path) in [("certificate", certificate), ("key", key), ("certificate authority", ca)] {
            if pem::is_pem_content(path) {
                return Err(IdentityError::Inline(what));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let own = own(certificate, key, &provider)?;
        let mut roots = RootCertStore::empty();
        let authorities = certificates(ca)?;
        let principal = principal(&own.cert[0]);
        let own_end = end_of_validity(&own.cert[..1]);
        // Of several authorities the last: the others are being replaced.
        let expiries = [
            ("the client certificate", certificate, own_end),
            ("the certificate authority", ca, end_of_validity(&authorities)),
        ];
        let expiries =
            expiries.into_iter().filter_map(|(what, path, at)| Some(Expiry { what, path: path.to_owned(), at: at? }));
        let expiries: Arc<[Expiry]> = expiries.collect();
        for root in authorities {
            if CertificateInfo::parse(&root).is_some_and(|info| !info.is_authority) {
                let problem = "it is the certificate of an instance or a caller; use the authority's, such as ca.pem";
                return Err(content(ca, "certificate of an authority", problem.to_owned()));
            }
            roots.add(root).map_err(|e| content(ca, "certificate of an authority", e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let base = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|e| content(certificate, "certificate", e.to_string()))?
            .with_root_certificates(roots.clone())
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        Ok(Identity { principal, expiries, base: Arc::new(base), roots, provider })
    }

    /// Returns the name by which agents know this client: the URI of its certificate. `None` unless it has exactly one.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// Returns when the client's certificate and the authority expire.
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    /// Returns the configuration of one connection: it ends in an error unless `instance` answers.
    pub(crate) fn config_for(&self, instance: &InstanceId) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.base);
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let verifier = verify::InstanceVerifier::new(instance.clone(), self.roots.clone(), &self.provider);
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }
}

/// Loads the client's certificate with its key, and checks that they belong together. No error quotes either file.
fn own(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, IdentityError> {
    let chain = certificates(certificate)?;
    let text = Zeroizing::new(files::read_private_text(key, MAX_FILE)?);
    let parsed = parse_key(key, text.as_bytes())?;
    let loaded = provider.key_provider.load_private_key(parsed);
    let loaded = loaded.map_err(|_| PemError::new(key, Expected::Key, PemProblem::Unsupported))?;
    let own = CertifiedKey::new(chain, loaded);
    match own.keys_match() {
        Ok(()) => Ok(Arc::new(own)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(IdentityError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() })
        }
        Err(rustls::Error::InvalidCertificate(error)) => Err(IdentityError::Content {
            path: certificate.to_owned(),
            what: "certificate",
            problem: error.to_string(),
        }),
        // Any other error might speak of the key.
        Err(_) => Err(PemError::new(certificate, Expected::Certificates, PemProblem::Unsupported).into()),
    }
}

fn principal(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let mut names = parsed.valid_uri_names();
    match (CertificateInfo::parse(certificate)?.uri_names, names.next()) {
        (1, Some(name)) => Some(name.into()),
        _ => None,
    }
}

/// Returns the latest end of validity of some certificates.
fn end_of_validity(certificates: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let ends = certificates.iter().filter_map(|certificate| CertificateInfo::parse(certificate));
    ends.map(|info| info.not_after_s).max().and_then(|seconds| Timestamp::from_second(seconds).ok())
}

/// Returns the error for a file with a certificate that cannot be parsed.
pub(crate) fn damaged_certificate(path: &Path) -> PemError {
    PemError::new(path, Expected::Certificates, PemProblem::Damaged)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = files::read_text(path, MAX_FILE)?;
    Ok(parse_certificates(path, text.as_bytes())?)
}

/// Parses the certificates in the content of the file at `path`; at least one.
pub(crate) fn parse_certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(PemError::diagnose(path, Expected::Certificates, text)),
    }
}

/// True if `key`, the content of a file, is the private key of the first certificate of `chain`.
pub(crate) fn is_key_of(key: &[u8], chain: Vec<CertificateDer<'static>>) -> bool {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let parsed = PrivateKeyDer::from_pem_slice(key).ok();
    let loaded = parsed.and_then(|key| provider.key_provider.load_private_key(key).ok());
    loaded.is_some_and(|key| CertifiedKey::new(chain, key).keys_match().is_ok())
}

/// Parses the private key in the content of the file at `path`.
pub(crate) fn parse_key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| PemError::diagnose(path, Expected::Key, text))
}
