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

/// A revocation list of the issuer, valid until `hours` from now.
fn crl(issuer: &Authority, serials: &[u8], hours: i64) -> String {
    let now = time::OffsetDateTime::now_utc();
    let revoked = |serial: &u8| RevokedCertParams {
        serial_number: SerialNumber::from(vec![*serial]),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: now - time::Duration::hours(3),
        next_update: now + time::Duration::hours(hours),
        crl_number: SerialNumber::from(1u64),
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
    assert!(metrics.contains("bolt_ends_within_days{kind=\"crl\""), "{metrics}");
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
