//! Certificates, revocation lists and PEM files: our own readers of DER, and the client's description of a certificate.

use std::path::Path;

use bolt_client::pki::Subject;
use packs_schema::base::certificate::{CLIENT_AUTH, CertificateInfo, short_name};
use packs_schema::base::crl::{CrlInfo, Signed, public_key_content, split_public_key};
use packs_schema::base::pem::{Expected, PemError};

use crate::certificates;

pub(super) fn run(data: &[u8]) {
    if let Some(info) = CertificateInfo::parse(data) {
        info.has_usage(CLIENT_AUTH);
    }
    if let Some(crl) = CrlInfo::parse(data) {
        let signed = Signed::parse(data).expect("a list is signed");
        assert_eq!((signed.content, signed.signature), (&crl.signed[..], &crl.signature[..]));
        assert!(crl.signed.len() + crl.signature.len() + crl.algorithm.len() <= data.len());
    }
    short_name(data);
    if let Some(content) = public_key_content(data) {
        split_public_key(content);
    }
    if let Ok(subject) = Subject::of_certificate(data) {
        assert!(subject.uri().contains("://"));
    }
    for expected in [Expected::Certificates, Expected::Key, Expected::Crls] {
        let error = PemError::diagnose(Path::new("/x.pem"), expected, data).to_string();
        assert!(error.len() <= 512, "an error of {} bytes", error.len());
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (issuer, authority) = certificates::authority();
    let names = ["spiffe://example/ann", "bolt://instance/i-1"];
    let mut seeds: Vec<Vec<u8>> = names.map(|name| certificates::leaf(&issuer, name).to_vec()).into();
    seeds.push(certificates::revocation_list(&issuer).to_vec());
    seeds.push(authority.der().to_vec());
    seeds.push(authority.pem().into_bytes());
    seeds.push(authority.pem().replace('\n', "\\n").into_bytes());
    seeds
}
