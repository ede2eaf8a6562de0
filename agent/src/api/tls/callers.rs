//! Verification of a caller's certificate: issued by a configured authority, not revoked, valid now, and for clients; and its
//! principal, for which that authority may vouch.
//!
//! The caller's own certificate must have the extended key usage `clientAuth`. Intermediate authorities may omit the
//! extension, as most do; one that has it must include `clientAuth`. A certificate without a principal, or with one for which its
//! authority may not vouch, passes the handshake, so that each request can be answered with the reason.

use std::sync::Arc;

use packs_schema::agent::config::{ClientAuthority, ExpiredCrl};
use packs_schema::base::certificate::{CLIENT_AUTH, CertificateInfo, short_name};
use packs_schema::base::crl::public_key_content;
use packs_schema::base::name::Principal;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ExtendedKeyPurpose, RootCertStore,
    SignatureScheme,
};

use webpki::EndEntityCert;

use super::crls::Crl;
use super::revocation::Revocation;

/// Maximum number of certificates behind a caller's own. A chain has at most six; each one more is tried with all others, and any
/// holder of a certificate would keep the agent busy for seconds with hundreds.
const MAX_SENT: usize = 16;

/// Authority of callers.
pub(super) struct Authority<'a> {
    pub(super) certificate: &'a CertificateDer<'static>,
    /// Its confinement; `None`: it may vouch for every principal.
    pub(super) confined: Option<&'a ClientAuthority>,
}

/// Verifier of callers.
#[derive(Debug)]
pub(crate) struct CallerVerifier {
    /// Verifiers of the authorities, at least one.
    authorities: Vec<AuthorityVerifier>,
    hints: Vec<DistinguishedName>,
    revocation: Revocation,
}

#[derive(Debug)]
struct AuthorityVerifier {
    /// Distinguished name: the content of its SEQUENCE.
    subject: Vec<u8>,
    /// Public key: the content of its SubjectPublicKeyInfo.
    key: Vec<u8>,
    certificate: CertificateDer<'static>,
    inner: Arc<dyn ClientCertVerifier>,
    confined: Option<ClientAuthority>,
}

impl CallerVerifier {
    /// Builds the verifier. A list that no authority of its name signed is left out and returned by its index.
    pub(super) fn new(
        authorities: &[Authority<'_>],
        crls: &[&Crl],
        expired: ExpiredCrl,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(CallerVerifier, Vec<usize>), String> {
        let mut anchors = Vec::with_capacity(authorities.len());
        for authority in authorities {
            let anchor = webpki::anchor_from_trusted_cert(authority.certificate).map_err(|e| e.to_string())?;
            anchors.push(anchor);
        }
        let (revocation, left_out) = Revocation::new(crls, &anchors, expired, provider);
        let mut built = Vec::with_capacity(authorities.len());
        for (authority, anchor) in authorities.iter().zip(&anchors) {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).map_err(|e| e.to_string())?;
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let inner = builder.build().map_err(|e| e.to_string())?;
            let certificate = authority.certificate.clone();
            let (subject, key) = (anchor.subject.to_vec(), anchor.subject_public_key_info.to_vec());
            built.push(AuthorityVerifier { subject, key, certificate, inner, confined: authority.confined.cloned() });
        }
        if built.is_empty() {
            return Err("there is no authority".to_owned());
        }
        let mut hints: Vec<DistinguishedName> = Vec::new();
        for hint in built.iter().flat_map(|authority| authority.inner.root_hint_subjects()) {
            if !hints.iter().any(|known| known.as_ref() == hint.as_ref()) {
                hints.push(hint.clone());
            }
        }
        Ok((CallerVerifier { authorities: built, hints, revocation }, left_out))
    }

    /// Verifies a caller's chain as a new handshake would, and returns its principal, or the reason why it has none.
    pub(crate) fn identify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Result<Principal, String>, Error> {
        let (first, others) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let mut vouching = self.vouching(first, others, now)?;
        // The TLS library gives up a search that takes too long, and it refuses names that an authority's own certificate excludes:
        // a caller may have a confined authority refuse the chain while another, which has signed that one, accepts it.
        vouching.extend(self.authorities.iter().filter(|authority| authority.is_between(chain)));
        Ok(principal(first).and_then(|principal| {
            // A confined authority confines what it signed also where another authority vouches for it in turn. The lists of
            // principals of one certificate add up.
            let may = |authority: &AuthorityVerifier| {
                authority.confined.as_ref().is_none_or(|confined| confined.may_vouch_for(&principal))
            };
            let confines = |authority: &&&AuthorityVerifier| {
                let same = |other: &&&AuthorityVerifier| {
                    other.confined.is_some() && other.certificate == authority.certificate
                };
                !may(authority) && !vouching.iter().filter(same).any(|other| may(other))
            };
            match vouching.iter().find(confines) {
                None => Ok(principal),
                Some(_) => Err(format!(
                    "the authority that issued the client certificate may not vouch for {principal}: use a certificate of \
                     another authority, or extend principals of its [[tls.client_authority]] in agent.toml"
                )),
            }
        }))
    }

    /// Identifies the caller of a chain that this verifier has accepted; `None` when that depends on the authority that vouches, or on
    /// the time.
    pub(crate) fn identify_verified(&self, chain: &[CertificateDer<'_>]) -> Option<Result<Principal, String>> {
        let is_any_confined = self.authorities.iter().any(|authority| authority.confined.is_some());
        if is_any_confined || self.revocation.refuses_expired() { None } else { chain.first().map(principal) }
    }

    /// Returns the name of the authority that vouches for a caller whose chain was accepted: the first configured one on the way
    /// from its certificate, by the names of the issuers. For people; decides nothing.
    pub(crate) fn authority_of(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        let parsed: Vec<EndEntityCert<'_>> = chain.iter().filter_map(|der| EndEntityCert::try_from(der).ok()).collect();
        let mut at = parsed.first()?;
        for _ in 0..=parsed.len() {
            if let Some(found) = self.authorities.iter().find(|authority| authority.subject == at.issuer()) {
                return short_name(&found.subject);
            }
            at = parsed.iter().find(|certificate| certificate.subject() == at.issuer())?;
        }
        None
    }

    /// Returns the authorities that accept the chain, at least one.
    fn vouching(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Vec<&AuthorityVerifier>, Error> {
        if intermediates.len() > MAX_SENT {
            return Err(Error::General(format!("the caller sent more than {MAX_SENT} certificates of authorities")));
        }
        let (mut accepting, mut refusal) = (Vec::new(), None);
        for authority in &self.authorities {
            match authority.inner.verify_client_cert(end_entity, intermediates, now) {
                Ok(_) => accepting.push(authority),
                // The most telling one: that it is not of the other authorities says little.
                Err(error) if refusal.as_ref().is_none_or(is_of_other_authority) => refusal = Some(error),
                Err(_) => {}
            }
        }
        if accepting.is_empty() {
            return Err(refusal.unwrap_or(CertificateError::UnknownIssuer.into()));
        }
        self.revocation.check(end_entity, intermediates, now)?;
        if CertificateInfo::parse(end_entity).is_some_and(|info| info.has_usage(CLIENT_AUTH)) {
            return Ok(accepting);
        }
        let required = ExtendedKeyPurpose::ClientAuth;
        Err(CertificateError::InvalidPurposeContext { required, presented: Vec::new() }.into())
    }

    fn any(&self) -> &dyn ClientCertVerifier {
        &*self.authorities.first().expect("there is at least one authority").inner
    }
}

impl AuthorityVerifier {
    /// True if a chain has a certificate of this confined authority's key, under whatever name, and one that names it as its issuer.
    fn is_between(&self, chain: &[CertificateDer<'_>]) -> bool {
        if self.confined.is_none() {
            return false;
        }
        let parsed: Vec<EndEntityCert<'_>> = chain.iter().filter_map(|der| EndEntityCert::try_from(der).ok()).collect();
        let is_of_key = |certificate: &&EndEntityCert<'_>| {
            public_key_content(&certificate.subject_public_key_info()).is_some_and(|key| *key == self.key)
        };
        let own: Vec<&[u8]> = parsed.iter().filter(is_of_key).map(|certificate| certificate.subject()).collect();
        parsed.iter().any(|certificate| !is_of_key(&certificate) && own.contains(&certificate.issuer()))
    }
}

fn is_of_other_authority(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.vouching(end_entity, intermediates, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any().supported_verify_schemes()
    }
}

/// Returns the principal in a verified client certificate: its only URI name.
pub(super) fn principal(certificate: &CertificateDer<'_>) -> Result<Principal, String> {
    let parsed = EndEntityCert::try_from(certificate).map_err(|e| format!("the client certificate is damaged: {e}"))?;
    // The library leaves out names that are not UTF-8.
    let count = CertificateInfo::parse(certificate).map_or(0, |info| info.uri_names);
    match (count, parsed.valid_uri_names().next()) {
        (1, Some(name)) => match Principal::new(name) {
            Ok(principal) if principal.is_local() => {
                Err(format!("the client certificate has the URI name {principal}, which is reserved for local access"))
            }
            other => other.map_err(|e| e.to_string()),
        },
        (1, None) => Err("the URI name of the client certificate is not UTF-8".to_owned()),
        (0, _) => Err("the client certificate has no URI name: issue one with `bolt pki issue`".to_owned()),
        (count, _) => Err(format!(
            "the client certificate has {count} URI names, more than one: issue one with the name of its principal only"
        )),
    }
}
