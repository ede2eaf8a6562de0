//! Files that commands write at a path of the caller. None of them is one of the authority's own, and what exists is replaced by
//! its like only: a private key by the next key of the same certificate, a revocation list by the next list of its authority.
//!
//! Everything here is checked before anything is signed.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::journal::{JournalContent, JournalError, crl_path};
use super::{Authority, MAX_FILE, PkiError, Serial};
use crate::files::{self, FileError};
use crate::tls;

/// Maximum size of a list that is replaced, in bytes.
const MAX_LIST: u64 = 64 << 20;
/// Beginning of a section in PEM.
const BEGIN: &str = "-----BEGIN ";

/// Error returned for a file that is not to be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputProblem {
    /// Own file of the authority.
    #[error("it is the {0} of the authority: name another file")]
    Own(&'static str),
    /// A list would replace something else.
    #[error("it exists and is not a revocation list: name another file, or remove this one first")]
    NotAList,
    /// A list would replace several.
    #[error("it holds {0} revocation lists, of which one would be left: name another file")]
    SeveralLists(usize),
    /// A list would replace that of another authority.
    #[error("it is a list that another authority signed ({issuer}): name another file, or remove this one first",
        issuer = crate::show::visible(issuer))]
    OtherAuthority {
        /// Distinguished name of its issuer.
        issuer: String,
    },
    /// A new key would replace something else than the old one.
    #[error(
        "it exists, and holds something else than the private key of {} alone: name the file with that key, or a new file",
        crate::show::path(.0)
    )]
    NotTheKey(PathBuf),
    /// A new certificate would replace more than the old one.
    #[error(
        "it holds more than certificates, such as a private key, which would be lost: write the new certificate to another \
         file with --out"
    )]
    MoreThanCertificates,
}

impl Authority {
    /// Refuses a new file that exists, or is one of the authority's own.
    pub fn check_new_file(&self, path: &Path) -> Result<(), PkiError> {
        self.refuse_own(path, false)?;
        Ok(files::refuse_existing(&[path])?)
    }

    /// Refuses new files in a directory, which is made when it is missing, of which one exists or is one of the authority's own.
    /// Call it before signing: a certificate is recorded when it is signed, so if its file could not be written then, the journal would
    /// name a certificate that does not exist, and the name of an intermediate authority would be taken.
    pub fn check_new_files(&self, dir: &Path, names: &[&str]) -> Result<(), PkiError> {
        files::create_dir(dir)?;
        names.iter().try_for_each(|name| self.check_new_file(&dir.join(name)))
    }

    /// Checks the files that a renewal of the certificate in `certificate` writes: a new file `out`, or the certificate itself
    /// and the key in `new_key`.
    pub fn check_renewal(
        &self,
        certificate: &Path,
        new_key: Option<&Path>,
        out: Option<&Path>,
    ) -> Result<(), PkiError> {
        let refused = |path: &Path, source| Err(PkiError::Output { path: path.to_owned(), source });
        let text = files::read_bytes(certificate, MAX_FILE)?;
        let chain = tls::parse_certificates(certificate, &text)?;
        match out {
            Some(out) => self.check_new_file(out)?,
            None if sections(&text) != chain.len() => return refused(certificate, OutputProblem::MoreThanCertificates),
            None => {}
        }
        let Some(path) = new_key else { return Ok(()) };
        self.refuse_own(path, false)?;
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let is_key = is_regular(path)? && {
            let key = Zeroizing::new(files::read_bytes(path, MAX_FILE)?);
            sections(&key) == 1 && tls::is_key_of(&key, chain)
        };
        if is_key { Ok(()) } else { refused(path, OutputProblem::NotTheKey(certificate.to_owned())) }
    }

    /// Refuses a path of one of the authority's own files; `may_be_list` allows that of its revocation list.
    fn refuse_own(&self, path: &Path, may_be_list: bool) -> Result<(), PkiError> {
        let Some(certificate) = self.certificate_file() else { return Ok(()) };
        let list = crl_path(certificate);
        let own = [
            ("certificate", certificate.to_owned()),
            ("private key", certificate.with_extension("key")),
            ("journal", certificate.with_extension("journal")),
            ("revocation list", list),
        ];
        let named = location(path);
        let found = own.into_iter().take(if may_be_list { 3 } else { 4 }).find(|(_, file)| location(file) == named);
        match found {
            Some((what, _)) => Err(PkiError::Output { path: path.to_owned(), source: OutputProblem::Own(what) }),
            None => Ok(()),
        }
    }

    /// Reads the list that one of this authority is to replace, if there is one. Anything else at that path is an error.
    pub(super) fn replaced_list(&self, out: &Path) -> Result<Option<ReplacedList>, PkiError> {
        let refused = |source| PkiError::Output { path: out.to_owned(), source };
        self.refuse_own(out, true)?;
        match out.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ if !is_regular(out)? => return Err(refused(OutputProblem::NotAList)),
            _ => {}
        }
        let bytes = files::read_bytes(out, MAX_LIST)?;
        let lists = match bytes.first() {
            Some(0x30) => vec![CertificateRevocationListDer::from(bytes)],
            _ => {
                let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
                let lists = lists.map_err(|_| refused(OutputProblem::NotAList))?;
                if lists.len() != sections(&bytes) {
                    return Err(refused(OutputProblem::NotAList));
                }
                lists
            }
        };
        let [der] = &lists[..] else {
            let several = lists.len() > 1;
            return Err(refused(if several {
                OutputProblem::SeveralLists(lists.len())
            } else {
                OutputProblem::NotAList
            }));
        };
        let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
            return Err(refused(OutputProblem::NotAList));
        };
        let own = self.certificate();
        let is_own = X509Certificate::from_der(&own)
            .is_ok_and(|(_, own)| list.issuer() == own.subject() && list.verify_signature(own.public_key()).is_ok());
        if !is_own {
            return Err(refused(OutputProblem::OtherAuthority { issuer: list.issuer().to_string() }));
        }
        // A number beyond 64 bits is not ours, and is higher than any that follows.
        let number = list.crl_number().map_or(0, |number| number.to_string().parse().unwrap_or(u64::MAX));
        let serials = list.iter_revoked_certificates().map(|one| Serial::of_bytes(one.raw_serial())).collect();
        Ok(Some(ReplacedList { number, serials }))
    }
}

/// List that is to be replaced.
#[derive(Debug)]
pub(super) struct ReplacedList {
    number: u64,
    serials: Vec<Serial>,
}

impl ReplacedList {
    /// Refuses a next list, with the number `next` and these serial numbers, that would take back what this one says, since the
    /// journal that it is made of is an older copy. A certificate that has expired may be left out.
    pub(super) fn check(
        &self,
        next: u64,
        named: &HashSet<Serial>,
        (content, journal): (&JournalContent, &Path),
        out: &Path,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let (journal, list) = (journal.to_owned(), out.to_owned());
        if next <= self.number {
            return Err(JournalError::Older { journal, list, next, number: self.number });
        }
        let has_ended = |serial: &Serial| content.certificate(serial).is_some_and(|one| one.not_after < now);
        match self.serials.iter().find(|serial| !named.contains(serial) && !has_ended(serial)) {
            Some(serial) => Err(JournalError::TakesBack { journal, list, serial: serial.clone() }),
            None => Ok(()),
        }
    }
}

/// Returns the number of sections in PEM.
fn sections(text: &[u8]) -> usize {
    text.windows(BEGIN.len()).filter(|part| *part == BEGIN.as_bytes()).count()
}

/// True for a regular file, which can be read to its end.
fn is_regular(path: &Path) -> Result<bool, FileError> {
    let meta = path.metadata();
    meta.map(|meta| meta.is_file()).map_err(|source| FileError::Read { path: path.to_owned(), named_by: None, source })
}

/// Returns the path without links, also of a file that does not exist yet.
fn location(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| match (files::directory_of(path).canonicalize(), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::journal::{IssuedCertificate, Record};
    use super::*;

    #[test]
    fn a_list_may_leave_out_what_has_expired_and_nothing_else() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let serial: Serial = "0a".parse().unwrap();
        let replaced = ReplacedList { number: 4, serials: vec![serial.clone()] };
        let check = |ends: Option<i64>, next: u64, named: &[&Serial]| {
            let mut content = JournalContent::default();
            if let Some(ends) = ends {
                content.add(Record::Issued(IssuedCertificate {
                    serial: serial.clone(),
                    uri: None,
                    subject: String::new(),
                    authority: false,
                    sha256: String::new(),
                    key_sha256: String::new(),
                    not_before: at(0),
                    not_after: at(ends),
                    issued_at: at(0),
                }));
            }
            let named = named.iter().map(|serial| (*serial).clone()).collect();
            replaced.check(next, &named, (&content, Path::new("j")), Path::new("l"), at(100)).is_ok()
        };
        assert!(check(Some(99), 5, &[]) && !check(Some(99), 4, &[]) && !check(Some(99), 3, &[]));
        assert!(!check(Some(100), 5, &[]), "still valid");
        assert!(!check(None, 5, &[]), "the journal does not know until when");
        assert!(check(None, 5, &[&serial]) && check(Some(100), 5, &[&serial]));
    }
}
