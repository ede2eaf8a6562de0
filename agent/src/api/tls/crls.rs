//! Certificate revocation lists: read, and attributed to the authorities that signed them.

use std::path::Path;
use std::sync::Arc;

use packs_schema::base::crl::{CrlInfo, Signed, has_version_1, split_public_key};
use packs_schema::base::pem::{Expected, PemError};
use packs_schema::base::trust::Purpose;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::files::{self, TlsError};
use crate::trust;

/// Revocation list.
#[derive(Debug, Clone)]
pub(super) struct Crl {
    pub(super) info: CrlInfo,
    list: Arc<CertRevocationList<'static>>,
}

/// Reads every list in a file, PEM or DER, after a check of owner and mode. A list with the name of one of the `anchors` must be
/// signed by one that has this name.
pub(super) fn read(path: &Path, anchors: &[TrustAnchor<'_>], provider: &CryptoProvider) -> Result<Vec<Crl>, TlsError> {
    trust::check(path, Purpose::Anchor)?;
    parse(path, &files::read(path)?, anchors, provider)
}

/// Parses the content of the file at `path`.
pub(super) fn parse(
    path: &Path,
    bytes: &[u8],
    anchors: &[TrustAnchor<'_>],
    provider: &CryptoProvider,
) -> Result<Vec<Crl>, TlsError> {
    let damaged = || TlsError::from(PemError::diagnose(path, Expected::Crls, bytes));
    // A DER structure begins with a SEQUENCE.
    let lists = match bytes.first() {
        Some(0x30) => vec![CertificateRevocationListDer::from(bytes.to_vec())],
        _ => CertificateRevocationListDer::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|_| damaged())?,
    };
    if lists.is_empty() {
        return Err(damaged());
    }
    let mut read = Vec::with_capacity(lists.len());
    for der in lists {
        let unusable = |problem: String| TlsError::Crl(path.to_owned(), problem);
        let list = OwnedCertRevocationList::from_der(&der).map_err(|error| unusable(describe(&der, &error)))?;
        let info = CrlInfo::parse(&der).ok_or_else(|| unusable("it does not say when it expires".to_owned()))?;
        let crl = Crl { info, list: Arc::new(list.into()) };
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

/// Describes why a list cannot be read, and what to do.
fn describe(der: &[u8], error: &webpki::Error) -> String {
    let known = match error {
        webpki::Error::TrailingData(_) => {
            "bytes follow the list: a file has one list in DER and nothing else, or any number in PEM; fetch the list again, and \
             convert each with `openssl crl -inform DER` to join several"
        }
        webpki::Error::UnsupportedDeltaCrl => {
            "it is a delta list, which has only what changed: fetch the complete list"
        }
        webpki::Error::UnsupportedIndirectCrl => {
            "it is an indirect list, about certificates of other authorities: fetch the list of each authority"
        }
        webpki::Error::UnsupportedRevocationReasonsPartitioning => {
            "it has revocations for some reasons only: fetch the list of all reasons"
        }
        _ if has_version_1(der) => {
            "it is of version 1: have its authority make lists of version 2 (`crl_extensions` in openssl's configuration)"
        }
        other => {
            return format!("it is damaged, or of a kind that is not supported ({other}); fetch the list again");
        }
    };
    known.to_owned()
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
        self.is_signed_by_key(&anchor.subject_public_key_info, provider)
    }

    /// Returns true if this key, the content of a SubjectPublicKeyInfo, signed the list.
    pub(super) fn is_signed_by_key(&self, key: &[u8], provider: &CryptoProvider) -> bool {
        let CrlInfo { signed, algorithm, signature, .. } = &self.info;
        is_signed_by(&Signed { content: signed, algorithm, signature }, key, provider)
    }

    /// Returns true if the list names this serial number. A list that cannot be read names every one.
    pub(super) fn names(&self, serial: &[u8]) -> bool {
        !matches!(self.list.find_serial(serial), Ok(None))
    }
}

/// Returns true if this key, the content of a SubjectPublicKeyInfo, signed a list or certificate.
pub(super) fn is_signed_by(signed: &Signed<'_>, key: &[u8], provider: &CryptoProvider) -> bool {
    let Some((key_algorithm, key)) = split_public_key(key) else { return false };
    let mut fits = provider.signature_verification_algorithms.all.iter().filter(|verifier| {
        *verifier.signature_alg_id() == *signed.algorithm && *verifier.public_key_alg_id() == *key_algorithm
    });
    fits.any(|verifier| verifier.verify_signature(key, signed.content, signed.signature).is_ok())
}

/// Returns the reason why `new` must not replace `current`: a list of the same issuer is older there, by its time or its number, or
/// none is left of it. Lists that some authorities split into parts are compared by the newest part. A key numbers its own lists: those
/// of another key of the same name are compared by their times only, and do not take the place of one whose key is among the `anchors`.
/// One whose key is no longer among them revokes nothing, and may go.
pub(super) fn find_older(
    new: &[Crl],
    current: &[Crl],
    anchors: &[TrustAnchor<'_>],
    provider: &CryptoProvider,
) -> Option<String> {
    current.iter().find_map(|current| {
        let old = &current.info;
        let same = || new.iter().map(|crl| &crl.info).filter(|info| info.issuer == old.issuer);
        let Some(newest) = same().map(|info| info.this_update_s).max() else {
            let why = "it has no list of an issuer that the one in effect has: restart the agent to do without";
            return Some(why.to_owned());
        };
        let signer = current.signer(anchors, provider);
        if signer == Signer::Unverified {
            return None;
        }
        if newest < old.this_update_s {
            return Some("it is older than the one in effect".to_owned());
        }
        if let Signer::Anchors(signers) = signer {
            let has_signed = |crl: &&Crl| signers.iter().any(|index| crl.is_signed_by(&anchors[*index], provider));
            match new.iter().filter(has_signed).map(|crl| crl.info.this_update_s).max() {
                Some(newest) if newest < old.this_update_s => {
                    return Some("it is older than the one in effect".to_owned());
                }
                Some(_) => {}
                None => {
                    let why = "it has only lists of another key of the issuer, and the key of the one in effect still has an \
                               authority: put the lists of both keys into the file, or remove the authority of the former key";
                    return Some(why.to_owned());
                }
            }
        }
        let of_key = same().filter(|info| info.authority_key == old.authority_key);
        let (highest, known) = (of_key.filter_map(|info| info.number.as_ref()).max()?, old.number.as_ref()?);
        (highest < known).then(|| {
            format!("its number is {highest}, and the one in effect has the higher number {known}: it is older")
        })
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair,
        KeyUsagePurpose,
    };

    use super::*;

    #[test]
    fn bytes_behind_a_list_in_der_are_told_with_what_to_do() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2036, 1, 1),
            crl_number: rcgen::SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let mut der = list.signed_by(&issuer).unwrap().der().to_vec();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let read = |der: &[u8]| parse(Path::new("/x.crl"), der, &[], &provider);
        assert_eq!(read(&der).unwrap().len(), 1);
        der.push(b'\n');
        let error = read(&der).unwrap_err().to_string();
        assert!(error.contains("bytes follow the list") && error.contains("openssl crl -inform DER"), "{error}");
        der.truncate(der.len() / 2);
        let error = read(&der).unwrap_err().to_string();
        assert!(error.contains("fetch the list again"), "{error}");
    }
}
