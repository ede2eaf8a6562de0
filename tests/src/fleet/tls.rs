//! TLS of simulated instances: one configuration for all, and a certificate for each.

use std::sync::Arc;

use bolt_client::pki::{Authority, Validity};
use packs_schema::base::name::InstanceId;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Fault;
use super::instance::{self, Instance};

/// The authority of the fleet, and a configuration that lacks the instance's certificate.
#[derive(Debug)]
pub(super) struct Tls {
    authority: Authority,
    base: ServerConfig,
    verifier: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    pub(super) fn new(authority: Authority) -> Tls {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).expect("it is PEM");
        roots.add(root).expect("it is a certificate");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let verifier = verifier.expect("there is an authority");
        let mut base = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has this version")
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(issue(&authority, &provider, &instance::id(0)));
        // As agents do: no resumption, so that each connection is verified.
        base.session_storage = Arc::new(NoServerSessionStorage {});
        base.send_tls13_tickets = 0;
        base.alpn_protocols = vec![b"http/1.1".to_vec()];
        Tls { authority, base, verifier, provider }
    }

    /// Returns the certificate of `instance`, which is issued on first use.
    pub(super) fn certificate(&self, instance: &Instance) -> Arc<SingleCertAndKey> {
        let issued = || {
            // The id after its own, whether or not there is such an instance.
            let other = instance::id(instance.index + 1);
            let id = if instance.fault == Fault::CertificateOfAnother { &other } else { &instance.id };
            issue(&self.authority, &self.provider, id)
        };
        instance.certificate.get_or_init(issued).clone()
    }

    /// As [`Tls::config_of`], with another provider.
    pub(super) fn config_with(&self, instance: &Instance, provider: Arc<CryptoProvider>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has this version")
            .with_client_cert_verifier(self.verifier.clone())
            .with_cert_resolver(self.certificate(instance));
        config.session_storage = self.base.session_storage.clone();
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    /// Returns the configuration of a connection to `instance`.
    pub(super) fn config_of(&self, instance: &Instance) -> Arc<ServerConfig> {
        let mut config = self.base.clone();
        config.cert_resolver = self.certificate(instance);
        Arc::new(config)
    }
}

fn issue(authority: &Authority, provider: &CryptoProvider, id: &InstanceId) -> Arc<SingleCertAndKey> {
    let issued = authority.issue_instance(id, Validity::days(30)).expect("a certificate can be issued");
    let certificate = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).expect("it is PEM");
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("it is PEM");
    let key = provider.key_provider.load_private_key(key).expect("the provider has this kind of key");
    Arc::new(CertifiedKey::new(vec![certificate], key).into())
}
