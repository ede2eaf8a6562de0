//! Renewal of the agent's own certificate while callers are connected: files are renamed into place, one after the other.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::Duration;

use bolt_client::local::LocalAgent;
use bolt_client::pki::{Issued, Validity};
use bolt_tests::World;
use bolt_tests::http::Held;
use packs_schema::base::name::InstanceId;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use crate::calls::until;

/// Renames a new file into the place of the agent's, with the owner and mode of that one.
pub(crate) fn put(agent: &LocalAgent, name: &str, content: impl AsRef<[u8]>) {
    let path = agent.directory().join("etc/tls").join(name);
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    copy_owner(&path, &new);
    std::fs::rename(new, path).unwrap();
}

fn copy_owner(from: &Path, to: &Path) {
    let old = std::fs::metadata(from).unwrap();
    chown(to, Some(old.uid()), Some(old.gid())).unwrap();
    std::fs::set_permissions(to, old.permissions()).unwrap();
}

/// A certificate of `i-1` that ends after this number of days, with a key of its own. Its life began three months ago.
fn issue(world: &World, days: u32) -> Issued {
    let mut validity = Validity::days(days);
    validity.not_before -= Duration::from_secs(90 * 86_400);
    world.site.authority().issue_instance(&InstanceId::new("i-1").unwrap(), validity).unwrap()
}

fn der(issued: &Issued) -> Vec<u8> {
    CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap().to_vec()
}

/// Returns the certificate of a new connection.
pub(crate) async fn served(world: &World, agent: &LocalAgent) -> Vec<u8> {
    Held::open(agent.address(), &world.site.operator(), None).await.unwrap().server_certificate()
}

#[tokio::test]
async fn a_renewal_of_the_own_certificate_interrupts_no_connection() {
    let world = World::with_probe();
    let agent = world.agent();
    let (bolt, operator) = (world.bolt(&[&agent]), world.operator(&agent));
    let check = || bolt.run(["can-i", "run", "probe.hello"]).code;
    let (old, new) = (issue(&world, 1), issue(&world, 365));
    // Certificate first: until the key is there, the two do not belong together.
    put(&agent, "agent.pem", &old.cert_pem);
    assert_ne!(served(&world, &agent).await, der(&old), "its key is not there yet");
    put(&agent, "agent.key", &old.key_pem);
    assert_eq!(served(&world, &agent).await, der(&old));

    // A connection between two requests, and another in the middle of an answer.
    let mut open = Held::open(agent.address(), &world.site.operator(), None).await.unwrap();
    let follow = Some("/v1/events?follow=true");
    let mut events = Held::open(agent.address(), &world.site.operator(), follow).await.unwrap();
    events.read_until("\r\n\r\n").await.unwrap();
    let mut health = async |code: &str, is_there: bool| {
        let mut last = String::new();
        until(&format!("{code}: {is_there}"), async || {
            last = open.get("/v1/health").await.expect("the connection stays open");
            last.contains(code) == is_there
        })
        .await;
        assert!(last.starts_with("HTTP/1.1 200 "), "{last}");
        assert_eq!(open.server_certificate(), der(&old));
        last
    };
    health("certificate_expiring", true).await;

    // Key first: callers get the last certificate that fits its key.
    put(&agent, "agent.key", &new.key_pem);
    let said = health("tls_invalid", true).await;
    assert!(said.contains("agent.key") && said.contains("does not belong to the first certificate"), "{said}");
    assert!(said.contains("its previous content remains in effect"), "{said}");
    assert_eq!(served(&world, &agent).await, der(&old));
    assert_eq!(check(), 0);
    put(&agent, "agent.pem", &new.cert_pem);
    assert_eq!(served(&world, &agent).await, der(&new), "at the next connection");
    assert_eq!(check(), 0, "the client accepts the new one");
    health("certificate_expiring", false).await;
    health("tls_invalid", false).await;

    // Both connections were made with the old one, and go on.
    let execution = operator.run("probe.hello", json!({})).await;
    let told = tokio::time::timeout(Duration::from_secs(60), events.read_until(execution.id.as_str())).await;
    told.expect("the event arrives").expect("the connection stays open");
    assert_eq!(events.server_certificate(), der(&old));

    // Broken files, one at a time.
    for (name, broken, good) in [
        ("agent.pem", "nothing\n", &new.cert_pem),
        ("agent.key", "nothing\n", &new.key_pem),
        ("agent.pem", &*old.cert_pem, &new.cert_pem),
    ] {
        put(&agent, name, broken);
        let said = health("tls_invalid", true).await;
        assert!(said.contains(name) && said.contains("its previous content remains in effect"), "{said}");
        assert_eq!(served(&world, &agent).await, der(&new), "{name}");
        put(&agent, name, good);
        health("tls_invalid", false).await;
    }
    assert_eq!((served(&world, &agent).await, check()), (der(&new), 0));
}
