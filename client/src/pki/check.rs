//! Checks an authority's files before it signs, so that clients and agents accept what it signs.

use rcgen::KeyPair;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Error returned for a certificate and a key that make no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityProblem {
    /// The file holds no certificate.
    #[error("the file of the authority holds no certificate in PEM form")]
    NoCertificate,
    /// The certificate is that of an instance or a client.
    #[error(
        "it is the certificate of an instance or a client, not of an authority (CA:TRUE): nothing trusts what it signs"
    )]
    NoAuthority,
    /// The certificate may sign other things only.
    #[error("it may not sign certificates: its key usage lacks keyCertSign")]
    MayNotSign,
    /// The authority may sign no other authority.
    #[error(
        "it may sign no other authority (path length 0): make a root for intermediates with `bolt pki init --intermediates`"
    )]
    NoIntermediates,
    /// The intermediate would have the name of the authority that signs it.
    #[error("the authority that signs it has this name: give it another one with --name")]
    SameName,
    /// Another intermediate of the authority has the name.
    #[error(
        "the authority has signed another one of this name, which is valid until {ends} (serial number {serial}): give \
         this one another name with --name, or renew that one with `bolt pki renew`"
    )]
    NameTaken {
        /// Serial number of the other one.
        serial: String,
        /// End of its validity.
        ends: String,
    },
    /// The certificate has expired.
    #[error(
        "the authority has expired at {0}: make another one with `bolt pki init`, and give its ca.pem to agents and clients"
    )]
    Expired(String),
    /// The certificate is not valid yet.
    #[error("the authority is not valid before {0}: check this host's clock")]
    NotYetValid(String),
    /// The key does not belong to the certificate.
    #[error(
        "the key beside it is not its key: nothing would trust what it signs; put the two that belong together there"
    )]
    OtherKey,
}

/// Checks the certificate and the key of an authority that is to sign now. Returns the end of its validity: nothing that it
/// signs may be valid for longer.
pub(super) fn check(cert_pem: &str, key: &KeyPair, now: OffsetDateTime) -> Result<OffsetDateTime, AuthorityProblem> {
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).map_err(|_| AuthorityProblem::NoCertificate)?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(|_| AuthorityProblem::NoCertificate)?;
    if !certificate.basic_constraints().ok().flatten().is_some_and(|extension| extension.value.ca) {
        return Err(AuthorityProblem::NoAuthority);
    }
    // Without the extension a key may be used for everything (RFC 5280, section 4.2.1.3).
    if !certificate.key_usage().ok().flatten().is_none_or(|extension| extension.value.key_cert_sign()) {
        return Err(AuthorityProblem::MayNotSign);
    }
    let (begins, ends) =
        (certificate.validity().not_before.to_datetime(), certificate.validity().not_after.to_datetime());
    if now > ends {
        return Err(AuthorityProblem::Expired(shown(ends)));
    }
    if now < begins {
        return Err(AuthorityProblem::NotYetValid(shown(begins)));
    }
    if *certificate.public_key().subject_public_key.data != *key.public_key_raw() {
        return Err(AuthorityProblem::OtherKey);
    }
    Ok(ends)
}

/// Formats a time for people, RFC 3339.
pub(super) fn shown(time: OffsetDateTime) -> String {
    jiff::Timestamp::from_second(time.unix_timestamp())
        .map_or_else(|_| "an unknown time".to_owned(), |at| at.to_string())
}
