//! Verifies a server's certificate: signed by the configured authority, valid now, for servers, and with this instance's name.

use std::sync::Arc;

use packs_schema::base::certificate::{CertificateInfo, INSTANCE_URI, SERVER_AUTH};
use packs_schema::base::name::InstanceId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

/// Error returned when the server is another instance than the one that was asked for, or none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate names {}, not {wanted}", reached.as_deref().unwrap_or("no instance"))]
pub(crate) struct WrongInstance {
    /// The instance that was meant.
    pub(crate) wanted: InstanceId,
    /// The instances that its certificate names.
    pub(crate) reached: Option<String>,
}

/// Error returned for a certificate whose extended key usage does not include `serverAuth`. Unlike rustls's own verifier,
/// this one insists that the server's own certificate has it; the authorities between may leave the extension out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotForServers {
    /// The server's own certificate.
    #[error("its certificate is not one for servers: its extended key usage lacks serverAuth")]
    Leaf,
    /// The certificate of an authority between it and the configured one.
    #[error(
        "an intermediate authority of its certificate may not issue for servers: the authority's extended key usage is \
         there and lacks serverAuth"
    )]
    Authority,
}

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
        // With more than one name a stolen key would serve for several instances.
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
        Err(other(wrong).into())
    }
}

fn is_for_servers(certificate: &CertificateDer<'_>) -> bool {
    CertificateInfo::parse(certificate).is_some_and(|info| info.has_usage(SERVER_AUTH))
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(error)))
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
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(|error| match error {
                webpki::Error::RequiredEkuNotFoundContext(_) if is_for_servers(end_entity) => {
                    other(NotForServers::Authority)
                }
                webpki::Error::RequiredEkuNotFoundContext(_) => other(NotForServers::Leaf),
                error => certificate_error(error),
            })?;
        if !is_for_servers(end_entity) {
            return Err(other(NotForServers::Leaf).into());
        }
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
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        error => other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyPair, SanType,
    };

    fn authority(name: &str, usages: &[Usage]) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = usages.to_vec();
        (params, KeyPair::generate().unwrap())
    }

    /// Verifies the chain root, intermediate with `between`, leaf with `own`.
    fn verify(between: &[Usage], own: &[Usage]) -> Result<(), String> {
        let (params, key) = authority("root", &[]);
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).unwrap().der().clone()).unwrap();
        let root = Issuer::new(params, key);
        let (params, key) = authority("issuing", between);
        let intermediate = params.signed_by(&key, &root).unwrap();
        let issuing = Issuer::new(params, key);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI("bolt://instance/i-1".try_into().unwrap())];
        params.extended_key_usages = own.to_vec();
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuing).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier = InstanceVerifier::new(InstanceId::new("i-1").unwrap(), Arc::new(roots), &provider);
        let name = ServerName::try_from("i-1").unwrap();
        let chain = [intermediate.der().clone()];
        let verified = verifier.verify_server_cert(leaf.der(), &chain, &name, &[], UnixTime::now());
        verified.map(|_| ()).map_err(|error| crate::error::Kind::from_tls(&error).to_string())
    }

    #[test]
    fn the_server_needs_the_usage_and_the_authorities_between_may_leave_it_out() {
        let (server, client) = (Usage::ServerAuth, Usage::ClientAuth);
        assert_eq!(verify(&[], std::slice::from_ref(&server)), Ok(()));
        assert_eq!(verify(&[server.clone(), client.clone()], std::slice::from_ref(&server)), Ok(()));
        let said = verify(std::slice::from_ref(&client), std::slice::from_ref(&server)).unwrap_err();
        assert!(said.contains("intermediate authority"), "{said}");
        for (between, own) in [(vec![], vec![client.clone()]), (vec![], vec![]), (vec![server.clone()], vec![])] {
            let said = verify(&between, &own).unwrap_err();
            assert!(said.contains("its certificate is not one for servers"), "{said}");
        }
    }
}
