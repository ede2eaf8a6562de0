//! TLS 1.3 handshakes with certificates on both sides and nothing else: the floor of whatever contacts each instance once.
//!
//! The library is the client's (rustls with aws-lc), and so is what is verified: the chain of the instance's certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolt_client::inventory::Inventory;
use bolt_client::pki::{Authority, Validity};
use futures_util::{StreamExt as _, stream};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use packs_schema::base::name::Principal;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use super::fault::Fault;
use super::instance::Instance;
use super::tls::Tls;

/// Connects to every instance of the inventory in `directory`, `parallel` at a time. Returns how many handshakes failed.
pub fn connect_to_all(directory: &Path, parallel: usize) -> usize {
    let read = |name: &str| std::fs::read(directory.join(name)).expect("the fleet's files can be read");
    let config = config(&read("operator.pem"), &read("operator.key"), &read("ca.pem"), Groups::Hybrid.provider());
    let inventory = Inventory::load(&directory.join("inventory.json")).expect("the inventory reads");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connected = inventory.instances().iter().map(|instance| {
            let (host, port) = (instance.address.host().to_owned(), instance.address.port());
            tokio::spawn(connect(config.clone(), host, port))
        });
        // Tasks, so that all threads share the work.
        let results: Vec<bool> =
            stream::iter(connected).map(async |task| task.await.unwrap_or(false)).buffered(parallel).collect().await;
        results.into_iter().filter(|connected| !connected).count()
    })
}

async fn connect(config: Arc<ClientConfig>, host: String, port: u16) -> bool {
    let Ok(tcp) = TcpStream::connect((host.as_str(), port)).await else { return false };
    let name = ServerName::try_from("instance.invalid").expect("a valid name");
    tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.is_ok()
}

/// Groups for the exchange of keys that a side offers or accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// Hybrid (X25519MLKEM768), as clients offer it, and X25519 if the server has nothing else.
    Hybrid,
    /// X25519 only.
    Classical,
}

impl Groups {
    fn provider(self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        if self == Groups::Classical {
            provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        }
        provider
    }
}

/// Processor time of both sides of a handshake.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sides {
    /// The client's.
    pub client: Duration,
    /// The server's.
    pub server: Duration,
}

/// Returns the processor time of the client's side of one handshake, without any socket: the mean of `count`.
pub fn processor_time(count: u32) -> Duration {
    processor_times(count, &[(Groups::Hybrid, Groups::Hybrid)])[0].client
}

/// Returns the processor times of handshakes between a client and a server with these groups each, without any socket: the means
/// of `count`, made in turns.
pub fn processor_times(count: u32, pairs: &[(Groups, Groups)]) -> Vec<Sides> {
    let authority = Authority::create("Floor").expect("an authority can be made");
    let principal = Principal::new("spiffe://bolt.local/floor").expect("a valid principal");
    let operator = authority.issue_client(&principal, Validity::days(30)).expect("a certificate can be issued");
    let (certificate, key) = (operator.cert_pem.as_bytes(), operator.key_pem.as_bytes());
    let root = authority.cert_pem().as_bytes().to_owned();
    let clients: Vec<_> = pairs.iter().map(|(client, _)| config(certificate, key, &root, client.provider())).collect();
    let tls = Tls::new(authority);
    let instance = Instance::new(0, Fault::Healthy, [1, 2]);
    let servers: Vec<_> =
        pairs.iter().map(|(_, server)| tls.config_with(&instance, server.provider().into())).collect();
    let mut total = vec![Sides::default(); pairs.len()];
    for _ in 0..count {
        for (sides, (client, server)) in total.iter_mut().zip(clients.iter().zip(&servers)) {
            shake_hands(client, server, sides);
        }
    }
    let mean = |sides: Sides| Sides { client: sides.client / count.max(1), server: sides.server / count.max(1) };
    total.into_iter().map(mean).collect()
}

/// Performs one handshake, and adds the processor time of each side.
fn shake_hands(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, sides: &mut Sides) {
    let name = ServerName::try_from("instance.invalid").expect("a valid name");
    let mut client =
        timed(&mut sides.client, || ClientConnection::new(client.clone(), name)).expect("a valid configuration");
    let mut server = timed(&mut sides.server, || ServerConnection::new(server.clone())).expect("a valid configuration");
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    while client.is_handshaking() || server.is_handshaking() {
        timed(&mut sides.client, || {
            while client.wants_write() {
                client.write_tls(&mut to_server).expect("memory takes it");
            }
        });
        timed(&mut sides.server, || {
            let mut input = to_server.as_slice();
            while !input.is_empty() {
                server.read_tls(&mut input).expect("memory gives it");
                server.process_new_packets().expect("the client is accepted");
            }
            while server.wants_write() {
                server.write_tls(&mut to_client).expect("memory takes it");
            }
        });
        timed(&mut sides.client, || {
            let mut input = to_client.as_slice();
            while !input.is_empty() {
                client.read_tls(&mut input).expect("memory gives it");
                client.process_new_packets().expect("the server is accepted");
            }
        });
        to_server.clear();
        to_client.clear();
    }
}

/// Adds the processor time of `work` on this thread to `total`.
fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let before = processor_now();
    let done = work();
    *total += processor_now().saturating_sub(before);
    done
}

fn processor_now() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the kernel counts the time of threads");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// Returns the configuration of a caller that verifies the chain, and not the name.
fn config(certificate: &[u8], key: &[u8], authority: &[u8], provider: CryptoProvider) -> Arc<ClientConfig> {
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority).expect("it is PEM")).expect("it is a certificate");
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let chain = CertificateDer::from_pem_slice(certificate).expect("it is PEM");
    let key = PrivateKeyDer::from_pem_slice(key).expect("it is PEM");
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has this version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(verifier.expect("there is an authority"))))
        .with_client_auth_cert(vec![chain], key)
        .expect("certificate and key fit");
    (config.resumption, config.enable_sni) = (Resumption::disabled(), false);
    Arc::new(config)
}

/// Accepts a certificate of the authority for any name: the check of the name costs nothing.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
