//! `bolt pki` and agents: revocation that reaches open connections, and certificates of an intermediate authority.

use std::time::Duration;

use bolt_client::local::Caller;
use bolt_tests::http::{Call, Held, send};
use bolt_tests::{World, spec};
use serde_json::Value;

use crate::calls::until;

/// Longest wait for what an agent does by itself.
const LONGEST: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_certificate_that_bolt_pki_revokes_loses_its_open_connections() {
    let world = World::with_probe();
    let bolt = world.bolt(&[]);
    let at = |path: &str| world.path().join(path).display().to_string();
    let (ca, crl) = (at("pki"), at("crl.pem"));
    let done = |arguments: &[&str]| {
        let output = bolt.run(arguments);
        assert_eq!(output.code, 0, "{output:?}");
        output
    };
    let empty = done(&["pki", "crl", "--ca", &ca, "--out", &crl]);
    assert!(empty.stderr.contains("list 1 names 0 certificates"), "{empty:?}");
    let agent = world.start(&spec("i-1").set("tls", "crls", vec![toml::Value::from(crl.clone())]));
    let operator = world.operator(&agent);
    // A certificate for the operator's principal: its grants remain.
    let principal = bolt_client::local::OPERATOR;
    done(&["pki", "issue", "--ca", &ca, "client", principal, "--out", &at("lost")]);
    let lost = Caller { certificate: at("lost/operator.pem").into(), key: at("lost/operator.key").into() };
    let follow = "/v1/events?follow=true";
    let mut open = Held::open(agent.address(), &lost, Some(follow)).await.unwrap();
    open.first_byte().await.unwrap();
    let mut other = Held::open(agent.address(), &world.site.operator(), Some(follow)).await.unwrap();
    other.first_byte().await.unwrap();

    let revoked = done(&["pki", "revoke", &at("lost/operator.pem"), "--ca", &ca, "--reason", "key-compromise"]);
    assert!(revoked.stdout.contains(principal) && revoked.stderr.contains("bolt pki crl"), "{revoked:?}");
    let list = done(&["pki", "crl", "--ca", &ca, "--out", &crl]);
    assert!(list.stderr.contains("list 2 names 1 certificate;"), "{list:?}");
    let ended = tokio::time::timeout(LONGEST, open.to_end()).await.expect("the agent closes the connection");
    assert!(ended.is_err(), "before the end of the answer");
    assert!(send(agent.address(), Some(&lost), Call::get("/v1/health")).await.is_err(), "a new connection is refused");
    assert_eq!(operator.send(Call::get("/v1/health")).await.status, 200);

    let listed = done(&["pki", "list", "--ca", &ca, "--json"]).stdout;
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let revoked: Vec<&Value> = listed.iter().filter(|one| one["state"] == "revoked").collect();
    assert_eq!((revoked.len(), &revoked[0]["revoked"]["reason"]), (1, &Value::from("key_compromise")));
    // A renewal would give the same key a serial number that no list names.
    let renewed = bolt.run(["pki", "renew", &at("lost/operator.pem"), "--ca", &ca]);
    assert!(renewed.code != 0 && renewed.stderr.contains("it is revoked (key-compromise)"), "{renewed:?}");
    let lost = Caller { certificate: at("new/operator.pem").into(), key: at("new/operator.key").into() };
    done(&["pki", "issue", "--ca", &ca, "client", principal, "--out", &at("new")]);
    assert_eq!(send(agent.address(), Some(&lost), Call::get("/v1/health")).await.unwrap().status, 200);
}

#[tokio::test]
async fn certificates_of_an_intermediate_are_accepted_by_agent_and_client_that_know_the_root() {
    let world = World::with_probe();
    let bolt = world.bolt(&[]);
    let at = |path: &str| world.path().join(path).display().to_string();
    let done = |arguments: &[&str]| {
        let output = bolt.run(arguments);
        assert_eq!(output.code, 0, "{output:?}");
        output
    };
    done(&["pki", "init", &at("root"), "--name", "root", "--intermediates"]);
    done(&["pki", "intermediate", &at("issuing"), "--ca", &at("root")]);
    done(&["pki", "issue", "--ca", &at("issuing"), "instance", "i-1", "--out", &at("new")]);
    done(&["pki", "issue", "--ca", &at("issuing"), "client", bolt_client::local::OPERATOR, "--out", &at("new")]);
    let (issuing, root) = (at("issuing.crl"), at("root.crl"));
    done(&["pki", "crl", "--ca", &at("issuing"), "--out", &issuing]);
    done(&["pki", "crl", "--ca", &at("root"), "--out", &root]);
    let crls: Vec<toml::Value> = vec![issuing.clone().into(), root.clone().into()];
    let agent = world.start(&spec("i-1").set("tls", "crls", crls));
    let with = world.bolt(&[&agent]);
    let (certificate, key, ca) = (at("new/operator.pem"), at("new/operator.key"), at("root/ca.pem"));
    let ask = || with.run(["--cert", &certificate, "--key", &key, "--ca", &ca, "instances", "--check"]);
    assert_ne!(ask().code, 0, "neither side knows the root");
    // The files keep their owner, the account of the agent.
    for (new, file) in [("new/i-1.key", "agent.key"), ("new/i-1.pem", "agent.pem"), ("root/ca.pem", "ca.pem")] {
        let content = std::fs::read(at(new)).unwrap();
        std::fs::write(agent.directory().join("etc/tls").join(file), content).unwrap();
    }
    until("agent and client accept each other", async || ask().code == 0).await;
    // The list of the intermediate counts for what it issued.
    done(&["pki", "revoke", &certificate, "--ca", &at("issuing")]);
    done(&["pki", "crl", "--ca", &at("issuing"), "--out", &issuing]);
    until("the caller is refused", async || ask().code != 0).await;
    // The root's list counts for the intermediate.
    done(&["pki", "issue", "--ca", &at("issuing"), "client", "spiffe://bolt.local/two", "--out", &at("new")]);
    let two = Caller { certificate: at("new/two.pem").into(), key: at("new/two.key").into() };
    assert!(send(agent.address(), Some(&two), Call::get("/v1/health")).await.is_ok());
    done(&["pki", "revoke", &at("issuing/ca.pem"), "--ca", &at("root")]);
    done(&["pki", "crl", "--ca", &at("root"), "--out", &root]);
    until("the intermediate is refused", async || {
        send(agent.address(), Some(&two), Call::get("/v1/health")).await.is_err()
    })
    .await;
}

#[test]
fn nothing_is_recorded_as_signed_where_a_file_is_in_the_way() {
    let world = World::empty();
    let bolt = world.bolt(&[]);
    let at = |path: &str| world.path().join(path).display().to_string();
    let done = |arguments: &[&str]| {
        let output = bolt.run(arguments);
        assert_eq!(output.code, 0, "{output:?}");
    };
    done(&["pki", "init", &at("root"), "--name", "root", "--intermediates"]);
    done(&["pki", "issue", "--ca", &at("root"), "client", "spiffe://x/ann", "--out", &at("old")]);
    done(&["pki", "csr", "client", "spiffe://x/ann", "--out", &at("new")]);
    let journal = || std::fs::read(world.path().join("root/ca.journal")).unwrap();
    let before = journal();
    for file in ["half/ca.key", "link/root.pem", "new/ann.pem"] {
        let path = world.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "in the way\n").unwrap();
    }
    for (arguments, file) in [
        (&["issue", "--ca", &at("root"), "client", "spiffe://x/ann", "--out", &at("old")][..], "old/ann.pem"),
        (&["issue", "--ca", &at("root"), "instance", "ca", "--out", &at("half")], "half/ca.key"),
        (&["sign", &at("new/ann.csr"), "--ca", &at("root"), "--name", "spiffe://x/ann"], "new/ann.pem"),
        (&["intermediate", &at("half"), "--ca", &at("root")], "half/ca.key"),
        (&["intermediate", &at("link"), "--ca", &at("root")], "link/root.pem"),
        (&["intermediate", &at("root"), "--ca", &at("root")], "root/ca.pem"),
    ] {
        let refused = bolt.run([&["pki"][..], arguments].concat());
        assert!(refused.code == 2 && refused.stderr.contains(&at(file)), "{arguments:?}: {refused:?}");
        assert!(journal() == before, "{arguments:?}");
    }
    // Its name is free.
    done(&["pki", "intermediate", &at("issuing"), "--ca", &at("root")]);
}
