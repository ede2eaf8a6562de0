//! Doors for the fuzz targets to certificates and revocation lists of callers.

use std::path::Path;

use packs_schema::base::name::Principal;
use rustls::pki_types::CertificateDer;

use super::{callers, crls, provider};

/// Returns the principal in a certificate, or the reason why it has none.
pub fn principal(der: &[u8]) -> Result<Principal, String> {
    callers::principal(&CertificateDer::from(der))
}

/// Reads the content of a file of revocation lists, and asks each about a serial number and who signed it among `authorities`, which
/// are certificates; returns how many lists there are.
pub fn revocation_lists(content: &[u8], authorities: &[Vec<u8>], serial: &[u8]) -> Result<usize, String> {
    let authorities: Vec<CertificateDer<'_>> = authorities.iter().map(|der| CertificateDer::from(&der[..])).collect();
    let anchors: Vec<_> = authorities.iter().filter_map(|der| webpki::anchor_from_trusted_cert(der).ok()).collect();
    let provider = provider();
    let lists =
        crls::parse(Path::new("/crls.pem"), content, &anchors, &provider).map_err(|error| crate::log::chain(&error))?;
    for list in &lists {
        list.names(serial);
        list.signer(&anchors, &provider);
    }
    Ok(lists.len())
}
