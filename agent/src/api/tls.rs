//! Mutual TLS 1.3: the server's certificate, the callers' authorities, and the name of a caller.
//!
//! The files are looked at whenever a connection comes; changed ones apply from then on. Ones that cannot be used
//! leave the last good ones in force, and the agent degraded. Sessions are never resumed: a resumed session
//! would skip the check of the certificate.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use packs_schema::config::TlsConfig;
use packs_schema::name::Principal;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::access::Stamp;
use crate::health::Health;

/// The code of health when the files cannot be used.
const BROKEN: &str = "tls_invalid";

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {0:?}")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0:?} holds no {1} in PEM")]
    Empty(PathBuf, &'static str),
    #[error("{0:?} is not PEM: {1}")]
    Pem(PathBuf, String),
    #[error(
        "the key {path:?} can be read by others (owner {owner}, group {group}, mode {mode:04o}): run `chmod 0600 {}`, or 0640 with owner root and the agent's group", .path.display()
    )]
    KeyExposed { path: PathBuf, owner: u32, group: u32, mode: u32 },
    #[error("{0:?} cannot be an authority of callers: {1}")]
    Authority(PathBuf, String),
    #[error("the certificate {0:?} and its key cannot be used: {1}")]
    Certificate(PathBuf, String),
}

/// The files, and what they say.
pub(crate) struct Tls {
    files: TlsConfig,
    health: Arc<Health>,
    state: Mutex<([Option<Stamp>; 3], Arc<ServerConfig>)>,
}

impl Tls {
    /// Reads the files; ones that cannot be used are an error now, and only now.
    pub(crate) fn load(files: &TlsConfig, health: Arc<Health>) -> Result<Tls, TlsError> {
        let stamps = stamps(files);
        let config = Arc::new(build(files)?);
        Ok(Tls { files: files.clone(), health, state: Mutex::new((stamps, config)) })
    }

    /// The configuration for a new connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = stamps(&self.files);
        if now != state.0 {
            state.0 = now;
            match build(&self.files) {
                Ok(config) => {
                    tracing::info!("certificates read again");
                    state.1 = Arc::new(config);
                    self.health.clear(BROKEN);
                }
                Err(error) => {
                    let message = crate::log::chain(&error);
                    tracing::error!(%message, "the certificates in force stay those of before");
                    self.health.set(BROKEN, format!("{message}; the certificates of before stay in force"));
                }
            }
        }
        state.1.clone()
    }
}

fn stamps(files: &TlsConfig) -> [Option<Stamp>; 3] {
    [&files.certificate, &files.key, &files.client_ca].map(|path| Stamp::of(path))
}

fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    provider
}

fn build(files: &TlsConfig) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider());
    let authority = |e: String| TlsError::Authority(files.client_ca.clone(), e);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.client_ca)? {
        roots.add(certificate).map_err(|e| authority(e.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| authority(e.to_string()))?;
    let chain = certificates(&files.certificate)?;
    let key = key(&files.key)?;
    let wrong = |e: rustls::Error| TlsError::Certificate(files.certificate.clone(), e.to_string());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(wrong)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = std::fs::read(path).map_err(|e| TlsError::Read(path.to_owned(), e))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| TlsError::Pem(path.to_owned(), e.to_string()))?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned(), "certificate")) } else { Ok(found) }
}

/// Reads the key, if nobody else can.
fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |e: io::Error| TlsError::Read(path.to_owned(), e);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let (mode, group, owner) = (meta.mode() & 0o7777, meta.gid(), meta.uid());
    let us = nix::unistd::geteuid().as_raw();
    let ours = owner == 0 || owner == us;
    let our_group = nix::unistd::getegid().as_raw() == group
        || nix::unistd::getgroups().is_ok_and(|groups| groups.iter().any(|g| g.as_raw() == group));
    if !(mode & 0o077 == 0 || (our_group && mode & 0o037 == 0 && ours)) {
        return Err(TlsError::KeyExposed { path: path.to_owned(), owner, group, mode });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(TlsError::Empty(path.to_owned(), "private key")),
        Err(error) => Err(TlsError::Pem(path.to_owned(), error.to_string())),
    }
}

/// The principal in a checked client certificate: its one URI name.
pub(super) fn principal(certificates: Option<&[CertificateDer<'_>]>) -> Result<Principal, String> {
    let certificate = certificates.and_then(<[_]>::first).ok_or("there is no client certificate")?;
    let certificate =
        webpki::EndEntityCert::try_from(certificate).map_err(|e| format!("the client certificate is damaged: {e}"))?;
    let mut names = certificate.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(name), None) => Principal::new(name).map_err(|e| e.to_string()),
        (None, _) => Err("the client certificate has no URI name: issue one with `bolt pki issue`".to_owned()),
        (Some(_), Some(_)) => Err("the client certificate has more than one URI name".to_owned()),
    }
}
