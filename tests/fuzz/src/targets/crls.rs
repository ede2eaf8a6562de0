//! Files of revocation lists, and principals of certificates, as the agent reads them.

use std::sync::LazyLock;

use bolt_agent::fuzz::{principal, revocation_lists};
use packs_schema::base::certificate::CertificateInfo;

use crate::{certificates, repository};

/// An authority that is on no disk: what a mutated list claims about it is checked against its key.
static AUTHORITY: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![repository::read("tests/fuzz/fixtures/authority.der")]);

pub(super) fn run(data: &[u8]) {
    match revocation_lists(data, &AUTHORITY, &[7]) {
        Ok(count) => assert!(count > 0),
        Err(message) => {
            assert!(message.len() <= 1024, "an error of {} bytes", message.len());
            assert!(!message.contains("PRIVATE KEY"), "{message}");
        }
    }
    match principal(data) {
        Ok(name) => {
            assert_eq!(CertificateInfo::parse(data).map(|info| info.uri_names), Some(1));
            assert!(name.as_str().contains("://"));
        }
        Err(message) => assert!(message.len() <= 1024, "an error of {} bytes", message.len()),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (issuer, authority) = certificates::authority();
    let list = certificates::revocation_list(&issuer);
    let text = "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n";
    let mut seeds = vec![list, text.into(), authority.der().to_vec()];
    seeds.extend(["spiffe://example/ann", "https://x/y", "bolt://instance/i-1"].map(|name| certificates::leaf(&issuer, name)));
    seeds.extend(repository::below("tests/fuzz/fixtures", &["list.der"]));
    seeds
}
