//! The authority: its certificate and key, and what it signs.

use std::path::Path;
use std::time::Duration;

use packs_schema::base::name::{InstanceId, Principal};
use packs_schema::base::pem::{Expected, PemError, PemProblem};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use super::check::{self, AuthorityProblem};
use super::request::Request;
use super::subject::Subject;
use super::{CA_CERTIFICATE, CA_KEY, Issued, MAX_FILE, PkiError, Validity, named, params_of, set_validity};
use crate::files;
use crate::tls;

/// Certificate authority that can sign.
pub struct Authority {
    cert_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// Last moment of its validity: nothing that it signs is valid for longer.
    ends: OffsetDateTime,
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

    /// Makes an authority called `name`.
    pub fn create_with(name: &str, validity: Validity) -> Result<Authority, PkiError> {
        let failed = |source| PkiError::Issue { subject: name.to_owned(), source };
        let params = authority_params(name, validity)?;
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
        tls::parse_certificates(&certificate, cert_pem.as_bytes())?;
        tls::parse_key(&key, key_pem.as_bytes())?;
        let unsupported = |_| PemError::new(&key, Expected::Key, PemProblem::Unsupported);
        let pair = KeyPair::from_pem(&key_pem).map_err(unsupported)?;
        let failed = |source| PkiError::Load { path: path.to_owned(), source };
        let ends = check::check(&cert_pem, &pair, OffsetDateTime::now_utc()).map_err(failed)?;
        Authority::of(cert_pem, key_pem, pair, ends).map_err(|_| failed(AuthorityProblem::NoCertificate))
    }

    fn of(cert_pem: String, key_pem: String, key: KeyPair, ends: OffsetDateTime) -> Result<Authority, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key)?;
        Ok(Authority { cert_pem, key_pem, issuer, ends })
    }

    /// Writes `ca.pem` and `ca.key` (mode 0600) into `dir`, which is made when it is missing.
    pub fn write(&self, dir: &Path) -> Result<(), PkiError> {
        let issued = Issued { cert_pem: self.cert_pem.clone(), key_pem: self.key_pem.clone() };
        issued.write(dir, "ca").map(|_| ())
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

    /// Signs a certificate of `subject` for `key`.
    pub(super) fn sign(
        &self,
        subject: &Subject,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<String, PkiError> {
        let failed = |source| PkiError::Issue { subject: subject.uri(), source };
        self.check_lifetime(validity)?;
        let mut params = params_of(subject).map_err(failed)?;
        set_validity(&mut params, validity)?;
        Ok(params.signed_by(key, &self.issuer).map_err(failed)?.pem())
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
        Ok(CertifiedIssuer::self_signed(authority_params(name, validity)?, key).map_err(failed)?.pem())
    }
}

fn authority_params(name: &str, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = named(name);
    set_validity(&mut params, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}
