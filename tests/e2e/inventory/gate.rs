//! Instances of Spinnaker, asked of Gate.

use std::sync::Arc;

use bolt_client::pki::{Authority, Validity};
use bolt_tests::proxy::Fault;
use bolt_tests::{Ec2Pages, Gate, Proxy};
use packs_schema::base::name::InstanceId;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::Desk;

const OF_WEB: &str = "/applications/web/serverGroups?expand=true&cloudProvider=aws";

fn table(endpoint: &str, more: &str) -> String {
    format!("[[inventory]]\nkind = \"spinnaker\"\ngate = \"{endpoint}\"\n{more}\n")
}

/// Returns a server group as Gate describes it, with fields that Bolt does not use.
fn group(name: &str, disabled: bool, instances: &Value) -> Value {
    json!({
        "account": "prod", "cloudProvider": "aws", "type": "aws", "region": "eu-west-1", "name": name, "cluster": "web-main",
        "moniker": {"app": "web", "cluster": "web-main", "sequence": 1, "stack": "main"},
        "isDisabled": disabled, "instances": instances, "capacity": {"desired": 2}, "labels": null,
    })
}

fn instance(id: &str) -> Value {
    json!({"id": id, "name": id, "zone": "eu-west-1a", "healthState": "Up", "health": [{"type": "Amazon", "state": "Unknown"}]})
}

#[test]
fn instances_of_applications_are_joined_with_those_of_ec2() {
    let gate = Gate::start();
    let ec2 = Ec2Pages::start(1, 3, false);
    gate.serve(
        OF_WEB,
        &json!([
            group("web-main-v001", true, &json!([instance("i-0-0")])),
            group("web-main-v002", false, &json!([instance("i-0-1")]))
        ]),
    );
    let spinnaker = table(&gate.endpoint(), "applications = [\"web\"]");
    let both = format!("{spinnaker}[[inventory]]\nkind = \"ec2\"\nregions = [\"eu-west-1\"]\n");
    let desk = Desk::new(&both).set("AWS_ENDPOINT_URL_EC2", &ec2.endpoint());
    let (code, value) = desk.json(&["instances", "--where", "cluster == 'web-main'"]);
    assert_eq!(code, 0, "{value}");
    let all: Vec<[&str; 4]> = value["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            [&one["facts"]["id"], &one["facts"]["group"], &one["facts"]["app"], &one["address"]]
                .map(|v| v.as_str().unwrap())
        })
        .collect();
    let expected =
        [["i-0-0", "web-main-v001", "web", "10.0.0.0:8443"], ["i-0-1", "web-main-v002", "web", "10.0.0.1:8443"]];
    assert_eq!(all, expected);
    assert_eq!(gate.asked(), [format!("{OF_WEB} bolt -")]);
    // Without EC2 their addresses are unknown.
    let said = Desk::new(&spinnaker).run(&["instances"]);
    assert!(
        said.code == 5 && said.stderr.contains("no source gives the address of i-0-0, i-0-1 (spinnaker web)"),
        "{said:?}"
    );
    // Gate says some, and is asked for the others.
    let mut known = instance("i-0-0");
    known["privateIpAddress"] = json!("10.9.9.9");
    gate.serve(OF_WEB, &json!([group("web-main-v001", false, &json!([known, instance("i-0-1")]))]));
    let mut details = instance("i-0-1");
    details["privateIpAddress"] = json!("2001:db8::1");
    gate.serve("/instances/prod/eu-west-1/i-0-1", &details);
    let desk = Desk::new(&format!("{spinnaker}details = true\nport = 9443\n"));
    let said = desk.run(&["instances"]);
    assert!(said.stdout.contains("10.9.9.9:9443") && said.stdout.contains("[2001:db8::1]:9443"), "{said:?}");
}

#[test]
fn clusters_and_server_groups_are_asked_for_in_parts() {
    let gate = Gate::start();
    let with_address = |id: &str, number: usize| {
        let mut one = instance(id);
        one["privateIpAddress"] = json!(format!("10.0.0.{number}"));
        one
    };
    let names: Vec<String> = (0..45).map(|number| format!("web-main-v{number:03}")).collect();
    for some in names.chunks(20) {
        let ids: Vec<String> = some.iter().map(|name| format!("prod:eu-west-1:{name}")).collect();
        let groups: Vec<Value> = some
            .iter()
            .map(|name| {
                group(
                    name,
                    false,
                    &json!([with_address(&format!("i-{name}"), names.iter().position(|n| n == name).unwrap())]),
                )
            })
            .collect();
        gate.serve(&format!("/serverGroups?ids={}", ids.join("%2C").replace(':', "%3A")), &json!(groups));
    }
    let listed: Vec<String> = names.iter().map(|name| format!("\"prod:eu-west-1:{name}\"")).collect();
    let desk = Desk::new(&table(&gate.endpoint(), &format!("server_groups = [{}]", listed.join(", "))));
    assert_eq!(desk.ids(&[]).len(), 45);
    assert_eq!(gate.asked().len(), 3);
    // A group that Gate leaves out is an error.
    gate.serve("/serverGroups?ids=prod%3Aeu-west-1%3Agone", &json!([]));
    let said = Desk::new(&table(&gate.endpoint(), "server_groups = [\"prod:eu-west-1:gone\"]")).run(&["instances"]);
    assert!(said.code == 5 && said.stderr.contains("Gate knows no server group prod:eu-west-1:gone"), "{said:?}");
    // Disabled groups, and those of other clouds, can be left out.
    let mut other = group("web-k8s", false, &json!([with_address("i-k8s", 250)]));
    (other["cloudProvider"], other["type"]) = (json!("kubernetes"), json!("kubernetes"));
    let disabled = group("web-main-v001", true, &json!([with_address("i-1", 1)]));
    let enabled = group("web-main-v002", false, &json!([with_address("i-2", 2)]));
    let of_cluster = format!("{OF_WEB}&clusters=prod%3Aweb-main");
    gate.serve(&of_cluster, &json!([other, disabled, enabled]));
    let more = "applications = [\"web\"]\nclusters = [\"prod:web-main\"]\n";
    assert_eq!(Desk::new(&table(&gate.endpoint(), more)).ids(&[]), ["i-1", "i-2"]);
    assert_eq!(Desk::new(&table(&gate.endpoint(), &format!("{more}disabled = false"))).ids(&[]), ["i-2"]);
}

#[test]
fn a_gate_that_fails_is_asked_again_or_named() {
    let gate = Gate::start();
    let proxy = Proxy::before(gate.endpoint().strip_prefix("http://").unwrap().parse().unwrap());
    let mut one = instance("i-1");
    one["privateIpAddress"] = json!("10.0.0.1");
    gate.serve(OF_WEB, &json!([group("web-main-v001", false, &json!([one]))]));
    let desk = Desk::new(&table(&proxy.endpoint(), "applications = [\"web\"]\ntimeout = \"1s\"\ncache = \"0s\""));
    gate.refuse(&["503 Service Unavailable", "429 Too Many Requests"]);
    assert_eq!(desk.ids(&[]), ["i-1"]);
    for fault in [Fault::Silent, Fault::Reset, Fault::Cut(20)] {
        proxy.fail("GET /applications/web", 1, fault.clone());
        assert_eq!(desk.ids(&[]), ["i-1"], "{fault:?}");
    }
    gate.refuse(&["500 Internal Server Error"; 5]);
    let said = desk.run(&["instances"]);
    let message = "spinnaker web: Gate answered 500 to /applications/web/serverGroups: ";
    assert!(said.code == 5 && said.stderr.contains(message) && said.stderr.contains("5 attempts"), "{said:?}");
    assert!(!said.stderr.contains('\u{1b}'), "{said:?}");
    for (status, hint) in
        [("302 Found", "log in"), ("401 Unauthorized", "log in"), ("404 Not Found", "check the names")]
    {
        gate.refuse(&[status]);
        let said = desk.run(&["instances"]);
        assert!(said.code == 5 && said.stderr.contains(hint), "{status}: {said:?}");
    }
    // Answers of another shape are errors, not an empty list.
    for wrong in [json!({}), json!([{"name": "web"}]), json!("\u{1b}[2J"), json!([group("g", false, &Value::Null)])] {
        gate.serve(OF_WEB, &wrong);
        let said = desk.run(&["instances"]);
        let is_named = said.stderr.contains("the answer of Gate to /applications/web/serverGroups is not as expected");
        assert!(said.code == 5 && is_named && !said.stderr.contains('\u{1b}'), "{wrong}: {said:?}");
    }
    gate.serve(OF_WEB, &json!([group("web\u{1b}[2J", false, &json!([instance("i-1")]))]));
    let said = desk.run(&["instances"]);
    assert!(said.code == 5 && said.stderr.contains("instance i-1: group contains a control character"), "{said:?}");
}

/// Passes TLS connections on to `to`; returns the address.
async fn tls_before(to: std::net::SocketAddr, authority: &Authority) -> String {
    let id = InstanceId::new("gate").unwrap();
    let issued = authority.issue_instance_at(&id, &["127.0.0.1".to_owned()], Validity::days(1)).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut one) = acceptor.accept(stream).await else { return };
                let Ok(mut other) = TcpStream::connect(to).await else { return };
                drop(tokio::io::copy_bidirectional(&mut one, &mut other).await);
            });
        }
    });
    format!("https://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn gate_is_verified_by_the_configured_authority_and_gets_the_token() {
    let gate = Gate::start();
    let mut one = instance("i-1");
    one["privateIpAddress"] = json!("10.0.0.1");
    gate.serve(OF_WEB, &json!([group("web-main-v001", false, &json!([one]))]));
    let authority = Authority::create("gate").unwrap();
    let endpoint = gate.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let endpoint = tls_before(endpoint, &authority).await;
    let more = "applications = [\"web\"]\nca = \"ca.pem\"\ntoken_file = \"token\"";
    let desk = Desk::new(&table(&endpoint, more));
    desk.file("ca.pem", authority.cert_pem());
    let token = desk.file("token", "s3cret\n");
    let said = desk.run(&["instances"]);
    assert!(said.code == 5 && said.stderr.contains("chmod 600") && !said.stderr.contains("s3cret"), "{said:?}");
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(desk.ids(&[]), ["i-1"]);
    assert_eq!(gate.asked(), [format!("{OF_WEB} bolt Bearer s3cret")]);
    // Another authority, and a token that cannot be one.
    desk.file("ca.pem", Authority::create("other").unwrap().cert_pem());
    let said = desk.run(&["instances", "--refresh"]);
    assert!(said.code == 5 && said.stderr.contains("no answer of Gate"), "{said:?}");
    std::fs::write(&token, "a\nb").unwrap();
    let said = desk.run(&["instances", "--refresh"]);
    assert!(said.code == 5 && said.stderr.contains("token holds no token"), "{said:?}");
    assert_eq!(gate.asked().len(), 1);
}
