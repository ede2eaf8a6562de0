//! Certificate revocation lists: read, attributed to the authorities that signed them, and put in order.

use std::path::Path;

use packs_schema::base::crl::{CrlInfo, split_public_key};
use packs_schema::base::pem::{Expected, PemError};
use packs_schema::base::trust::Purpose;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, TrustAnchor};

use super::files::{self, TlsError};
use crate::trust;

/// Revocation list.
#[derive(Debug, Clone)]
pub(super) struct Crl {
    pub(super) der: CertificateRevocationListDer<'static>,
    pub(super) info: CrlInfo,
}

/// Reads every list in a file, PEM or DER, after a check of owner and mode. A list with the name of one of the `anchors` must be
/// signed by one that has this name.
pub(super) fn read(path: &Path, anchors: &[TrustAnchor<'_>], provider: &CryptoProvider) -> Result<Vec<Crl>, TlsError> {
    trust::check(path, Purpose::Anchor)?;
    let bytes = files::read(path)?;
    let damaged = || TlsError::from(PemError::diagnose(path, Expected::Crls, &bytes));
    // A DER structure begins with a SEQUENCE.
    let lists = match bytes.first() {
        Some(0x30) => vec![CertificateRevocationListDer::from(bytes.clone())],
        _ => CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|_| damaged())?,
    };
    if lists.is_empty() {
        return Err(damaged());
    }
    let mut read = Vec::with_capacity(lists.len());
    for der in lists {
        let unusable = |problem: String| TlsError::Crl(path.to_owned(), problem);
        webpki::OwnedCertRevocationList::from_der(&der).map_err(|e| unusable(e.to_string()))?;
        let info = CrlInfo::parse(&der).ok_or_else(|| unusable("it does not say when it expires".to_owned()))?;
        let crl = Crl { der, info };
        if crl.signer(anchors, provider) == Signer::Unverified {
            return Err(unusable(
                "it has the name of an authority of callers, and another key signed it: fetch the list of that authority"
                    .to_owned(),
            ));
        }
        read.push(crl);
    }
    Ok(read)
}

/// Signer of a list among some authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signer {
    /// The authorities with these indices.
    Anchors(Vec<usize>),
    /// None of them has the name of its issuer, which is an intermediate authority, or unknown.
    OtherName,
    /// An authority has the name of its issuer, and none of that name signed it.
    Unverified,
}

impl Crl {
    /// Finds the authority that signed the list.
    pub(super) fn signer(&self, anchors: &[TrustAnchor<'_>], provider: &CryptoProvider) -> Signer {
        let named = |anchor: &TrustAnchor<'_>| *anchor.subject == *self.info.issuer;
        if !anchors.iter().any(named) {
            return Signer::OtherName;
        }
        let signed = |anchor: &TrustAnchor<'_>| named(anchor) && self.is_signed_by(anchor, provider);
        let signers: Vec<usize> =
            anchors.iter().enumerate().filter(|(_, anchor)| signed(anchor)).map(|(index, _)| index).collect();
        if signers.is_empty() { Signer::Unverified } else { Signer::Anchors(signers) }
    }

    fn is_signed_by(&self, anchor: &TrustAnchor<'_>, provider: &CryptoProvider) -> bool {
        let Some((algorithm, key)) = split_public_key(&anchor.subject_public_key_info) else { return false };
        let fits = provider.signature_verification_algorithms.all.iter().filter(|verifier| {
            *verifier.signature_alg_id() == *self.info.algorithm && *verifier.public_key_alg_id() == *algorithm
        });
        let CrlInfo { signed, signature, .. } = &self.info;
        let mut fits = fits;
        fits.any(|verifier| verifier.verify_signature(key, signed, signature).is_ok())
    }
}

/// Sorts lists so that the newest of an issuer comes first: the TLS library asks only the first.
pub(super) fn newest_first(mut lists: Vec<&Crl>) -> Vec<&Crl> {
    lists.sort_by_key(|crl| std::cmp::Reverse(crl.info.this_update_s));
    lists
}
