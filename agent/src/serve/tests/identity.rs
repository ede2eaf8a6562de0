//! Authorities with confined principals, and revocation lists.

use std::time::Duration;

use packs_schema::agent::config::{ClientAuthority, ExpiredCrl};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};

use super::*;

const FOLLOW: &str = "GET /v1/events?follow=true HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// Revocation takes effect within this time, by the agent's own clock.
const WITHIN: Duration = Duration::from_secs(5);

/// A certificate of `name` with this serial number.
fn numbered(issuer: &Authority, name: &str, serial: u8) -> Identity {
    leaf(issuer, &[name], |params| params.serial_number = Some(SerialNumber::from(vec![serial])))
}

/// An authority between, signed by the issuer, and its certificate.
fn between(issuer: &Authority, name: &str) -> (Authority, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.signed_by(&key, issuer).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// Adds the certificates of authorities between to those that a caller sends.
fn with_chain(mut identity: Identity, authorities: &[&str]) -> Identity {
    identity.certificate.extend(authorities.iter().copied());
    identity
}

/// A revocation list of the issuer, valid until `hours` from now.
fn crl(issuer: &Authority, serials: &[u8], hours: i64) -> String {
    crl_made(issuer, serials, hours, 3)
}

/// A revocation list of the issuer, made some hours ago.
fn crl_made(issuer: &Authority, serials: &[u8], hours: i64, ago: i64) -> String {
    crl_numbered(issuer, serials, hours, ago, 1)
}

fn crl_numbered(issuer: &Authority, serials: &[u8], hours: i64, ago: i64, number: u64) -> String {
    let now = time::OffsetDateTime::now_utc();
    let revoked = |serial: &u8| RevokedCertParams {
        serial_number: SerialNumber::from(vec![*serial]),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: now - time::Duration::hours(ago),
        next_update: now + time::Duration::hours(hours),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

/// Replaces a file as a whole.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

async fn ended(stream: &mut TlsStream<TcpStream>) {
    let end = async {
        let mut some = [0; 4096];
        while stream.read(&mut some).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(WITHIN, end).await.expect("the connection ends");
}

async fn health(api: &Api, ann: &Identity, part: &str, there: bool) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = api.ask(Some(ann), "GET", "/v1/health", "").await.unwrap();
        if answer.contains(part) == there {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{part} {there}: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts with an empty revocation list in `crl.pem`, which expires after `hours`.
async fn with_crl(hours: i64, expired: ExpiredCrl) -> Api {
    Api::start_changed(|config, issuer| {
        let path = config.tls.key.with_file_name("crl.pem");
        std::fs::write(&path, crl(issuer, &[], hours)).unwrap();
        config.tls.crls = vec![path];
        config.tls.expired_crl = expired;
    })
    .await
}

#[tokio::test]
async fn a_revoked_certificate_ends_its_connections_and_no_others() {
    let api = with_crl(24, ExpiredCrl::Accept).await;
    let path = api.dir.path().join("crl.pem");
    let (ann, lost) = (numbered(&api.issuer, "spiffe://x/ann", 7), numbered(&api.issuer, "spiffe://x/ann", 8));
    let mut following = api.open(Some(&lost), FOLLOW).await.unwrap();
    let mut other = api.open(Some(&ann), FOLLOW).await.unwrap();
    let mut some = [0; 16];
    following.read_exact(&mut some).await.unwrap();
    other.read_exact(&mut some).await.unwrap();
    put(&path, &crl(&api.issuer, &[8], 24));
    ended(&mut following).await;
    assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err(), "a new connection is refused");
    // Lists that cannot be used leave the last valid one in effect: damaged, and signed by another key of this name.
    let (stranger, _) = authority();
    for broken in ["nothing".to_owned(), crl(&stranger, &[7], 24)] {
        put(&path, &broken);
        let answer = health(&api, &ann, "tls_invalid", true).await;
        assert!(answer.contains("crl.pem") && answer.contains("previous content remains in effect"), "{answer}");
        let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
        assert!(metrics.contains(&format!("bolt_file_invalid{{file=\"{}\"}} 1", path.display())), "{metrics}");
        assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err(), "it stays revoked");
    }
    put(&path, &crl(&api.issuer, &[], 24));
    health(&api, &ann, "tls_invalid", false).await;
    assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_ok());
    let read = tokio::time::timeout(Duration::from_millis(1), async {
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).await
    });
    assert!(read.await.is_err(), "the other connection stays open");
    api.stop().await;
}

#[tokio::test]
async fn an_expired_list_is_reported_and_refuses_callers_only_where_that_is_configured() {
    let api = with_crl(-1, ExpiredCrl::Accept).await;
    let ann = numbered(&api.issuer, "spiffe://x/ann", 7);
    let answer = health(&api, &ann, "crl_expired", true).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
    assert!(metrics.contains("bolt_ends_within_seconds{kind=\"crl\""), "{metrics}");
    api.stop().await;
    let api = with_crl(-1, ExpiredCrl::Refuse).await;
    let ann = numbered(&api.issuer, "spiffe://x/ann", 7);
    assert!(api.ask(Some(&ann), "GET", "/v1/health", "").await.is_err(), "refused");
    api.stop().await;
}

#[tokio::test]
async fn a_confined_authority_vouches_for_its_principals_only() {
    let (studio, pem) = authority();
    let api = Api::start_changed(|config, _| {
        let file = config.tls.key.with_file_name("studio.pem");
        std::fs::write(&file, &pem).unwrap();
        let principals = vec!["spiffe://x/studio/*".to_owned().try_into().unwrap()];
        config.tls.client_authorities = vec![ClientAuthority { file, principals }];
        std::fs::write(&config.paths.grants, GRANTS.replace("spiffe://x/ann", "spiffe://x/*")).unwrap();
    })
    .await;
    for (issuer, name, expected) in [
        (&studio, "spiffe://x/studio/user/ann", 200),
        (&studio, "spiffe://x/ann", 401),
        (&studio, "spiffe://x/studio", 401),
        (&api.issuer, "spiffe://x/ann", 200),
        (&api.issuer, "spiffe://x/studio/user/ann", 200),
    ] {
        let caller = leaf(issuer, &[name], |_| {});
        let answer = api.ask(Some(&caller), "GET", "/v1/access?verb=read", "").await.unwrap();
        assert_eq!(status(&answer), expected, "{name}: {answer}");
        assert_eq!(answer.contains("may not vouch for"), expected == 401, "{answer}");
    }
    api.stop().await;
}

/// Bundles of root and issuing authority are usual: the chain is accepted by either.
#[tokio::test]
async fn no_other_authority_saves_a_revoked_certificate() {
    let mut sub = None;
    let api = Api::start_changed(|config, issuer| {
        let (made, pem) = between(issuer, "issuing");
        let ca = config.tls.client_ca.clone().unwrap();
        let bundle = std::fs::read_to_string(&ca).unwrap() + &pem;
        std::fs::write(ca, bundle).unwrap();
        let path = config.tls.key.with_file_name("crl.pem");
        std::fs::write(&path, crl(&made, &[8], 24)).unwrap();
        config.tls.crls = vec![path];
        sub = Some((made, pem));
    })
    .await;
    let (sub, pem) = sub.unwrap();
    for (serial, accepted) in [(7, true), (8, false)] {
        for chain in [&[][..], &[pem.as_str()]] {
            let caller = with_chain(numbered(&sub, "spiffe://x/ann", serial), chain);
            let answer = api.ask(Some(&caller), "GET", "/v1/health", "").await;
            assert_eq!(answer.is_ok(), accepted, "{serial}, {} authorities sent: {answer:?}", chain.len());
        }
        // The root has revoked nothing.
        let caller = numbered(&api.issuer, "spiffe://x/ann", serial);
        assert!(api.ask(Some(&caller), "GET", "/v1/health", "").await.is_ok());
    }
    api.stop().await;
}

#[tokio::test]
async fn a_list_of_an_intermediate_revokes_what_its_key_signed_and_nothing_else() {
    let api = with_crl(24, ExpiredCrl::Accept).await;
    let path = api.dir.path().join("crl.pem");
    let (sub, pem) = between(&api.issuer, "issuing");
    let (forger, _) = between(&authority().0, "issuing");
    let caller = |serial| with_chain(numbered(&sub, "spiffe://x/ann", serial), &[&pem]);
    let empty = crl(&api.issuer, &[], 24);
    put(&path, &(empty.clone() + &crl_made(&forger, &[7], 24, 1)));
    assert!(api.ask(Some(&caller(7)), "GET", "/v1/health", "").await.is_ok(), "a list that another key signed");
    put(&path, &(empty.clone() + &crl_made(&forger, &[7], 24, 0) + &crl(&sub, &[8], 24)));
    assert!(api.ask(Some(&caller(7)), "GET", "/v1/health", "").await.is_ok());
    assert!(api.ask(Some(&caller(8)), "GET", "/v1/health", "").await.is_err(), "the list of its issuer");
    api.stop().await;
}

#[tokio::test]
async fn an_older_list_does_not_take_a_revocation_back() {
    let api = with_crl(24, ExpiredCrl::Accept).await;
    let path = api.dir.path().join("crl.pem");
    let (ann, lost) = (numbered(&api.issuer, "spiffe://x/ann", 7), numbered(&api.issuer, "spiffe://x/ann", 8));
    put(&path, &crl_numbered(&api.issuer, &[8], 24, 1, 10));
    assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err());
    let (sub, _) = between(&api.issuer, "issuing");
    for (list, why) in [
        (crl_numbered(&api.issuer, &[], 24, 2, 11), "it is older than the one in effect"),
        (crl_numbered(&api.issuer, &[], 24, 0, 9), "its number is 9, and the one in effect has the higher number 10"),
        (crl(&sub, &[], 24), "it has no list of an issuer that the one in effect has"),
    ] {
        put(&path, &list);
        let answer = health(&api, &ann, "tls_invalid", true).await;
        assert!(answer.contains(why), "{answer}");
        assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err(), "{why}");
    }
    put(&path, &crl_numbered(&api.issuer, &[], 24, 0, 10));
    health(&api, &ann, "tls_invalid", false).await;
    assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_ok());
    api.stop().await;
}

#[tokio::test]
async fn a_list_that_arrives_before_its_authority_is_read_with_it() {
    let api = with_crl(24, ExpiredCrl::Accept).await;
    let (ca, path) = (api.dir.path().join("ca.pem"), api.dir.path().join("crl.pem"));
    let ann = numbered(&api.issuer, "spiffe://x/ann", 7);
    // A new key under the same name.
    let (renewed, pem) = authority();
    put(&path, &crl_made(&renewed, &[8], 24, 1));
    health(&api, &ann, "tls_invalid", true).await;
    put(&ca, &pem);
    let bob = numbered(&renewed, "spiffe://x/ann", 9);
    health(&api, &bob, "tls_invalid", false).await;
    assert!(api.ask(Some(&numbered(&renewed, "spiffe://x/ann", 8)), "GET", "/v1/health", "").await.is_err());
    api.stop().await;
}

#[tokio::test]
async fn a_list_of_another_key_takes_no_revocation_back_while_the_former_key_has_an_authority() {
    let api = with_crl(24, ExpiredCrl::Accept).await;
    let (ca, path) = (api.dir.path().join("ca.pem"), api.dir.path().join("crl.pem"));
    let (ann, lost) = (numbered(&api.issuer, "spiffe://x/ann", 7), numbered(&api.issuer, "spiffe://x/ann", 8));
    put(&path, &crl_made(&api.issuer, &[8], 24, 2));
    assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err());
    // A new key under the same name, beside the former one.
    let (renewed, pem) = authority();
    put(&ca, &(api.root.clone() + &pem));
    let of_renewed = crl_made(&renewed, &[], 24, 1);
    put(&path, &of_renewed);
    let answer = health(&api, &ann, "tls_invalid", true).await;
    assert!(answer.contains("put the lists of both keys into the file"), "{answer}");
    assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err(), "it stays revoked");
    // Of the former key an older one, of which the number does not tell.
    put(&path, &(crl_made(&api.issuer, &[], 24, 3) + &of_renewed));
    health(&api, &ann, "it is older than the one in effect", true).await;
    put(&path, &(crl_made(&api.issuer, &[8], 24, 1) + &of_renewed));
    health(&api, &ann, "tls_invalid", false).await;
    assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err());
    // Without the former authority its list, which is newer, is not needed.
    put(&path, &(crl_made(&api.issuer, &[6, 8], 24, 0) + &of_renewed));
    assert!(api.ask(Some(&numbered(&api.issuer, "spiffe://x/ann", 6)), "GET", "/v1/health", "").await.is_err());
    put(&ca, &pem);
    put(&path, &of_renewed);
    health(&api, &numbered(&renewed, "spiffe://x/ann", 9), "tls_invalid", false).await;
    api.stop().await;
}

#[tokio::test]
async fn a_damaged_authority_holds_up_no_revocation() {
    let api = with_crl(24, ExpiredCrl::Accept).await;
    let (ca, path) = (api.dir.path().join("ca.pem"), api.dir.path().join("crl.pem"));
    let (ann, lost) = (numbered(&api.issuer, "spiffe://x/ann", 7), numbered(&api.issuer, "spiffe://x/ann", 8));
    // Well-formed PEM of what is no certificate, and more authorities than are tried.
    let key = KeyPair::generate().unwrap().public_key_pem().replace("PUBLIC KEY", "CERTIFICATE");
    for broken in [key, api.root.repeat(33)] {
        put(&ca, &broken);
        let answer = health(&api, &ann, "tls_invalid", true).await;
        assert!(answer.contains("ca.pem"), "{answer}");
    }
    put(&path, &crl_made(&api.issuer, &[8], 24, 1));
    assert!(api.ask(Some(&lost), "GET", "/v1/health", "").await.is_err());
    assert!(api.ask(Some(&ann), "GET", "/v1/health", "").await.is_ok());
    api.stop().await;
}

/// Starts with an authority `studio`, which the root has signed, and which is confined to principals that begin with one of `prefixes`;
/// returns it with its certificate.
async fn with_confined_intermediate(prefixes: &[&str]) -> (Api, Authority, String) {
    let mut studio = None;
    let api = Api::start_changed(|config, issuer| {
        let (made, pem) = between(issuer, "studio");
        let file = config.tls.key.with_file_name("studio.pem");
        std::fs::write(&file, &pem).unwrap();
        let one = |prefix: &&str| ClientAuthority {
            file: file.clone(),
            principals: vec![format!("{prefix}*").try_into().unwrap()],
        };
        config.tls.client_authorities = prefixes.iter().map(one).collect();
        std::fs::write(&config.paths.grants, GRANTS.replace("spiffe://x/ann", "spiffe://x/*")).unwrap();
        studio = Some((made, pem));
    })
    .await;
    let (studio, pem) = studio.unwrap();
    (api, studio, pem)
}

#[tokio::test]
async fn a_confined_authority_is_confined_also_where_another_has_signed_it() {
    let (api, studio, pem) = with_confined_intermediate(&["spiffe://x/studio/", "spiffe://x/more/"]).await;
    for (name, expected) in [("spiffe://x/studio/ann", 200), ("spiffe://x/more/ann", 200), ("spiffe://x/ann", 401)] {
        for chain in [&[][..], &[pem.as_str()]] {
            let caller = with_chain(leaf(&studio, &[name], |_| {}), chain);
            let answer = api.ask(Some(&caller), "GET", "/v1/access?verb=read", "").await.unwrap();
            assert_eq!(status(&answer), expected, "{name}, {} authorities sent: {answer}", chain.len());
        }
    }
    api.stop().await;
}

/// The TLS library gives up after 100 signatures. The detours have the maximum length of a chain below the confined authority, and so
/// are too long to be tried below the root.
#[tokio::test]
async fn a_confined_authority_is_confined_also_where_a_caller_has_the_search_for_it_given_up() {
    let (api, studio, pem) = with_confined_intermediate(&["spiffe://x/studio/"]).await;
    let (mut last, below) = between(&studio, "6");
    // Each twice, which makes 64 detours of seven signatures.
    let mut sent = vec![below; 2];
    for name in ["5", "4", "3", "2", "1"] {
        let (next, below) = between(&last, name);
        sent.extend([below.clone(), below]);
        last = next;
    }
    let (direct, of_direct) = between(&studio, "1");
    sent.extend([of_direct, pem]);
    let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
    for (name, expected) in [("spiffe://x/studio/ann", 200), ("spiffe://x/ann", 401)] {
        let caller = with_chain(leaf(&direct, &[name], |_| {}), &sent);
        let answer = api.ask(Some(&caller), "GET", "/v1/access?verb=read", "").await.unwrap();
        assert_eq!(status(&answer), expected, "{name}: {answer}");
    }
    api.stop().await;
}

/// Every one of them is tried with the others.
#[tokio::test]
async fn more_authorities_than_a_chain_can_have_are_not_tried() {
    let api = Api::start().await;
    let (_, pem) = between(&api.issuer, "issuing");
    for (count, accepted) in [(16, true), (17, false)] {
        let caller = with_chain(numbered(&api.issuer, "spiffe://x/ann", 7), &vec![pem.as_str(); count]);
        let answer = api.ask(Some(&caller), "GET", "/v1/health", "").await;
        assert_eq!(answer.is_ok(), accepted, "{count}: {answer:?}");
    }
    api.stop().await;
}
