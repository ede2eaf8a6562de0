//! Revocation of callers' certificates.
//!
//! A certificate is revoked when a list names it that the same key signed as the certificate, under the name of its issuer. The key
//! is an authority's of the configuration, or an intermediate's that the caller sent: of whichever path a chain is accepted by, the
//! key that signed each of its certificates is among these. So no other authority saves a revoked certificate, and a list that
//! someone else signed under the same name revokes nothing.
//!
//! Not left to the TLS library: it asks one list for each name, refuses everything where its signature does not fit, and gives
//! each path a list of its own choice. Signatures are verified only for a certificate that a list names, and where expired lists
//! refuse.

use std::sync::Arc;

use packs_schema::agent::config::ExpiredCrl;
use packs_schema::base::crl::{Signed, public_key_content};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::{CertificateError, Error};
use webpki::EndEntityCert;

use super::crls::{Crl, Signer, is_signed_by};

/// Lists in effect.
#[derive(Debug)]
pub(super) struct Revocation {
    lists: Vec<Crl>,
    /// Name and public key of each authority.
    authorities: Vec<(Vec<u8>, Vec<u8>)>,
    expired: ExpiredCrl,
    provider: Arc<CryptoProvider>,
}

/// Key of an issuer: the content of its SubjectPublicKeyInfo.
type Key = Vec<u8>;

impl Revocation {
    /// Returns the lists, and the indices of those that are left out because an authority has their name, but not their key.
    pub(super) fn new(
        crls: &[&Crl],
        anchors: &[TrustAnchor<'_>],
        expired: ExpiredCrl,
        provider: &Arc<CryptoProvider>,
    ) -> (Revocation, Vec<usize>) {
        let is_left_out = |crl: &Crl| crl.signer(anchors, provider) == Signer::Unverified;
        let (left_out, used): (Vec<_>, Vec<_>) = crls.iter().enumerate().partition(|(_, crl)| is_left_out(crl));
        let authority = |anchor: &TrustAnchor<'_>| (anchor.subject.to_vec(), anchor.subject_public_key_info.to_vec());
        let revocation = Revocation {
            lists: used.into_iter().map(|(_, crl)| (*crl).clone()).collect(),
            authorities: anchors.iter().map(authority).collect(),
            expired,
            provider: provider.clone(),
        };
        (revocation, left_out.into_iter().map(|(index, _)| index).collect())
    }

    /// Returns true if a certificate may be refused later because a list has expired.
    pub(super) fn refuses_expired(&self) -> bool {
        self.expired == ExpiredCrl::Refuse && !self.lists.is_empty()
    }

    /// Refuses a chain, which was accepted otherwise, of which a certificate is revoked.
    pub(super) fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let damaged = |_| Error::from(CertificateError::BadEncoding);
        let sent: Vec<EndEntityCert<'_>> =
            intermediates.iter().map(EndEntityCert::try_from).collect::<Result<_, _>>().map_err(damaged)?;
        let first = EndEntityCert::try_from(end_entity).map_err(damaged)?;
        for certificate in std::iter::once(&first).chain(&sent) {
            self.check_one(certificate, &sent, now)?;
        }
        Ok(())
    }

    fn check_one(
        &self,
        certificate: &EndEntityCert<'_>,
        sent: &[EndEntityCert<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let issuer = certificate.issuer();
        let lists: Vec<&Crl> = self.lists.iter().filter(|list| list.info.issuer == issuer).collect();
        let is_named = lists.iter().any(|list| list.names(certificate.serial()));
        if !is_named && (lists.is_empty() || self.expired == ExpiredCrl::Accept) {
            return Ok(());
        }
        let der = certificate.der();
        let signed = Signed::parse(&der).ok_or(CertificateError::BadEncoding)?;
        let mut keys = self.keys_of(issuer, sent);
        // A caller may send one certificate many times, and a list of some megabytes is hashed for each key.
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| is_signed_by(&signed, key, &self.provider));
        let mut of_key =
            lists.into_iter().filter(|list| keys.iter().any(|key| list.is_signed_by_key(key, &self.provider)));
        let of_key: Vec<&Crl> = of_key.by_ref().collect();
        if of_key.iter().any(|list| list.names(certificate.serial())) {
            return Err(CertificateError::Revoked.into());
        }
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let newest = of_key.iter().map(|list| list.info.next_update_s).max();
        match (self.expired, newest) {
            (ExpiredCrl::Refuse, Some(next_update_s)) if next_update_s < now_s => {
                Err(CertificateError::ExpiredRevocationList.into())
            }
            _ => Ok(()),
        }
    }

    /// Returns the keys of all known authorities with a name.
    fn keys_of(&self, name: &[u8], sent: &[EndEntityCert<'_>]) -> Vec<Key> {
        let configured = self.authorities.iter().filter(|(subject, _)| *subject == name).map(|(_, key)| key.clone());
        let intermediates = sent.iter().filter(|certificate| certificate.subject() == name).filter_map(|certificate| {
            let key = certificate.subject_public_key_info();
            public_key_content(&key).map(<[u8]>::to_vec)
        });
        configured.chain(intermediates).collect()
    }
}
