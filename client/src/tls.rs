//! TLS 1.3 with certificates on both sides, and who is at the other end.
//!
//! ```text
//!  client.pem, client.key, ca.pem ──load──▶ Identity ──for an instance id──▶ rustls configuration
//! ```
//!
//! A server is who it says only when its certificate chains to our authority, is valid now, is meant for
//! servers, and names `bolt://instance/<id>` of the very instance that we meant: addresses get reused,
//! ids do not. Sessions are never resumed, since a resumed one skips these checks.
//!
//! Must never: accept a certificate for its DNS name or address, or print a key.

mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use packs_schema::name::InstanceId;
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, version};

use crate::files::{self, FileError};

pub(crate) use verify::WrongInstance;

/// The largest certificate or key file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why our own certificate, key or authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read, or others can read the key.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what it should.
    #[error("{path} holds no usable {what}: {problem}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// Who we are, and whom we trust to name instances. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
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
        let chain = certificates(certificate, "certificate")?;
        let key_text = files::read_private_text(key, MAX_FILE)?;
        let key_der = PrivateKeyDer::from_pem_slice(key_text.as_bytes())
            .map_err(|e| content(key, "private key in PEM", e.to_string()))?;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, "certificate of an authority")? {
            roots.add(root).map_err(|e| content(ca, "certificate of an authority", e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let base = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|e| content(certificate, "certificate", e.to_string()))?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain, key_der)
            .map_err(|e| content(key, "key of the certificate", e.to_string()))?;
        Ok(Identity { base: Arc::new(base), roots, provider })
    }

    /// The configuration of one connection: it ends in an error unless `instance` answers.
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

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = files::read_text(path, MAX_FILE)?;
    let content = |problem| IdentityError::Content { path: path.to_owned(), what, problem };
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| content(format!("{e}")))?;
    if found.is_empty() {
        return Err(content("there is none in PEM form in it".to_owned()));
    }
    Ok(found)
}
