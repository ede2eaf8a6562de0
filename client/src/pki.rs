//! A small certificate authority, for those who have none: it names instances and principals.
//!
//! Comes in: a directory with `ca.pem` and `ca.key`, and a name. Goes out: a certificate and its key in
//! PEM, signed by that authority. An instance's certificate serves TLS and names
//! `bolt://instance/<id>`; a principal's starts TLS and names the principal; neither can do the other's
//! part, or sign. Keys are ECDSA P-256.
//!
//! Must never: overwrite a file, or leave a key where others can read it.

mod authority;

use std::path::{Path, PathBuf};
use std::time::Duration;

use packs_schema::base::name::{InstanceId, Principal};
use packs_schema::base::pem::{Expected, PemError, PemProblem};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use crate::files::{self, FileError};
use crate::tls;

pub use authority::AuthorityProblem;
pub use packs_schema::base::certificate::INSTANCE_URI;

/// The authority's certificate within its directory.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// The authority's key within its directory.
pub const CA_KEY: &str = "ca.key";
/// The largest file that is read here, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The authority's certificate or key is damaged, or of an unsupported kind.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The authority's files are not what they should be.
    #[error("{path} holds no certificate authority that can sign", path = crate::show::path(path))]
    Load {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        source: AuthorityProblem,
    },
    /// The certificate would outlive the authority, and be refused from then on.
    #[error("the authority ends at {ends}, before the certificate would: give it at most --days {days}")]
    Outlives {
        /// When the authority ends.
        ends: String,
        /// The most days that are left.
        days: i64,
    },
    /// The certificate could not be signed.
    #[error("cannot make a certificate for {subject}")]
    Issue {
        /// For whom.
        subject: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// The certificate would end before it begins.
    #[error("the certificate would be valid from {0} to {1}: give it a longer life")]
    Validity(OffsetDateTime, OffsetDateTime),
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: OffsetDateTime,
    /// The last moment.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From five minutes ago, for clocks that differ, until `days` from now.
    pub fn days(days: u32) -> Validity {
        let now = OffsetDateTime::now_utc();
        Validity {
            not_before: now - Duration::from_secs(300),
            not_after: now + Duration::from_secs(u64::from(days) * 86_400),
        }
    }
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Issued {
    /// Writes `<stem>.pem` and `<stem>.key` (mode 0600) into `dir`, which is made when it is missing.
    pub fn write(&self, dir: &Path, stem: &str) -> Result<(PathBuf, PathBuf), PkiError> {
        let (certificate, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        files::create_dir(dir)?;
        files::refuse_existing(&[&certificate, &key])?;
        files::write_new(&key, self.key_pem.as_bytes(), 0o600)?;
        files::write_new(&certificate, self.cert_pem.as_bytes(), 0o644)?;
        Ok((certificate, key))
    }
}

/// A certificate authority that can sign.
pub struct Authority {
    cert_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// Nothing that it signs is valid for longer.
    ends: OffsetDateTime,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority called `name`, valid for ten years.
    pub fn create(name: &str) -> Result<Authority, PkiError> {
        Authority::create_with(name, Validity::days(3650))
    }

    /// A new authority called `name`.
    pub fn create_with(name: &str, validity: Validity) -> Result<Authority, PkiError> {
        let failed = |source| PkiError::Issue { subject: name.to_owned(), source };
        let mut params = params(name, validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let key_pem = key.serialize_pem();
        let cert_pem = CertifiedIssuer::self_signed(params, key).map_err(failed)?.pem();
        let key = KeyPair::from_pem(&key_pem).map_err(failed)?;
        Authority::of(cert_pem, key_pem, key, validity.not_after).map_err(failed)
    }

    /// The authority whose files lie in `dir`.
    pub fn load(dir: &Path) -> Result<Authority, PkiError> {
        let (certificate, key) = (dir.join(CA_CERTIFICATE), dir.join(CA_KEY));
        let cert_pem = files::read_text(&certificate, MAX_FILE)?;
        let key_pem = files::read_private_text(&key, MAX_FILE)?;
        // Errors about the key are ours: those of a library may quote it.
        tls::parse_certificates(&certificate, cert_pem.as_bytes())?;
        tls::parse_key(&key, key_pem.as_bytes())?;
        let unsupported = |_| PemError::new(&key, Expected::Key, PemProblem::Unsupported);
        let pair = KeyPair::from_pem(&key_pem).map_err(unsupported)?;
        let failed = |source| PkiError::Load { path: dir.to_owned(), source };
        let ends = authority::check(&cert_pem, &pair, OffsetDateTime::now_utc()).map_err(failed)?;
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

    /// The authority's own certificate: what agents and clients trust.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// A certificate by which the agent of `id` is known.
    pub fn issue_instance(&self, id: &InstanceId, validity: Validity) -> Result<Issued, PkiError> {
        self.issue_instance_at(id, &[], validity)
    }

    /// The same with `addresses` (host names or IP addresses) for programs that check these; Bolt does not. The id stands
    /// there as a host name already, where it can be one: `curl --resolve <id>:8443:<address>` verifies it.
    pub fn issue_instance_at(
        &self,
        id: &InstanceId,
        addresses: &[String],
        validity: Validity,
    ) -> Result<Issued, PkiError> {
        let mut names = vec![format!("{INSTANCE_URI}{id}")];
        names.extend(is_host_name(id.as_str()).then(|| id.to_string()));
        for address in addresses.iter().filter(|address| address.as_str() != id.as_str()) {
            names.push(address.clone());
        }
        self.issue(id.as_str(), &names, ExtendedKeyUsagePurpose::ServerAuth, validity)
    }

    /// A certificate by which agents know the caller as `principal`.
    pub fn issue_client(&self, principal: &Principal, validity: Validity) -> Result<Issued, PkiError> {
        let names = [principal.to_string()];
        self.issue(principal.as_str(), &names, ExtendedKeyUsagePurpose::ClientAuth, validity)
    }

    fn issue(
        &self,
        subject: &str,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<Issued, PkiError> {
        let failed = |source| PkiError::Issue { subject: subject.to_owned(), source };
        // A second more: a certificate counts whole seconds.
        if validity.not_after > self.ends + Duration::from_secs(1) {
            let left = self.ends - OffsetDateTime::now_utc();
            return Err(PkiError::Outlives { ends: authority::shown(self.ends), days: left.whole_days().max(0) });
        }
        let mut params = params(subject, validity)?;
        params.subject_alt_names =
            names.iter().map(|name| alternative(name)).collect::<Result<_, _>>().map_err(failed)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

fn params(subject: &str, validity: Validity) -> Result<CertificateParams, PkiError> {
    let Validity { not_before, not_after } = validity;
    if not_after <= not_before {
        return Err(PkiError::Validity(not_before, not_after));
    }
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    // A common name has at most 64 characters (RFC 5280, upper bounds); the URI is what counts.
    name.push(DnType::CommonName, subject.chars().take(64).collect::<String>());
    params.distinguished_name = name;
    (params.not_before, params.not_after) = (not_before, not_after);
    Ok(params)
}

/// True for what can be a DNS name in a certificate: labels of letters, digits and inner hyphens (RFC 5280, 4.2.1.6).
pub fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // All digits in the last label would be an IP address.
    text.len() <= 253
        && text.split('.').all(label)
        && !text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

fn alternative(name: &str) -> Result<SanType, rcgen::Error> {
    if name.contains("://") {
        return Ok(SanType::URI(name.to_owned().try_into()?));
    }
    match name.parse() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => Ok(SanType::DnsName(name.to_owned().try_into()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_authority_reads_back_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        Authority::create("test").unwrap().write(&ca).unwrap();
        let mode = std::fs::metadata(ca.join(CA_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Authority::load(&ca).unwrap();
        let id = InstanceId::new("i-1").unwrap();
        assert!(again.issue_instance_at(&id, &["127.0.0.1".into(), "localhost".into()], Validity::days(1)).is_ok());
    }

    /// Loads an authority whose files are these.
    fn loaded(cert_pem: &str, key_pem: &str) -> Result<Authority, String> {
        let dir = tempfile::tempdir().unwrap();
        let issued = Issued { cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned() };
        issued.write(dir.path(), "ca").unwrap();
        Authority::load(dir.path()).map_err(|error| match error {
            PkiError::Load { source, .. } => source.to_string(),
            other => other.to_string(),
        })
    }

    #[test]
    fn what_is_no_authority_signs_nothing() {
        let (one, two) = (Authority::create("one").unwrap(), Authority::create("two").unwrap());
        assert!(loaded(&one.cert_pem, &two.key_pem).unwrap_err().contains("not the key of ca.pem"));
        let leaf = one.issue_instance(&InstanceId::new("i-1").unwrap(), Validity::days(1)).unwrap();
        assert!(loaded(&leaf.cert_pem, &leaf.key_pem).unwrap_err().contains("CA:TRUE"));
        let now = OffsetDateTime::now_utc();
        let hours = |from: i64, to: i64| Validity {
            not_before: now + time::Duration::hours(from),
            not_after: now + time::Duration::hours(to),
        };
        let old = Authority::create_with("old", hours(-2, -1)).unwrap();
        assert!(loaded(&old.cert_pem, &old.key_pem).unwrap_err().contains("expired at"));
        let early = Authority::create_with("early", hours(1, 2)).unwrap();
        assert!(loaded(&early.cert_pem, &early.key_pem).unwrap_err().contains("not valid before"));
        for (pem, words) in [
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "is encrypted"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "OpenSSH"),
            ("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "openssl"),
            ("AAAA", "no line that begins with -----BEGIN"),
        ] {
            let error = loaded(&one.cert_pem, pem).unwrap_err();
            assert!(error.contains(words) && !error.contains("AAAA"), "{error}");
        }
        assert!(loaded("AAAA", &one.key_pem).unwrap_err().contains("no usable certificate"));
        assert!(loaded(&one.cert_pem, &one.key_pem).is_ok());
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        let short = Authority::create_with("short", Validity::days(10)).unwrap();
        let id = InstanceId::new("i-1").unwrap();
        assert!(short.issue_instance(&id, Validity::days(9)).is_ok());
        let error = short.issue_instance(&id, Validity::days(365)).unwrap_err().to_string();
        assert!(error.contains("--days 9"), "{error}");
    }

    #[test]
    fn an_id_that_can_be_a_host_name_is_one() {
        for (id, can) in
            [("i-0abc", true), ("web.example-1.org", true), ("a_b", false), ("x-", false), ("10.0.0.7", false)]
        {
            assert_eq!(is_host_name(id), can, "{id}");
        }
        assert!(!is_host_name(&"a".repeat(64)));
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create("test").unwrap();
        authority.write(dir.path()).unwrap();
        let before = std::fs::read(dir.path().join(CA_KEY)).unwrap();
        let error = Authority::create("other").unwrap().write(dir.path()).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
        assert_eq!(std::fs::read(dir.path().join(CA_KEY)).unwrap(), before);
    }

    #[test]
    fn a_life_that_ends_before_it_begins_is_refused() {
        let now = OffsetDateTime::now_utc();
        let validity = Validity { not_before: now, not_after: now - Duration::from_secs(1) };
        assert!(matches!(Authority::create_with("x", validity), Err(PkiError::Validity(..))));
    }
}
