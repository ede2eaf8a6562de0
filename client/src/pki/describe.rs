//! Descriptions of certificates and requests for people and programs.

use std::path::Path;

use jiff::Timestamp;
use packs_schema::base::certificate::{CLIENT_AUTH, CertificateInfo, SERVER_AUTH};
use serde::Serialize;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::request::{Request, RequestProblem};
use super::{MAX_FILE, PkiError, fingerprint};
use crate::files;
use crate::tls;

/// Certificate or request in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// `certificate` or `request`.
    pub kind: &'static str,
    /// Names: URIs, host names and IP addresses.
    pub names: Vec<String>,
    /// Extended key usages.
    pub usages: Vec<&'static str>,
    /// True if it may sign certificates.
    pub authority: bool,
    /// The subject's distinguished name.
    pub subject: Option<String>,
    /// The issuer's distinguished name.
    pub issuer: Option<String>,
    /// Serial number in hexadecimal digits.
    pub serial: Option<String>,
    /// First moment of validity, RFC 3339.
    pub not_before: Option<String>,
    /// Last moment of validity, RFC 3339.
    pub not_after: Option<String>,
    /// The same as a time.
    #[serde(skip)]
    pub expires: Option<Timestamp>,
    /// SHA-256 of the public key.
    pub key_sha256: String,
}

/// Describes every certificate in the file at `path`, or the request in it.
pub fn describe(path: &Path) -> Result<Vec<Description>, PkiError> {
    let bytes = files::read_bytes(path, MAX_FILE)?;
    let text = String::from_utf8_lossy(&bytes);
    if X509CertificationRequest::from_der(&bytes).is_ok() {
        return Err(PkiError::Request { path: path.to_owned(), source: RequestProblem::Der });
    }
    if text.contains("-----BEGIN CERTIFICATE REQUEST-----") || text.contains("-----BEGIN NEW CERTIFICATE REQUEST-----")
    {
        let request = Request::parse(&text).map_err(|source| PkiError::Request { path: path.to_owned(), source })?;
        let usage = match request.subject {
            super::Subject::Instance { .. } => "serverAuth",
            super::Subject::Client(_) => "clientAuth",
        };
        return Ok(vec![Description {
            kind: "request",
            names: request.subject.names(),
            usages: vec![usage],
            authority: false,
            subject: None,
            issuer: None,
            serial: None,
            not_before: None,
            not_after: None,
            expires: None,
            key_sha256: request.fingerprint,
        }]);
    }
    let certificates = tls::parse_certificates(path, &bytes)?;
    let described = certificates.iter().map(|certificate| of_certificate(certificate));
    described.collect::<Option<Vec<_>>>().ok_or_else(|| tls::damaged_certificate(path).into())
}

fn of_certificate(der: &[u8]) -> Option<Description> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let info = CertificateInfo::parse(der)?;
    let general = certificate.subject_alternative_name().ok().flatten();
    let names = general.iter().flat_map(|extension| &extension.value.general_names).map(show_name).collect();
    let known = [(SERVER_AUTH, "serverAuth"), (CLIENT_AUTH, "clientAuth")];
    let time = |seconds: i64| Timestamp::from_second(seconds).ok();
    Some(Description {
        kind: "certificate",
        names,
        usages: known.into_iter().filter(|(usage, _)| info.has_usage(usage)).map(|(_, name)| name).collect(),
        authority: certificate.is_ca(),
        subject: Some(certificate.subject().to_string()),
        issuer: Some(certificate.issuer().to_string()),
        serial: Some(certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect()),
        not_before: time(info.not_before_s).map(|at| at.to_string()),
        not_after: time(info.not_after_s).map(|at| at.to_string()),
        expires: time(info.not_after_s),
        key_sha256: fingerprint(certificate.public_key().raw),
    })
}

fn show_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            ip.map_or_else(|_| "an address of unknown length".to_owned(), |ip| ip.to_string())
        }
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        _ => "a name of another kind".to_owned(),
    }
}
