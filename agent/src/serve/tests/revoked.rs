//! Connections and streams that were begun in good order, and end when what they rest on does.

use std::time::Duration;

use super::*;

/// Revocation takes effect within this time, by the agent's own clock.
const WITHIN: Duration = Duration::from_secs(5);

const FOLLOW: &str = "GET /v1/events?follow=true HTTP/1.1\r\nhost: localhost\r\n\r\n";
const HEALTH: &str = "GET /v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Reads until `wanted` has come.
async fn read_until(stream: &mut TlsStream<TcpStream>, wanted: &str) {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).await.unwrap();
        assert!(read > 0, "it ended before {wanted}: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&some[..read]);
    }
}

/// Waits until the server ends the connection, whatever comes before.
async fn ended(stream: &mut TlsStream<TcpStream>) {
    let end = async {
        let mut some = [0; 4096];
        while stream.read(&mut some).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(WITHIN, end).await.expect("it ends");
}

/// The connection stays for a while that is longer than the agent's interval of looking.
async fn stays(stream: &mut TlsStream<TcpStream>) {
    let mut some = [0; 4096];
    let read = tokio::time::timeout(Duration::from_millis(2500), stream.read(&mut some)).await;
    assert!(read.is_err(), "it ended: {read:?}");
}

#[tokio::test]
async fn a_stream_ends_when_the_grant_is_removed_and_no_other_does() {
    let api = Api::start().await;
    let grants = api.dir.path().join("grants.toml");
    let more = format!("{GRANTS}{}", GRANTS.replace("spiffe://x/ann", "spiffe://x/bob"));
    crate::site_file::replace(&grants, &more);
    let (ann, bob) = (leaf(&api.issuer, &["spiffe://x/ann"], |_| {}), leaf(&api.issuer, &["spiffe://x/bob"], |_| {}));
    let mut of_ann = api.open(Some(&ann), FOLLOW).await.unwrap();
    let mut of_bob = api.open(Some(&bob), FOLLOW).await.unwrap();
    read_until(&mut of_ann, "\r\n\r\n").await;
    read_until(&mut of_bob, "\r\n\r\n").await;
    // There are no requests: only the file changes.
    crate::site_file::replace(&grants, GRANTS);
    ended(&mut of_bob).await;
    stays(&mut of_ann).await;
    // Broken grants revoke nothing.
    crate::site_file::replace(&grants, "[[grunt]]");
    stays(&mut of_ann).await;
    crate::site_file::replace(&grants, GRANTS.replace("\"read\", ", ""));
    ended(&mut of_ann).await;
    api.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let api = Api::start().await;
    let end = time::OffsetDateTime::now_utc() + Duration::from_secs(3);
    let short = leaf(&api.issuer, &["spiffe://x/ann"], |params| params.not_after = end);
    let mut idle = api.open(Some(&short), HEALTH).await.unwrap();
    let mut following = api.open(Some(&short), FOLLOW).await.unwrap();
    read_until(&mut idle, "\r\n\r\n").await;
    read_until(&mut following, "\r\n\r\n").await;
    let left = u64::try_from((end - time::OffsetDateTime::now_utc()).whole_milliseconds()).unwrap_or(0);
    let closed = tokio::time::timeout(Duration::from_millis(left) + WITHIN, async {
        let (mut one, mut two) = ([0; 4096], [0; 4096]);
        while idle.read(&mut one).await.is_ok_and(|read| read > 0) {}
        while following.read(&mut two).await.is_ok_and(|read| read > 0) {}
    });
    closed.await.expect("both end in time");
    assert!(time::OffsetDateTime::now_utc() > end, "not before");
    api.stop().await;
}

#[tokio::test]
async fn a_connection_ends_when_its_authority_is_replaced() {
    let api = Api::start().await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let mut following = api.open(Some(&ann), FOLLOW).await.unwrap();
    read_until(&mut following, "\r\n\r\n").await;
    let (_other, pem) = authority();
    let ca = api.dir.path().join("ca.pem");
    // A further authority changes nothing for this caller.
    std::fs::write(&ca, format!("{}{pem}", api.root)).unwrap();
    stays(&mut following).await;
    std::fs::write(&ca, pem).unwrap();
    ended(&mut following).await;
    api.stop().await;
}

/// Parses the certificate of `identity`, as the handshake gives it.
fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()]
}

#[tokio::test]
async fn authorities_that_change_during_a_handshake_decide() {
    let (dir, issuer, _) = prepare();
    let tls = Tls::load(&config(dir.path()).tls, Arc::default());
    let ann = leaf(&issuer, &["spiffe://x/ann"], |_| {});
    let (_, verifying) = tls.current().unwrap();
    assert!(tls.open(chain(&ann), &verifying).is_ok());
    let (other, pem) = authority();
    std::fs::write(dir.path().join("new"), pem).unwrap();
    std::fs::rename(dir.path().join("new"), dir.path().join("ca.pem")).unwrap();
    // Another connection has the files read again before this one is registered.
    let (_, newer) = tls.current().unwrap();
    assert!(tls.open(chain(&ann), &verifying).is_err());
    let bob = leaf(&other, &["spiffe://x/bob"], |_| {});
    assert!(tls.open(chain(&bob), &newer).is_ok());
}

#[tokio::test]
async fn a_certificate_that_expires_during_its_handshake_closes_the_connection() {
    let (dir, issuer, _) = prepare();
    let tls = Tls::load(&config(dir.path()).tls, Arc::default());
    let (_, verifying) = tls.current().unwrap();
    // The last second in which the handshake could accept it.
    let end = time::OffsetDateTime::from_unix_timestamp(verifying.since_s()).unwrap();
    let short = leaf(&issuer, &["spiffe://x/ann"], |params| params.not_after = end);
    let (mut open, _) = tls.open(chain(&short), &verifying).unwrap();
    tls.check_for_changes(verifying.since_s() + 5);
    let closed = tokio::time::timeout(WITHIN, open.closed()).await.expect("the connection is closed");
    assert_eq!(format!("{closed:?}"), "Expired");
}
