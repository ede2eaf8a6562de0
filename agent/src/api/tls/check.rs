//! Check of all files as a start does it, for `check-config`: everything that is wrong is reported at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use packs_schema::agent::config::{ExpiredCrl, TlsConfig};
use packs_schema::base::certificate::CertificateInfo;
use packs_schema::base::name::InstanceId;

use super::callers::{Authority, CallerVerifier};
use super::crls::{self, Signer};
use super::files::{self, TlsError};
use super::own::{self, OwnCertificate};
use crate::expiry::Stage;

/// Problem of one of the files.
pub(crate) struct FileProblem {
    pub(crate) path: PathBuf,
    pub(crate) message: String,
    /// True if the start is refused, or if no caller accepts the agent.
    pub(crate) prevents_service: bool,
}

impl FileProblem {
    fn error(path: &Path, message: String) -> FileProblem {
        FileProblem { path: path.to_owned(), message, prevents_service: true }
    }

    fn warning(path: &Path, message: String) -> FileProblem {
        FileProblem { path: path.to_owned(), message, prevents_service: false }
    }

    fn of(path: &Path, error: &TlsError) -> FileProblem {
        let mut message = crate::log::chain(error);
        // The report names the file already.
        for prefix in [
            format!("the certificate {path:?} "),
            format!("the revocation list {path:?} "),
            format!("{path:?} "),
            format!("{}: ", path.display()),
        ] {
            message = message.strip_prefix(&prefix).map(str::to_owned).unwrap_or(message);
        }
        FileProblem::error(path, message)
    }
}

/// Checks the files as a start does, and returns everything that is wrong. Without an `instance`, which only the metadata service
/// may know, the name in the certificate is not compared.
pub(crate) fn check(files: &TlsConfig, instance: Option<&InstanceId>, now_s: i64) -> Vec<FileProblem> {
    let mut found = Vec::new();
    check_own(files, instance, now_s, &mut found);
    check_callers(files, now_s, &mut found);
    found
}

fn check_own(files: &TlsConfig, instance: Option<&InstanceId>, now_s: i64, found: &mut Vec<FileProblem>) {
    let chain = files::certificates(&files.certificate);
    found.extend(chain.as_ref().err().map(|error| FileProblem::of(&files.certificate, error)));
    let key = files::private_key(&files.key);
    found.extend(key.as_ref().err().map(|error| FileProblem::of(&files.key, error)));
    if chain.is_err() || key.is_err() {
        return;
    }
    match files::own(files, &super::provider()) {
        Err(error) => found.push(FileProblem::of(&files.certificate, &error)),
        Ok(own) => match OwnCertificate::of(&own.cert) {
            None => found.push(FileProblem::error(&files.certificate, "it is damaged".to_owned())),
            Some(own) => {
                for (_, problem) in own.problems(instance, now_s) {
                    found.extend(problem.map(|message| FileProblem::error(&files.certificate, message)));
                }
                let warning = own.expiry_warning(now_s);
                found.extend(warning.map(|(_, message)| FileProblem::warning(&files.certificate, message)));
            }
        },
    }
}

fn check_callers(files: &TlsConfig, now_s: i64, found: &mut Vec<FileProblem>) {
    let provider = Arc::new(super::provider());
    let confined = files.client_authorities.iter().map(|confined| (&confined.file, Some(confined)));
    let mut all = Vec::new();
    for (path, confined) in files.client_ca.iter().map(|path| (path, None)).chain(confined) {
        match files::authorities(path) {
            Err(error) => found.push(FileProblem::of(path, &error)),
            Ok(certificates) => {
                for certificate in certificates {
                    check_authority(path, &certificate, now_s, found);
                    let authority = [Authority { certificate: &certificate, confined }];
                    if let Err(error) = CallerVerifier::new(&authority, &[], files.expired_crl, &provider) {
                        found.push(FileProblem::error(path, format!("cannot be an authority of callers: {error}")));
                    }
                    all.push((path, certificate, confined.is_some()));
                }
            }
        }
    }
    for (path, certificate, confined) in &all {
        let twice = |other: &(&PathBuf, _, bool)| other.1 == *certificate && other.2 != *confined;
        if *confined && all.iter().any(twice) {
            let message = "an authority in it is in client_ca as well; it may vouch for its principals only";
            found.push(FileProblem::warning(path, message.to_owned()));
        }
    }
    let anchors: Vec<_> =
        all.iter().filter_map(|(_, certificate, _)| webpki::anchor_from_trusted_cert(certificate).ok()).collect();
    for path in &files.crls {
        match crls::read(path, &anchors, &provider) {
            Err(error) => found.push(FileProblem::of(path, &error)),
            Ok(lists) => {
                for crl in lists {
                    check_list(path, &crl, crl.signer(&anchors, &provider), files.expired_crl, now_s, found);
                }
            }
        }
    }
}

fn check_list(
    path: &Path,
    crl: &crls::Crl,
    signer: Signer,
    expired: ExpiredCrl,
    now_s: i64,
    found: &mut Vec<FileProblem>,
) {
    if signer == Signer::OtherName {
        let message =
            "its issuer is none of the authorities of callers: it counts for an intermediate authority of that name";
        found.push(FileProblem::warning(path, message.to_owned()));
    }
    let Some(stage) = Stage::of(Some(crl.info.this_update_s), crl.info.next_update_s, now_s) else { return };
    let described = stage.describe(crl.info.next_update_s);
    found.push(match (stage, expired) {
        (Stage::Ended, ExpiredCrl::Refuse) => {
            FileProblem::error(path, format!("{described}: every caller of its authority is refused"))
        }
        _ => FileProblem::warning(path, format!("{described}: fetch the next one")),
    });
}

/// Checks the validity of an authority of callers in the file. The TLS library accepts callers of one that has ended.
fn check_authority(path: &Path, certificate: &[u8], now_s: i64, found: &mut Vec<FileProblem>) {
    let Some(info) = CertificateInfo::parse(certificate) else { return };
    if let Some(problem) = own::validity_problem(&info, now_s) {
        found.push(FileProblem::warning(path, format!("an authority in it {problem}")));
    } else if let Some((_, warning)) = own::expiry_warning(&info, now_s) {
        found.push(FileProblem::warning(path, format!("an authority in it {warning}")));
    }
}
