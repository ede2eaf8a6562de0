//! Verification of a caller's certificate: issued by a configured authority, valid now, and for clients; and its principal.
//!
//! The caller's own certificate must have the extended key usage `clientAuth`. Intermediate authorities may omit the
//! extension, as most do; one that has it must include `clientAuth`.

use std::sync::Arc;

use packs_schema::base::certificate::{CLIENT_AUTH, CertificateInfo};
use packs_schema::base::name::Principal;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, ExtendedKeyPurpose, SignatureScheme};

#[derive(Debug)]
pub(crate) struct CallerVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl CallerVerifier {
    pub(super) fn new(inner: Arc<dyn ClientCertVerifier>) -> CallerVerifier {
        CallerVerifier { inner }
    }

    /// Verifies a caller's chain as a new handshake would.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let (first, others) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.verify_client_cert(first, others, now).map(|_| ())
    }
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if CertificateInfo::parse(end_entity).is_some_and(|info| info.has_usage(CLIENT_AUTH)) {
            Ok(verified)
        } else {
            let required = ExtendedKeyPurpose::ClientAuth;
            Err(CertificateError::InvalidPurposeContext { required, presented: Vec::new() }.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Returns the principal in a verified client certificate: its only URI name.
pub(crate) fn principal(certificates: Option<&[CertificateDer<'_>]>) -> Result<Principal, String> {
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
