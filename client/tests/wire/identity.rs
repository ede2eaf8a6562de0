//! Identities: each wrong certificate has an error of its own, on both sides.

use std::time::Duration;

use bolt_client::connection::Agent;
use bolt_client::error::Kind;
use bolt_client::inventory::{Address, Instance};
use bolt_client::pki::{Authority, Validity};
use bolt_client::tls::Identity;
use packs_schema::agent::rest::Health;
use packs_schema::base::name::Principal;
use time::OffsetDateTime;

use crate::server::{Answer, World, id, instance, json};

fn health() -> Answer {
    json(&Health {
        live: true,
        ready: true,
        degraded: false,
        reasons: Vec::new(),
        notes: Vec::new(),
        instance: id("i-1"),
        version: "0".into(),
    })
}

async fn ask(instance: &Instance, identity: &Identity) -> Result<Health, Kind> {
    Agent::new(instance, identity).health().await.map_err(|e| e.kind)
}

fn past() -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity { not_before: now - Duration::from_secs(7200), not_after: now - Duration::from_secs(3600) }
}

fn future() -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity { not_before: now + Duration::from_secs(3600), not_after: now + Duration::from_secs(7200) }
}

#[tokio::test]
async fn the_right_instance_is_believed_and_a_connection_is_kept() {
    let world = World::new();
    let server = world.server("i-1", |_| health()).await;
    let agent = Agent::connect(&server.instance, &world.identity()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(agent.health().await.unwrap().instance, id("i-1"));
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let world = World::new();
    let issued = Authority::create("test").unwrap().issue_instance(&id("i-1"), Validity::days(1)).unwrap();
    let server = world.server_with("i-1", &issued, |_| health()).await;
    let kind = ask(&server.instance, &world.identity()).await.unwrap_err();
    assert!(matches!(kind, Kind::UnknownAuthority), "{kind}");
}

#[tokio::test]
async fn a_server_whose_certificate_has_ended_or_not_begun_is_not_believed() {
    let world = World::new();
    let old = world.authority.issue_instance(&id("i-1"), past()).unwrap();
    let server = world.server_with("i-1", &old, |_| health()).await;
    let kind = ask(&server.instance, &world.identity()).await.unwrap_err();
    assert!(matches!(kind, Kind::Expired), "{kind}");
    let early = world.authority.issue_instance(&id("i-1"), future()).unwrap();
    let server = world.server_with("i-1", &early, |_| health()).await;
    let kind = ask(&server.instance, &world.identity()).await.unwrap_err();
    assert!(matches!(kind, Kind::NotYetValid), "{kind}");
}

#[tokio::test]
async fn another_instance_at_the_address_is_named_and_not_believed() {
    let world = World::new();
    // Its address is in the certificate, which must not matter.
    let other = world.authority.issue_instance_at(&id("i-2"), &["127.0.0.1".into()], Validity::days(1)).unwrap();
    let server = world.server_with("i-1", &other, |_| health()).await;
    let kind = ask(&server.instance, &world.identity()).await.unwrap_err();
    assert_eq!(kind.to_string(), "reached i-2, not i-1");
}

#[tokio::test]
async fn a_client_certificate_makes_no_server() {
    let world = World::new();
    // Even one that names the instance.
    let principal = Principal::new("bolt://instance/i-1").unwrap();
    let issued = world.authority.issue_client(&principal, Validity::days(1)).unwrap();
    let server = world.server_with("i-1", &issued, |_| health()).await;
    let kind = ask(&server.instance, &world.identity()).await.unwrap_err();
    assert!(matches!(&kind, Kind::Tls(text) if text.contains("servers")), "{kind}");
}

#[tokio::test]
async fn a_server_that_refuses_our_certificate_is_understood() {
    let world = World::new();
    let server = world.server("i-1", |_| health()).await;
    let principal = Principal::new("spiffe://test/operator").unwrap();
    let stranger = Authority::create("test").unwrap().issue_client(&principal, Validity::days(1)).unwrap();
    let old = world.authority.issue_client(&principal, past()).unwrap();
    let agent = world.authority.issue_instance(&id("i-9"), Validity::days(1)).unwrap();
    for (what, issued) in [("stranger", stranger), ("old", old), ("agent", agent)] {
        let kind = ask(&server.instance, &world.identity_of(&issued, what)).await.unwrap_err();
        assert!(matches!(kind, Kind::CertificateRefused(_)), "{what}: {kind}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let world = World::new();
    let identity = world.identity();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let kind = ask(&instance("i-1", address), &identity).await.unwrap_err();
    assert!(matches!(kind, Kind::ConnectionRefused), "{kind}");
    let mut nowhere = instance("i-1", address);
    nowhere.address = Address::new("no-such-host.invalid:1").unwrap();
    let kind = ask(&nowhere, &identity).await.unwrap_err();
    assert!(matches!(kind, Kind::Unresolved(_)), "{kind}");
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let principal = Principal::new("spiffe://test/operator").unwrap();
    let issued = world.authority.issue_client(&principal, Validity::days(1)).unwrap();
    let (certificate, key) = issued.write(world.path(), "me").unwrap();
    let ca = world.path().join("ca2.pem");
    std::fs::write(&ca, world.authority.cert_pem()).unwrap();
    assert!(Identity::load(&certificate, &key, &ca).is_ok());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Identity::load(&certificate, &key, &ca).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && error.contains("me.key"), "{error}");
    let error = Identity::load(&ca, &certificate, &ca).unwrap_err().to_string();
    assert!(!error.contains("PRIVATE"), "{error}");
}

/// A program that knows nothing of Bolt checks the name that it connects to.
#[tokio::test]
async fn any_https_client_verifies_an_instance_by_its_id_as_a_host_name() {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

    let world = World::new();
    let server = world.server("i-0abc", |_| health()).await;
    let principal = Principal::new("spiffe://test/operator").unwrap();
    let ours = world.authority.issue_client(&principal, Validity::days(1)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.authority.cert_pem().as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(ours.cert_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(ours.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    for (name, known) in [("i-0abc", true), ("i-0abd", false)] {
        let address = (server.instance.address.host().to_owned(), server.instance.address.port());
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let made = connector.connect(ServerName::try_from(name).unwrap(), tcp).await;
        assert_eq!(made.is_ok(), known, "{name}: {made:?}");
    }
}

#[tokio::test]
async fn an_address_of_one_link_needs_a_zone_that_is_there() {
    let world = World::new();
    for (address, words) in
        [("[fe80::1]:1", "[fe80::1%eth0]:1"), ("[fe80::1%no-such0]:1", "no network interface no-such0")]
    {
        let there = Instance {
            facts: packs_schema::delivery::facts::Facts::of(id("i-1")),
            address: Address::new(address).unwrap(),
        };
        let kind = ask(&there, &world.identity()).await.unwrap_err();
        assert!(matches!(&kind, Kind::Address(text) if text.contains(words)), "{kind}");
        assert_eq!(kind.hint(), Some("check its address in the inventory"));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_an_authority_is_refused_as_one() {
    let world = World::new();
    let principal = Principal::new("spiffe://test/operator").unwrap();
    let issued = world.authority().issue_client(&principal, Validity::days(1)).unwrap();
    let (certificate, key) = issued.write(&world.path().join("own"), "own").unwrap();
    let error = Identity::load(&certificate, &key, &certificate).unwrap_err().to_string();
    assert!(error.contains("own.pem") && error.contains("use the authority's"), "{error}");
}
