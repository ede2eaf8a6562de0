//! The check of a server's certificate: our authority, now, for servers, and this instance's name.

use std::sync::Arc;

use packs_schema::name::InstanceId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use crate::pki::INSTANCE_URI;

/// The server proved to be another instance than the one that was meant, or none at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate names {}, not {wanted}", reached.as_deref().unwrap_or("no instance"))]
pub(crate) struct WrongInstance {
    /// The instance that was meant.
    pub(crate) wanted: InstanceId,
    /// The instances that its certificate names.
    pub(crate) reached: Option<String>,
}

/// `id-kp-serverAuth` (RFC 5280, section 4.2.1.12). Unlike rustls's own verifier, we insist that it is there.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

#[derive(Debug)]
pub(super) struct InstanceVerifier {
    wanted: InstanceId,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl InstanceVerifier {
    pub(super) fn new(wanted: InstanceId, roots: Arc<RootCertStore>, provider: &CryptoProvider) -> InstanceVerifier {
        InstanceVerifier { wanted, roots, algorithms: provider.signature_verification_algorithms }
    }

    fn check_name(&self, certificate: &EndEntityCert<'_>) -> Result<(), rustls::Error> {
        let named: Vec<&str> = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix(INSTANCE_URI)).collect();
        // More than one name would let one stolen key stand for several instances.
        if named == [self.wanted.as_str()] {
            return Ok(());
        }
        // The names come from a certificate of our own authority, but end up on a terminal all the same.
        let ids: Vec<String> = named
            .iter()
            .take(4)
            .map(|id| match InstanceId::new(*id) {
                Ok(id) => id.to_string(),
                Err(_) => "something that is no instance id".to_owned(),
            })
            .collect();
        let reached = (!ids.is_empty()).then(|| ids.join(" and "));
        let wrong = WrongInstance { wanted: self.wanted.clone(), reached };
        Err(CertificateError::Other(OtherError(Arc::new(wrong))).into())
    }
}

impl ServerCertVerifier for InstanceVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(certificate_error)?;
        let usage = KeyUsage::required(SERVER_AUTH);
        certificate
            .verify_for_usage(self.algorithms.all, &self.roots.roots, intermediates, now, usage, None, None)
            .map_err(certificate_error)?;
        self.check_name(&certificate)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn certificate_error(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { .. } | webpki::Error::InvalidCertValidity => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity => CertificateError::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}
