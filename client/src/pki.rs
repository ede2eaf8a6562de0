//! A small certificate authority, for those who have none: it names instances and callers.
//!
//! ```text
//!  init ──▶ ca.pem, ca.key            issue ──▶ certificate and key, both made by the authority's owner
//!  csr  ──▶ key and request on the host that uses them; sign ──▶ certificate    the key never leaves its host
//!  renew ─▶ a new certificate for the names of an old one
//!  revoke ─▶ ca.journal ─▶ crl ─▶ ca.crl, which agents read    intermediate ─▶ an authority below an offline root
//! ```
//!
//! An instance's certificate is for TLS servers and names `bolt://instance/<id>`; a caller's is for TLS clients and names
//! its principal. Neither can be used as the other, or sign. Keys are ECDSA P-256.
//!
//! An authority with files keeps a journal of all that it signs (`journal.rs`).
//!
//! Invariants: only `renew` and `crl` replace a file, by its like (`outputs.rs`) and atomically: a new key and its certificate
//! together, or neither; no key is readable by others.

mod authority;
mod check;
mod describe;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod intermediate;
mod journal;
mod outputs;
mod renew;
mod request;
mod revoke;
mod serial;
mod subject;

use std::path::{Path, PathBuf};
use std::time::Duration;

use packs_schema::base::pem::PemError;
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SanType, SerialNumber};
use time::OffsetDateTime;

use crate::files::{self, FileError};

pub use authority::Authority;
pub use check::AuthorityProblem;
pub use describe::{Description, describe};
pub use intermediate::{Intermediate, ROOT_CERTIFICATE};
pub use journal::{
    IssuedCertificate, JournalContent, JournalError, ListRecord, RevocationReason, RevokedCertificate, crl_path,
    journal_path,
};
pub use outputs::OutputProblem;
pub use packs_schema::base::certificate::INSTANCE_URI;
pub use renew::{RenewProblem, Renewal, Renewed};
pub use request::{NewRequest, Request, RequestProblem};
pub use revoke::{Revocable, RevokeProblem, Revoked};
pub use serial::{Serial, SerialError};
pub(crate) use subject::names_instance;
pub use subject::{Subject, SubjectProblem};

/// File name of the authority's certificate in its directory.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// File name of the authority's key in its directory.
pub const CA_KEY: &str = "ca.key";
/// Maximum size of a file that is read here, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// Error returned when a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The authority's certificate or key is damaged, or of an unsupported kind.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The authority's files do not make an authority that can sign.
    #[error("{path} holds no certificate authority that can sign", path = crate::show::path(path))]
    Load {
        /// Its certificate.
        path: PathBuf,
        /// The problem.
        source: AuthorityProblem,
    },
    /// The file that would be written is the authority's, or holds something else than what replaces it.
    #[error("cannot write {path}", path = crate::show::path(path))]
    Output {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: OutputProblem,
    },
    /// The file holds no request that can be signed.
    #[error("{path} cannot be signed", path = crate::show::path(path))]
    Request {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: RequestProblem,
    },
    /// The certificate cannot be renewed.
    #[error("{path} cannot be renewed", path = crate::show::path(path))]
    Renew {
        /// The certificate's file.
        path: PathBuf,
        /// The error.
        source: RenewProblem,
    },
    /// The certificate cannot be revoked.
    #[error("cannot revoke {what}")]
    Revoke {
        /// File, serial number or name.
        what: String,
        /// The error.
        source: RevokeProblem,
    },
    /// The authority has no files, and so no journal, in which revocations and lists are recorded.
    #[error("the authority has no journal: load it from the directory with its files")]
    NoJournal,
    /// The revocation list could not be signed.
    #[error("cannot make the revocation list {path}", path = crate::show::path(path))]
    Crl {
        /// Its file.
        path: PathBuf,
        /// The error.
        source: rcgen::Error,
    },
    /// The authority can sign no intermediate of this name.
    #[error("cannot make the intermediate authority {name}", name = crate::show::visible(name))]
    Intermediate {
        /// Its name.
        name: String,
        /// The problem.
        source: AuthorityProblem,
    },
    /// The authority's journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The certificate would outlive the authority, and be refused from then on.
    #[error("the authority ends at {ends}, before the certificate would: give it at most --days {days}")]
    Outlives {
        /// When the authority ends.
        ends: String,
        /// The most days that are left.
        days: i64,
    },
    /// The key was revoked as compromised: whoever has it could use the new certificate as well.
    #[error(
        "the key of {name} is that of the certificate {serial}, which is revoked as compromised: make a request with a new key, \
         or renew with --new-key",
        name = crate::show::visible(name)
    )]
    CompromisedKey {
        /// Owner of the certificate.
        name: String,
        /// Serial number of the revoked certificate.
        serial: Serial,
    },
    /// The certificate could not be signed.
    #[error("cannot make a certificate for {subject}")]
    Issue {
        /// For whom.
        subject: String,
        /// The error.
        source: rcgen::Error,
    },
    /// The certificate would end before it begins.
    #[error("the certificate would be valid from {0} to {1}: give it a longer life")]
    Validity(OffsetDateTime, OffsetDateTime),
}

/// Period in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: OffsetDateTime,
    /// The last moment.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// Returns the period from five minutes ago, for clocks that differ, until `days` from now.
    pub fn days(days: u32) -> Validity {
        let now = OffsetDateTime::now_utc();
        Validity {
            not_before: now - Duration::from_secs(300),
            not_after: now + Duration::from_secs(u64::from(days) * 86_400),
        }
    }

    /// Returns the period of this length that begins five minutes ago.
    fn lasting(length: time::Duration) -> Validity {
        let not_before = OffsetDateTime::now_utc() - Duration::from_secs(300);
        Validity { not_before, not_after: not_before.saturating_add(length) }
    }
}

/// Certificate and its private key, in PEM.
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

/// Returns the parameters of a certificate of `subject`, without its validity.
fn params_of(subject: &Subject) -> Result<CertificateParams, rcgen::Error> {
    let mut params = named(subject.common_name());
    params.subject_alt_names = subject.names().iter().map(|name| alternative(name)).collect::<Result<_, _>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![subject.usage()];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    // A common name has at most 64 characters (RFC 5280, upper bounds); the URI is what counts.
    name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
    params.distinguished_name = name;
    params
}

/// Sets validity and a new serial number: a certificate is about to be signed.
fn set_validity(params: &mut CertificateParams, validity: Validity) -> Result<(), PkiError> {
    let Validity { not_before, not_after } = validity;
    if not_after <= not_before {
        return Err(PkiError::Validity(not_before, not_after));
    }
    (params.not_before, params.not_after) = (not_before, not_after);
    // The library's default is a hash of the key: a renewed certificate would have the serial of the old one, and be revoked
    // with it. Requests have no serial.
    params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::now_v7().as_bytes()));
    Ok(())
}

/// Returns the SHA-256 of a public key (SubjectPublicKeyInfo, DER) in hexadecimal digits.
fn fingerprint(public_key: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(public_key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Encodes a certificate in PEM.
fn pem(certificate: &rustls::pki_types::CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned());
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.collect::<Vec<_>>().join("\n"))
}

/// True if `text` can be a DNS name in a certificate: labels of letters, digits and inner hyphens (RFC 5280, 4.2.1.6).
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
mod tests;
