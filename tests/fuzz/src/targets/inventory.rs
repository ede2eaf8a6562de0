//! Inventories, which hostile tags and hosts may write: documents, pages of EC2, server groups of Gate, the identity document of the
//! metadata service. Every field that is accepted is bounded and has no control characters. The first byte chooses.

use bolt_client::fuzz;
use bolt_client::inventory::{Address, Found};
use bolt_client::show;

/// Maximum length of an error, in bytes.
const MAX_ERROR: usize = 4096;

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match choice % 5 {
        0 => document(fuzz::document_json(bytes)),
        1 => document(fuzz::document_toml(text)),
        2 => {
            listed(fuzz::ec2(bytes));
            let (code, message) = fuzz::ec2_error(bytes);
            assert!(code.len() + message.len() <= MAX_ERROR && !message.contains(char::is_control));
        }
        3 => listed(fuzz::gate(bytes)),
        _ => identity(text),
    }
    if let Ok(address) = Address::new(text) {
        assert_eq!(Address::new(&address.to_string()).ok().as_ref(), Some(&address), "{text:?}");
        assert!(address.port() > 0 && !address.host().contains(char::is_whitespace));
    }
}

fn document(read: Result<Vec<Found>, String>) {
    match read {
        Ok(found) => {
            found.iter().for_each(check);
            let ids: std::collections::BTreeSet<_> = found.iter().map(|one| one.facts.id.as_str()).collect();
            assert_eq!(ids.len(), found.len(), "an id is there twice");
        }
        Err(message) => assert!(message.len() <= MAX_ERROR, "an error of {} bytes", message.len()),
    }
}

fn listed(read: Result<Vec<Result<Found, String>>, String>) {
    for one in read.into_iter().flatten() {
        match one {
            Ok(found) => check(&found),
            Err(message) => {
                assert!(message.len() <= MAX_ERROR, "an error of {} bytes", message.len());
                assert_eq!(show::visible_lines(&message), message, "a message that acts on a terminal");
            }
        }
    }
}

fn identity(text: &str) {
    match fuzz::identity_document(text) {
        Ok(found) => assert!(!format!("{}{}", found.region, found.zone).contains(char::is_control)),
        Err(message) => assert!(message.len() <= MAX_ERROR, "an error of {} bytes", message.len()),
    }
}

fn check(found: &Found) {
    let facts = &found.facts;
    let texts = [facts.id.as_str(), &facts.region, &facts.zone, &facts.app, &facts.cluster, &facts.group];
    for text in texts.into_iter().chain(facts.tags.iter().flat_map(|(name, value)| [name.as_str(), value])) {
        assert!(text.chars().count() <= 256 && !text.contains(char::is_control), "{text:?}");
    }
    assert!(facts.tags.len() <= 100);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let json = br#"{"instances": [{"id": "i-1", "address": "10.0.0.7:8443", "region": "r", "tags": {"a": "b"}}, {"id": "i-2"}]}"#;
    let toml = b"[[instances]]\nid = \"i-1\"\naddress = \"[2001:db8::1]:8443\"\nzone = \"a\"\n[instances.tags]\nteam = \"db\"\n";
    let ec2 = br#"<?xml version="1.0" encoding="UTF-8"?><DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><instanceState><name>running</name></instanceState>
        <placement><availabilityZone>eu-west-1a</availabilityZone></placement><privateIpAddress>10.0.0.1</privateIpAddress>
        <networkInterfaceSet><item><ipv6AddressesSet><item><ipv6Address>2001:db8::1</ipv6Address></item></ipv6AddressesSet></item>
        </networkInterfaceSet><tagSet><item><key>app</key><value>a &amp; b</value></item></tagSet></item></instancesSet></item>
        </reservationSet><nextToken>t</nextToken></DescribeInstancesResponse>"#;
    let error = b"<Response><Errors><Error><Code>AuthFailure</Code><Message>no</Message></Error></Errors></Response>";
    let gate = br#"[{"name":"web-v001","account":"p","region":"r","moniker":{"app":"web"},"cloudProvider":"aws","isDisabled":false,
        "instances":[{"id":"i-1","zone":"a","privateIpAddress":"10.0.0.1"}]}]"#;
    let identity = br#"{"instanceId":"i-1","region":"eu-west-1","availabilityZone":"eu-west-1a"}"#;
    let address = b"[fe80::1%eth0]:8443";
    let all: [(u8, &[u8]); 7] = [(0, json), (1, toml), (2, ec2), (2, error), (3, gate), (4, identity), (4, address)];
    all.map(|(choice, bytes)| [&[choice], bytes].concat()).into()
}
