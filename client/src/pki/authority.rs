//! The authority: its certificate and key, and what it signs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use packs_schema::base::name::{InstanceId, Principal};
use packs_schema::base::pem::{Expected, PemError, PemProblem};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::check::{self, AuthorityProblem};
use super::journal::{IssuedCertificate, Journal, Record, journal_path};
use super::request::Request;
use super::subject::Subject;
use super::{CA_CERTIFICATE, CA_KEY, Issued, MAX_FILE, PkiError, Validity, named, params_of, pem, set_validity};
use crate::files;
use crate::tls;

/// Certificate authority that can sign.
pub struct Authority {
    cert_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// Last moment of its validity: nothing that it signs is valid for longer.
    ends: OffsetDateTime,
    /// Certificates that follow what it signs: its own, when another authority signed it, and those between it and the root.
    chain: String,
    /// Its certificate's file; `None` while it has no files.
    file: Option<PathBuf>,
    /// Where it records what it signs; `None` while it has no files.
    journal: Option<PathBuf>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority called `name`, valid for ten years.
    pub fn create(name: &str) -> Result<Authority, PkiError> {
        Authority::create_with(name, Validity::days(3650))
    }

    /// Makes an authority called `name`, which signs no other authority.
    pub fn create_with(name: &str, validity: Validity) -> Result<Authority, PkiError> {
        Authority::create_root(name, validity, 0)
    }

    /// Makes an authority called `name` below which there may be `path_length` intermediate authorities.
    pub fn create_root(name: &str, validity: Validity, path_length: u8) -> Result<Authority, PkiError> {
        let failed = |source| PkiError::Issue { subject: name.to_owned(), source };
        let params = authority_params(name, validity, Some(path_length))?;
        let key = KeyPair::generate().map_err(failed)?;
        let key_pem = key.serialize_pem();
        let cert_pem = CertifiedIssuer::self_signed(params, key).map_err(failed)?.pem();
        let key = KeyPair::from_pem(&key_pem).map_err(failed)?;
        Authority::of(cert_pem, key_pem, key, validity.not_after).map_err(failed)
    }

    /// Loads the authority whose files are in a directory, or whose certificate is a file with its key beside it
    /// (`<name>.key` for `<name>.pem`).
    pub fn load(path: &Path) -> Result<Authority, PkiError> {
        let (certificate, key) = match path.is_file() {
            true => (path.to_owned(), path.with_extension("key")),
            false => (path.join(CA_CERTIFICATE), path.join(CA_KEY)),
        };
        let cert_pem = files::read_text(&certificate, MAX_FILE)?;
        let key_pem = files::read_private_text(&key, MAX_FILE)?;
        // Errors about the key are ours: those of a library may quote it.
        let certificates = tls::parse_certificates(&certificate, cert_pem.as_bytes())?;
        tls::parse_key(&key, key_pem.as_bytes())?;
        let unsupported = |_| PemError::new(&key, Expected::Key, PemProblem::Unsupported);
        let pair = KeyPair::from_pem(&key_pem).map_err(unsupported)?;
        let failed = |source| PkiError::Load { path: certificate.clone(), source };
        let ends = check::check(&cert_pem, &pair, OffsetDateTime::now_utc()).map_err(failed)?;
        let mut authority =
            Authority::of(cert_pem, key_pem, pair, ends).map_err(|_| failed(AuthorityProblem::NoCertificate))?;
        if !certificates.first().is_some_and(|own| is_root(own)) {
            authority.chain = certificates.iter().filter(|between| !is_root(between)).map(pem).collect();
        }
        (authority.file, authority.journal) = (Some(certificate), Some(journal_path(path)));
        Ok(authority)
    }

    fn of(cert_pem: String, key_pem: String, key: KeyPair, ends: OffsetDateTime) -> Result<Authority, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key)?;
        Ok(Authority { cert_pem, key_pem, issuer, ends, chain: String::new(), file: None, journal: None })
    }

    /// Writes `ca.pem` and `ca.key` (mode 0600) into `dir`, which is made when it is missing.
    pub fn write(&self, dir: &Path) -> Result<(), PkiError> {
        let issued = Issued { cert_pem: self.cert_pem.clone(), key_pem: self.key_pem.clone() };
        issued.write(dir, "ca").map(|_| ())
    }

    /// Returns the certificates that follow what it signs, in PEM; empty for a root.
    pub(super) fn chain(&self) -> &str {
        &self.chain
    }

    /// Returns the journal's file, when the authority was loaded from files.
    pub fn journal(&self) -> Option<&Path> {
        self.journal.as_deref()
    }

    /// Returns the certificate's file, when the authority was loaded from files.
    pub(super) fn certificate_file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(super) fn ends(&self) -> OffsetDateTime {
        self.ends
    }

    /// True if this authority signed the certificate.
    pub(super) fn has_signed(&self, certificate: &X509Certificate<'_>) -> bool {
        let own = self.certificate();
        let Ok((_, own)) = X509Certificate::from_der(&own) else { return false };
        certificate.issuer() == own.subject() && certificate.verify_signature(Some(own.public_key())).is_ok()
    }

    pub(super) fn sign_crl(&self, params: &CertificateRevocationListParams) -> Result<String, rcgen::Error> {
        params.signed_by(&self.issuer)?.pem()
    }

    /// Returns the authority's own certificate in PEM, which agents and clients trust.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    #[cfg(test)]
    pub(super) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Issues a certificate by which clients know the agent of `id`.
    pub fn issue_instance(&self, id: &InstanceId, validity: Validity) -> Result<Issued, PkiError> {
        self.issue_instance_at(id, &[], validity)
    }

    /// Issues the same with `addresses` (host names or IP addresses) for programs that check these; Bolt does not.
    pub fn issue_instance_at(
        &self,
        id: &InstanceId,
        addresses: &[String],
        validity: Validity,
    ) -> Result<Issued, PkiError> {
        self.issue(&Subject::Instance { id: id.clone(), addresses: addresses.to_vec() }, validity)
    }

    /// Issues a certificate by which agents know the caller as `principal`.
    pub fn issue_client(&self, principal: &Principal, validity: Validity) -> Result<Issued, PkiError> {
        self.issue(&Subject::Client(principal.clone()), validity)
    }

    fn issue(&self, subject: &Subject, validity: Validity) -> Result<Issued, PkiError> {
        let key = KeyPair::generate().map_err(|source| PkiError::Issue { subject: subject.uri(), source })?;
        Ok(Issued { cert_pem: self.sign(subject, &key, validity)?, key_pem: key.serialize_pem() })
    }

    /// Signs the key of a request for the names that it asks for. The caller has confirmed them.
    pub fn sign_request(&self, request: &Request, validity: Validity) -> Result<String, PkiError> {
        self.sign(&request.subject, &request.key, validity)
    }

    /// Signs a certificate of `subject` for `key`; the chain follows it.
    pub(super) fn sign(
        &self,
        subject: &Subject,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<String, PkiError> {
        let failed = |source| PkiError::Issue { subject: subject.uri(), source };
        let mut params = params_of(subject).map_err(failed)?;
        set_validity(&mut params, validity)?;
        self.sign_params(&subject.uri(), params, key, validity)
    }

    /// Signs a certificate, and records it before it is returned. The chain follows it.
    pub(super) fn sign_params(
        &self,
        name: &str,
        params: CertificateParams,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<String, PkiError> {
        let failed = |source| PkiError::Issue { subject: name.to_owned(), source };
        self.check_lifetime(validity)?;
        let certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        self.record(certificate.der())?;
        Ok(certificate.pem() + &self.chain)
    }

    fn record(&self, der: &[u8]) -> Result<(), PkiError> {
        let Some(path) = &self.journal else { return Ok(()) };
        let now = jiff::Timestamp::now();
        let issued = IssuedCertificate::of(der, Some(now)).expect("it was just encoded");
        let mut journal = Journal::open(path)?;
        // Lists are attributed to authorities by name: two keys under one name would be confused. A renewal keeps the key.
        let is_taken = |other: &&IssuedCertificate| {
            other.authority
                && other.subject == issued.subject
                && other.key_sha256 != issued.key_sha256
                && other.not_after >= now
        };
        if issued.authority
            && let Some(other) = journal.content().certificates.iter().find(is_taken)
        {
            let source =
                AuthorityProblem::NameTaken { serial: other.serial.to_string(), ends: other.not_after.to_string() };
            return Err(PkiError::Intermediate { name: issued.subject, source });
        }
        // Here, since another operator may have revoked it since the command began.
        let is_compromised = |other: &&IssuedCertificate| {
            let revocation = journal.content().revocation(&other.serial);
            other.key_sha256 == issued.key_sha256 && revocation.is_some_and(|revoked| revoked.reason.is_compromise())
        };
        if let Some(other) = journal.content().certificates.iter().find(is_compromised) {
            let name = issued.uri.unwrap_or(issued.subject);
            return Err(PkiError::CompromisedKey { name, serial: other.serial.clone() });
        }
        Ok(journal.append(vec![Record::Issued(issued)])?)
    }

    /// Refuses a certificate that would outlive the authority.
    fn check_lifetime(&self, validity: Validity) -> Result<(), PkiError> {
        // A second more: a certificate counts whole seconds.
        if validity.not_after > self.ends + Duration::from_secs(1) {
            let left = self.ends - OffsetDateTime::now_utc();
            return Err(PkiError::Outlives { ends: check::shown(self.ends), days: left.whole_days().max(0) });
        }
        Ok(())
    }

    /// Returns the authority's own certificate in DER.
    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).expect("it was parsed when the authority was loaded")
    }

    /// Returns a certificate of this authority with the same name and key.
    pub(super) fn renewed(&self, name: &str, validity: Validity) -> Result<String, PkiError> {
        let failed = |source| PkiError::Issue { subject: name.to_owned(), source };
        let key = KeyPair::from_pem(&self.key_pem).map_err(failed)?;
        let own = self.certificate();
        let length = X509Certificate::from_der(&own).ok().and_then(|(_, own)| path_length(&own));
        let params = authority_params(name, validity, length)?;
        let renewed = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        self.record(renewed.der())?;
        Ok(renewed.pem())
    }
}

/// True for a certificate that names itself as its issuer.
fn is_root(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.issuer() == certificate.subject())
}

/// Returns the number of intermediate authorities that there may be below an authority; `None`: any number.
pub(super) fn path_length(certificate: &X509Certificate<'_>) -> Option<u8> {
    let constraints = certificate.basic_constraints().ok().flatten()?;
    constraints.value.path_len_constraint.map(|length| u8::try_from(length).unwrap_or(u8::MAX))
}

/// Returns the parameters of an authority's certificate.
pub(super) fn authority_params(
    name: &str,
    validity: Validity,
    path_length: Option<u8>,
) -> Result<CertificateParams, PkiError> {
    let mut params = named(name);
    set_validity(&mut params, validity)?;
    params.is_ca = IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}
