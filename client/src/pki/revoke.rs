//! Revocation: certificates that the authority takes back, and the lists by which it says so (RFC 5280, section 5).
//!
//! A list has a higher number than every list before it and is never older, so that an agent accepts it after these. A
//! revoked certificate remains in the lists until one was made after its validity ended (section 3.3).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::journal::{IssuedCertificate, Journal, JournalContent, JournalError, ListRecord, Record};
use super::{Authority, MAX_FILE, PkiError, RevocationReason, RevokedCertificate, Serial};
use crate::files;
use crate::tls;

/// Certificates to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocable {
    /// The first certificate in a file.
    File(PathBuf),
    /// The certificate with a serial number.
    Serial(Serial),
    /// Every certificate of the journal with this URI whose validity has not ended.
    Uri(String),
}

/// Error returned for a certificate that cannot be revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeProblem {
    /// Another authority signed it.
    #[error("its issuer is {issuer}, and this authority did not sign it: name with --ca the authority that did",
        issuer = crate::show::visible(issuer))]
    OtherAuthority {
        /// Distinguished name of the issuer, as the certificate has it.
        issuer: String,
    },
    /// The authority itself.
    #[error(
        "it is the authority itself: revoke an intermediate by the root that signed it; a root is taken out of the agents' \
         configuration instead"
    )]
    Own,
    /// The journal has no such certificate.
    #[error(
        "{} has no certificate of this name that is still valid; `bolt pki list --all` shows all",
        crate::show::path(.0)
    )]
    Unknown(PathBuf),
    /// The journal has no certificate with the serial number.
    #[error("{} has no certificate with this serial number; give the certificate's file", crate::show::path(.0))]
    UnknownSerial(PathBuf),
}

/// Certificate that is revoked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The certificate.
    pub certificate: IssuedCertificate,
    /// Its revocation, which an earlier one stays.
    pub revocation: RevokedCertificate,
    /// True if it had been revoked before.
    pub already: bool,
}

impl Authority {
    /// Revokes certificates of this authority in its journal: all of them, or none if one is an error. They are refused once the
    /// next list reaches the agents.
    pub fn revoke(&self, all: &[Revocable], reason: RevocationReason) -> Result<Vec<Revoked>, PkiError> {
        let path = self.journal().ok_or(PkiError::NoJournal)?;
        let in_files: Vec<Option<IssuedCertificate>> =
            all.iter().map(|what| self.in_file(what)).collect::<Result<_, _>>()?;
        let mut journal = Journal::open(path)?;
        let now = Timestamp::now();
        let own = IssuedCertificate::of(&self.certificate(), None).map(|own| own.serial);
        let mut found: Vec<IssuedCertificate> = Vec::new();
        for (what, in_file) in all.iter().zip(in_files) {
            let failed = |source| PkiError::Revoke { what: what.to_string(), source };
            let named = match in_file {
                Some(certificate) => vec![certificate],
                None => recorded(what, journal.content(), now, path).map_err(failed)?,
            };
            if named.iter().any(|one| one.authority && Some(&one.serial) == own.as_ref()) {
                return Err(failed(RevokeProblem::Own));
            }
            add_new(&mut found, named);
        }
        // Whoever has the key can use every certificate of it, such as those before a renewal.
        if reason.is_compromise() {
            let keys: HashSet<String> = found.iter().map(|of| of.key_sha256.clone()).collect();
            let is_meant = |one: &&IssuedCertificate| {
                one.not_after >= now && keys.contains(&one.key_sha256) && Some(&one.serial) != own.as_ref()
            };
            let same_key = journal.content().certificates.iter().filter(is_meant).cloned().collect();
            add_new(&mut found, same_key);
        }
        let (mut revoked, mut records) = (Vec::new(), Vec::new());
        for certificate in found {
            let earlier = journal.content().revocation(&certificate.serial).cloned();
            let already = earlier.is_some();
            let revocation = earlier.unwrap_or_else(|| RevokedCertificate {
                serial: certificate.serial.clone(),
                reason,
                revoked_at: now,
            });
            if journal.content().certificate(&certificate.serial).is_none() {
                // Signed before the authority had a journal.
                records.push(Record::Issued(certificate.clone()));
            }
            if !already {
                records.push(Record::Revoked(revocation.clone()));
            }
            revoked.push(Revoked { certificate, revocation, already });
        }
        journal.append(records)?;
        Ok(revoked)
    }

    /// Returns the first certificate in the file that is named, if one is; an error if this authority did not sign it.
    fn in_file(&self, what: &Revocable) -> Result<Option<IssuedCertificate>, PkiError> {
        let Revocable::File(path) = what else { return Ok(None) };
        let chain = tls::parse_certificates(path, &files::read_bytes(path, MAX_FILE)?)?;
        let first = chain.first().expect("at least one certificate");
        let parsed = X509Certificate::from_der(first).ok().map(|(_, certificate)| certificate);
        let is_own = parsed.as_ref().is_some_and(|certificate| self.has_signed(certificate));
        IssuedCertificate::of(first, None).filter(|_| is_own).map(Some).ok_or_else(|| {
            let issuer = parsed.map_or_else(|| "unknown".to_owned(), |certificate| certificate.issuer().to_string());
            PkiError::Revoke { what: what.to_string(), source: RevokeProblem::OtherAuthority { issuer } }
        })
    }

    /// Makes a list of all revoked certificates that is valid for `days`, at most as long as the authority, and replaces the
    /// list in the file `out` by it. A list that takes nothing back replaces it, and anything else there is an error.
    pub fn make_crl(&self, out: &Path, days: u32) -> Result<(ListRecord, usize), PkiError> {
        let failed = |source| PkiError::Crl { path: out.to_owned(), source };
        let path = self.journal().ok_or(PkiError::NoJournal)?;
        self.replaced_list(out)?;
        // A list of a new journal would name no certificate, and take every revocation back.
        if !path.exists() && out.exists() {
            return Err(JournalError::Lost { journal: path.to_owned(), list: out.to_owned() }.into());
        }
        let mut journal = Journal::open(path)?;
        let previous = journal.content().list;
        // Whole seconds, as in the list. The clock may have been set back since the last one.
        let clock = Timestamp::now().as_second();
        let now = previous.map_or(clock, |list| clock.max(list.this_update.as_second()));
        let next = now.saturating_add(i64::from(days) * 86_400).min(self.ends().unix_timestamp());
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let list = ListRecord {
            number: previous.map_or(1, |list| list.number.saturating_add(1)),
            this_update: at(now),
            next_update: at(next),
        };
        let entries = entries(journal.content(), at(clock));
        let count = entries.len();
        // Read again: other writers have waited for the journal as well.
        if let Some(replaced) = self.replaced_list(out)? {
            let named = entries.iter().map(|one| Serial::of_bytes(&one.serial_number.to_bytes())).collect();
            replaced.check(list.number, &named, (journal.content(), path), out, at(clock))?;
        }
        let params = CertificateRevocationListParams {
            this_update: odt(list.this_update),
            next_update: odt(list.next_update),
            crl_number: SerialNumber::from(list.number),
            issuing_distribution_point: None,
            revoked_certs: entries,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = self.sign_crl(&params).map_err(failed)?;
        // The number is used up even if the file cannot be written: none is used twice.
        journal.append(vec![Record::Crl(list)])?;
        files::replace(out, pem.as_bytes())?;
        Ok((list, count))
    }
}

/// Returns the certificates of the journal that are named.
fn recorded(
    what: &Revocable,
    content: &JournalContent,
    now: Timestamp,
    journal: &Path,
) -> Result<Vec<IssuedCertificate>, RevokeProblem> {
    let found: Vec<IssuedCertificate> = match what {
        Revocable::File(_) => Vec::new(),
        Revocable::Serial(serial) => {
            let known = content.certificate(serial).cloned();
            return Ok(vec![known.ok_or_else(|| RevokeProblem::UnknownSerial(journal.to_owned()))?]);
        }
        Revocable::Uri(uri) => {
            let is_meant = |one: &&IssuedCertificate| one.uri.as_ref() == Some(uri) && one.not_after >= now;
            content.certificates.iter().filter(is_meant).cloned().collect()
        }
    };
    if found.is_empty() { Err(RevokeProblem::Unknown(journal.to_owned())) } else { Ok(found) }
}

/// Adds certificates that are not there yet: a file, a serial number and a name may mean the same one.
fn add_new(found: &mut Vec<IssuedCertificate>, more: Vec<IssuedCertificate>) {
    let mut known: HashSet<Serial> = found.iter().map(|one| one.serial.clone()).collect();
    found.extend(more.into_iter().filter(|one| known.insert(one.serial.clone())));
}

/// Returns the certificates that the next list names. The previous list may have been made by a clock that was ahead of `now`.
fn entries(content: &JournalContent, now: Timestamp) -> Vec<RevokedCertParams> {
    let is_needed = |revoked: &&RevokedCertificate| {
        let ended = content.certificate(&revoked.serial).map(|certificate| certificate.not_after);
        match (ended, content.list) {
            (Some(ended), Some(previous)) => {
                ended >= previous.this_update.min(now) || revoked.revoked_at > previous.this_update
            }
            _ => true,
        }
    };
    let entry = |revoked: &RevokedCertificate| RevokedCertParams {
        serial_number: SerialNumber::from(revoked.serial.bytes()),
        revocation_time: odt(revoked.revoked_at),
        reason_code: match revoked.reason {
            // Absent rather than 0 (RFC 5280, section 5.3.1).
            RevocationReason::Unspecified => None,
            RevocationReason::KeyCompromise => Some(rcgen::RevocationReason::KeyCompromise),
            RevocationReason::CaCompromise => Some(rcgen::RevocationReason::CaCompromise),
            RevocationReason::AffiliationChanged => Some(rcgen::RevocationReason::AffiliationChanged),
            RevocationReason::Superseded => Some(rcgen::RevocationReason::Superseded),
            RevocationReason::CessationOfOperation => Some(rcgen::RevocationReason::CessationOfOperation),
        },
        invalidity_date: None,
    };
    content.revoked.iter().filter(is_needed).map(entry).collect()
}

fn odt(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

impl std::fmt::Display for Revocable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Revocable::File(path) => f.write_str(&crate::show::path(path)),
            Revocable::Serial(serial) => serial.fmt(f),
            Revocable::Uri(uri) => f.write_str(&crate::show::visible(uri)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_expired_certificate_leaves_the_lists_after_one_that_was_made_when_it_had_expired() {
        let serial: Serial = "0a".parse().unwrap();
        let count = |previous: Option<i64>, known: bool, now: i64| {
            let mut content = JournalContent::default();
            if known {
                content.add(Record::Issued(IssuedCertificate {
                    serial: serial.clone(),
                    uri: None,
                    subject: String::new(),
                    authority: false,
                    sha256: String::new(),
                    key_sha256: String::new(),
                    not_before: at(0),
                    not_after: at(100),
                    issued_at: at(0),
                }));
            }
            let revoked = RevokedCertificate {
                serial: serial.clone(),
                reason: RevocationReason::Unspecified,
                revoked_at: at(50),
            };
            content.add(Record::Revoked(revoked));
            if let Some(second) = previous {
                let list = ListRecord { number: 1, this_update: at(second), next_update: at(second + 10) };
                content.add(Record::Crl(list));
            }
            entries(&content, at(now)).len()
        };
        for (previous, known, expected) in
            [(None, true, 1), (Some(40), true, 1), (Some(99), true, 1), (Some(101), true, 0), (Some(101), false, 1)]
        {
            assert_eq!(count(previous, known, 200), expected, "{previous:?}, {known}");
        }
        assert_eq!(count(Some(101), true, 60), 1, "the previous list was made by a clock that was ahead");
    }
}
