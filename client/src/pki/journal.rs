//! Journal of an authority: every certificate that it issued or revoked, and the numbers of its revocation lists.
//!
//! Lines of JSON in `<name>.journal` beside `<name>.pem`, only ever appended. A record is durable before the certificate or list is
//! handed out, so that none exists which the journal lacks. Writers exclude one another by a lock on the file (flock(2)), which
//! they hold from the first read to the last append. A last line without its end is what a crash left of a record that was not
//! acknowledged; the next writer removes it. Any other line that cannot be read is an error.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::serial::Serial;
use super::{CA_CERTIFICATE, fingerprint};

/// Maximum length of a line, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// Error returned when the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or locked.
    #[error("cannot read the authority's journal {path}", path = crate::show::path(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A record cannot be written; nothing was issued or revoked.
    #[error("cannot write the authority's journal {path}; nothing was signed or revoked", path = crate::show::path(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The authority has no journal.
    #[error(
        "{path} does not exist: the journal begins with the first certificate that the authority signs; if it has signed any, \
         restore the file from a backup",
        path = crate::show::path(.0)
    )]
    Missing(PathBuf),
    /// The authority has made lists, and its journal is not there any more.
    #[error(
        "{journal} does not exist, but the list {list} does: a list without the journal would take every revocation back; \
         restore {journal} from a backup",
        journal = crate::show::path(journal), list = crate::show::path(list)
    )]
    Lost {
        /// The journal.
        journal: PathBuf,
        /// The list.
        list: PathBuf,
    },
    /// The journal is an older copy than the list that would be replaced.
    #[error(
        "{journal} is older than {list}: the next list would have the number {next}, and that one has the number {number}; \
         restore the newest copy of {journal}. If there is none, revoke again what the list names (`openssl crl -noout -text \
         -in {list}`), move the list away and repeat this until the number is higher: agents refuse lower ones",
        journal = crate::show::path(journal), list = crate::show::path(list)
    )]
    Older {
        /// The journal.
        journal: PathBuf,
        /// The list.
        list: PathBuf,
        /// Number of the next list.
        next: u64,
        /// Number of the list.
        number: u64,
    },
    /// The list that would be replaced names a certificate that the next one would not.
    #[error(
        "{list} names the certificate {serial}, and {journal} does not say that it is revoked: a list without it would take \
         the revocation back; restore the newest copy of {journal}, or revoke the certificate again (`bolt pki revoke --serial \
         {serial}`, or by its file)",
        journal = crate::show::path(journal), list = crate::show::path(list)
    )]
    TakesBack {
        /// The journal.
        journal: PathBuf,
        /// The list.
        list: PathBuf,
        /// Serial number of the certificate.
        serial: Serial,
    },
    /// A line is damaged, or of a later version.
    #[error(
        "line {line} of {path} is damaged or of a later version: {message}; restore the file from a backup",
        path = crate::show::path(path)
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The problem.
        message: String,
    },
}

/// Returns the journal of the authority in a directory, or of the one whose certificate is this file.
pub fn journal_path(authority: &Path) -> PathBuf {
    // A directory that is missing is no certificate of that name.
    let is_directory = authority.is_dir() || !authority.exists() && authority.extension().is_none();
    let certificate = if is_directory { authority.join(CA_CERTIFICATE) } else { authority.to_owned() };
    certificate.with_extension("journal")
}

/// Returns the file in which an authority makes its revocation list unless another one is named.
pub fn crl_path(authority: &Path) -> PathBuf {
    journal_path(authority).with_extension("crl")
}

/// Certificate in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// Serial number.
    pub serial: Serial,
    /// URI of the instance or principal; `None` for an authority.
    pub uri: Option<String>,
    /// Distinguished name of the subject.
    pub subject: String,
    /// True if it may sign certificates.
    pub authority: bool,
    /// SHA-256 of the certificate.
    pub sha256: String,
    /// SHA-256 of the public key.
    pub key_sha256: String,
    /// First moment of validity.
    #[serde(with = "rfc3339")]
    pub not_before: Timestamp,
    /// Last moment of validity.
    #[serde(with = "rfc3339")]
    pub not_after: Timestamp,
    /// Time of issue.
    #[serde(with = "rfc3339")]
    pub issued_at: Timestamp,
}

impl IssuedCertificate {
    /// Describes a certificate in DER that was just signed, or whose validity began when it was.
    pub(super) fn of(der: &[u8], issued_at: Option<Timestamp>) -> Option<IssuedCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let uri = names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
            x509_parser::extensions::GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        let time = |at: x509_parser::time::ASN1Time| Timestamp::from_second(at.timestamp()).ok();
        let not_before = time(certificate.validity().not_before)?;
        Some(IssuedCertificate {
            serial: Serial::of_bytes(certificate.raw_serial()),
            uri,
            subject: certificate.subject().to_string(),
            authority: certificate.is_ca(),
            sha256: fingerprint(der),
            key_sha256: fingerprint(certificate.public_key().raw),
            not_before,
            not_after: time(certificate.validity().not_after)?,
            issued_at: issued_at.unwrap_or(not_before),
        })
    }
}

/// Reason of a revocation (RFC 5280, section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    /// No reason is given.
    Unspecified,
    /// Someone else may have the private key.
    KeyCompromise,
    /// Someone else may have the private key of this authority.
    CaCompromise,
    /// The subject's name or role has changed.
    AffiliationChanged,
    /// Another certificate replaces it.
    Superseded,
    /// No longer needed.
    CessationOfOperation,
}

impl RevocationReason {
    /// Every reason.
    pub const ALL: &[RevocationReason] = &[
        RevocationReason::Unspecified,
        RevocationReason::KeyCompromise,
        RevocationReason::CaCompromise,
        RevocationReason::AffiliationChanged,
        RevocationReason::Superseded,
        RevocationReason::CessationOfOperation,
    ];

    /// True if someone else may have the key, so that no certificate of it is to be trusted.
    pub(super) fn is_compromise(self) -> bool {
        matches!(self, RevocationReason::KeyCompromise | RevocationReason::CaCompromise)
    }

    /// Returns its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            RevocationReason::Unspecified => "unspecified",
            RevocationReason::KeyCompromise => "key-compromise",
            RevocationReason::CaCompromise => "ca-compromise",
            RevocationReason::AffiliationChanged => "affiliation-changed",
            RevocationReason::Superseded => "superseded",
            RevocationReason::CessationOfOperation => "cessation-of-operation",
        }
    }
}

impl std::fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Revocation of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedCertificate {
    /// Serial number.
    pub serial: Serial,
    /// Reason.
    pub reason: RevocationReason,
    /// Time of the revocation.
    #[serde(with = "rfc3339")]
    pub revoked_at: Timestamp,
}

/// Revocation list that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRecord {
    /// CRL number.
    pub number: u64,
    /// Time of the list.
    #[serde(with = "rfc3339")]
    pub this_update: Timestamp,
    /// Time by which the next one is due.
    #[serde(with = "rfc3339")]
    pub next_update: Timestamp,
}

/// Line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Record {
    Issued(IssuedCertificate),
    Revoked(RevokedCertificate),
    Crl(ListRecord),
}

/// Content of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalContent {
    /// Certificates in the order of issue.
    pub certificates: Vec<IssuedCertificate>,
    /// Revocations in their order; a certificate of another release of `bolt` may be known by its serial number only.
    pub revoked: Vec<RevokedCertificate>,
    /// Newest revocation list.
    pub list: Option<ListRecord>,
    by_serial: HashMap<Serial, usize>,
    revoked_by_serial: HashMap<Serial, usize>,
}

impl JournalContent {
    /// Reads the journal at `path` while no writer changes it.
    pub fn read(path: &Path) -> Result<JournalContent, JournalError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => JournalError::Missing(path.to_owned()),
            _ => JournalError::Read { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(failed)?;
        file.lock_shared().map_err(failed)?;
        parse(path, &file).map(|(content, _)| content)
    }

    /// Returns the certificate with a serial number.
    pub fn certificate(&self, serial: &Serial) -> Option<&IssuedCertificate> {
        self.by_serial.get(serial).map(|index| &self.certificates[*index])
    }

    /// Returns the revocation of a serial number.
    pub fn revocation(&self, serial: &Serial) -> Option<&RevokedCertificate> {
        self.revoked_by_serial.get(serial).map(|index| &self.revoked[*index])
    }

    pub(super) fn add(&mut self, record: Record) {
        match record {
            Record::Issued(issued) => {
                self.by_serial.insert(issued.serial.clone(), self.certificates.len());
                self.certificates.push(issued);
            }
            Record::Revoked(revoked) => {
                self.revoked_by_serial.insert(revoked.serial.clone(), self.revoked.len());
                self.revoked.push(revoked);
            }
            Record::Crl(list) => self.list = Some(list),
        }
    }
}

/// Journal that this process alone may write to, until it is dropped.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    content: JournalContent,
}

impl Journal {
    /// Opens the journal, which is made when it is missing, and waits until no other process writes to it.
    pub(super) fn open(path: &Path) -> Result<Journal, JournalError> {
        let failed = |source| JournalError::Read { path: path.to_owned(), source };
        let existed = path.exists();
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        // Others hold it for as long as a signature takes.
        file.lock().map_err(failed)?;
        if !existed {
            crate::files::sync_directory(path).map_err(failed)?;
        }
        let (content, length) = parse(path, &file)?;
        if file.metadata().map_err(failed)?.len() > length {
            file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Ok(Journal { path: path.to_owned(), file, content })
    }

    pub(super) fn content(&self) -> &JournalContent {
        &self.content
    }

    /// Appends records; all are durable on return, or none is there.
    pub(super) fn append(&mut self, records: Vec<Record>) -> Result<(), JournalError> {
        let mut text = String::new();
        for record in &records {
            text.push_str(&serde_json::to_string(record).expect("a record is plain data"));
            text.push('\n');
        }
        let write = |file: &mut File| -> io::Result<()> {
            let before = file.metadata()?.len();
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
            if written.is_err() {
                // A part of it would be taken for damage once something follows.
                let _ = file.set_len(before);
            }
            written
        };
        write(&mut self.file).map_err(|source| JournalError::Write { path: self.path.clone(), source })?;
        records.into_iter().for_each(|record| self.content.add(record));
        Ok(())
    }
}

/// Reads all complete lines, and returns their length in bytes as well.
fn parse(path: &Path, mut file: &File) -> Result<(JournalContent, u64), JournalError> {
    let failed = |source| JournalError::Read { path: path.to_owned(), source };
    file.rewind().map_err(failed)?;
    let mut reader = BufReader::new(file);
    let (mut content, mut length) = (JournalContent::default(), 0);
    for number in 1.. {
        let mut line = Vec::new();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(failed)?;
        let damaged = |message: String| JournalError::Line { path: path.to_owned(), line: number, message };
        if line.pop() != Some(b'\n') {
            return if read as u64 == MAX_LINE {
                Err(damaged("it is too long".to_owned()))
            } else {
                Ok((content, length))
            };
        }
        content.add(serde_json::from_slice(&line).map_err(|e| damaged(e.to_string()))?);
        length += read as u64;
    }
    unreachable!("a file ends")
}

mod rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("a time is not RFC 3339"))
    }
}
