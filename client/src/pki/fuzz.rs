//! Door for the fuzz targets to signing requests.

use std::sync::LazyLock;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::request::Request;
use super::{Authority, Subject, Validity};

/// Authority of all certificates; it keeps no journal.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::create("fuzzing").expect("an authority"));

/// Reads and signs a request in PEM. Returns what it asks for and the certificate in DER, or the text of the error.
pub fn signing_request(text: &str) -> Result<(Subject, Vec<u8>), String> {
    let request = Request::parse(text).map_err(|problem| problem.to_string())?;
    let pem = AUTHORITY.sign_request(&request, Validity::days(1)).map_err(|error| error.to_string())?;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate of ours is PEM");
    Ok((request.subject, certificate.to_vec()))
}
