//! Certificate signing requests, which hosts and callers send to whoever keeps the authority.
//!
//! An input is a request in PEM, or the names, usages and constraints of one that is then signed: a changed byte breaks the
//! signature of a whole request, and nothing behind that would be reached.

use std::sync::LazyLock;

use bolt_client::fuzz::signing_request;
use bolt_client::pki::Subject;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use crate::{join, parts};

/// Object identifiers of the extensions of a request: subject alternative name, extended key usage, basic constraints.
const EXTENSIONS: [&[u64]; 3] = [&[2, 5, 29, 17], &[2, 5, 29, 37], &[2, 5, 29, 19]];
/// Maximum number of host names and addresses beside an instance's id.
const MAX_ADDRESSES: usize = 32;

/// Key of all requests.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().expect("a key"));

pub(super) fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
    let contents: [Vec<u8>; 3] = parts::<3>(data).map(hex);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let extensions = EXTENSIONS.iter().zip(contents).filter(|(_, content)| !content.is_empty());
    params.custom_extensions =
        extensions.map(|(oid, content)| CustomExtension::from_oid_content(oid, content)).collect();
    if let Ok(request) = params.serialize_request(&*KEY) {
        check(&request.pem().expect("a request is written"));
    }
}

/// Checks a request: if it is accepted, it names one instance or one caller, and its certificate names the same.
fn check(text: &str) {
    let (subject, certificate) = match signing_request(text) {
        Ok(signed) => signed,
        Err(message) => {
            assert!(message.len() <= 512, "an error of {} bytes", message.len());
            return;
        }
    };
    let uri = subject.uri();
    assert_eq!(matches!(subject, Subject::Instance { .. }), uri.to_ascii_lowercase().starts_with("bolt://instance/"));
    assert!(subject.addresses().len() <= MAX_ADDRESSES);
    assert!(!uri.contains(|c: char| c.is_control() || c.is_whitespace()), "{uri:?}");
    let named = Subject::of_certificate(&certificate).expect("a certificate of ours names its subject");
    assert_eq!(named.uri(), uri);
    let mut addresses = [subject.addresses().to_vec(), named.addresses().to_vec()];
    addresses.iter_mut().for_each(|addresses| addresses.sort());
    assert_eq!(addresses[0], addresses[1]);
}

/// Reads hexadecimal digits, so that NUL separates the parts of an input; anything else is left out.
fn hex(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = text.iter().filter_map(|byte| char::from(*byte).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // GeneralNames of one form each: a tag of context, a length, and the content.
    let name = |tag: u8, content: &[u8]| [&[0x80 | tag, u8::try_from(content.len()).expect("short")], content].concat();
    let sequence = |content: &[u8]| [&[0x30, u8::try_from(content.len()).expect("short")], content].concat();
    let usage = |last: u8| text(&sequence(&[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, last]));
    let caller = name(6, b"spiffe://example/ann");
    let instance = [name(6, b"bolt://instance/i-1"), name(2, b"db-1.example"), name(7, &[10, 0, 0, 1])].concat();
    let shouting = name(6, b"BOLT://INSTANCE/i-1");
    let mail = [caller.clone(), name(1, b"ann@example")].concat();
    let mut seeds: Vec<Vec<u8>> = [(&caller, usage(2)), (&instance, usage(1)), (&shouting, String::new()), (&mail, usage(2))]
        .map(|(names, usage)| join(&[text(&sequence(names)).as_bytes(), usage.as_bytes(), b"3000"]))
        .into();
    seeds.push(join(&[text(&sequence(&caller)).as_bytes(), b"", b"30030101ff"]));
    let params = CertificateParams::new(["db-1.example".to_owned()]).expect("a host name");
    let request = params.serialize_request(&*KEY).and_then(|request| request.pem()).expect("a request is written");
    seeds.push(request.into_bytes());
    seeds
}
