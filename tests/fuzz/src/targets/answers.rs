//! Answers of an instance to a client, as bytes of HTTP: problem documents, lists, output, events. What a user is shown of them
//! acts on no terminal. The first byte chooses the request.

use std::sync::LazyLock;

use bolt_client::fuzz::{Answering, Asked};
use bolt_client::inventory::{Address, Instance};
use bolt_client::show;
use bolt_client::tls::Identity;
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::Facts;

use crate::{repository, scratch};

const ASKED: [Asked; 10] = [
    Asked::Health,
    Asked::Pack,
    Asked::Actions,
    Asked::Executions,
    Asked::Create,
    Asked::Execution,
    Asked::Output,
    Asked::Stdout,
    Asked::Events,
    Asked::Metrics,
];

static CLIENT: LazyLock<Answering> = LazyLock::new(|| {
    let facts = Facts::of(InstanceId::new("i-1").expect("an id"));
    // A link-local address without its zone: a connection to it fails before anything is sent.
    let address = Address::new("[fe80::1]:1").expect("an address");
    Answering::new(Instance { facts, address }, identity())
});

fn identity() -> Identity {
    scratch::with_directory(|directory| {
        use std::os::unix::fs::PermissionsExt;
        let (issuer, authority) = crate::certificates::authority();
        let (certificate, key) = crate::certificates::caller(&issuer);
        let at = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
            path
        };
        let (certificate, key) = (at("client.pem", &certificate), at("client.key", &key));
        Identity::load(&certificate, &key, &at("ca.pem", &authority.pem())).expect("an identity")
    })
}

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    match CLIENT.ask(ASKED[usize::from(*choice) % ASKED.len()], bytes) {
        Ok(taken) => assert!(taken <= bytes.len(), "{taken} bytes of output in {} bytes", bytes.len()),
        Err(error) => {
            let mut source: Option<&dyn std::error::Error> = Some(&error);
            while let Some(one) = source {
                // Escaped as a whole when it is printed: the error itself may hold lines.
                let text = show::visible_lines(&one.to_string());
                assert!(text.len() <= bytes.len() * 8 + 4096, "an error of {} bytes", text.len());
                source = one.source();
            }
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let execution = String::from_utf8(repository::read("tests/fixtures/records/execution.json")).expect("UTF-8");
    let chunk = r#"{"stream":"stdout","offset":0,"at_us":5,"text":"hello\n"}"#;
    let event = r#"{"event":7,"cursor":"0190.7","execution":"01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa","action":"linux.x","state":"running","at_ms":5}"#;
    let problem = r#"{"type":"about:blank","title":"t","status":404,"detail":"d","code":"not_found","request_id":"r"}"#;
    let whole = |kind: &str, status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let chunked = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nbolt-event-cursor: 0190.5\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let json = |body: &str| whole("application/json", "200 OK", body);
    let all = [
        (0, json(r#"{"ready":true,"reasons":[],"version":"0.1.0"}"#)),
        (1, whole("application/problem+json", "404 Not Found", problem)),
        (2, json(r#"{"items":[],"next":null}"#)),
        (3, json(&format!(r#"{{"items":[{execution}],"next":"c"}}"#))),
        (4, whole("application/json", "202 Accepted", &execution)),
        (5, json(&execution)),
        (6, chunked(&format!("{chunk}\n{chunk}\n"))),
        (7, "HTTP/1.1 200 OK\r\nbolt-dropped-bytes: 5\r\n\r\nbytes to the end".to_owned()),
        (8, chunked(&format!("{event}\n\n{event}\n"))),
        (9, whole("text/plain", "200 OK", "bolt_up 1\n")),
    ];
    all.map(|(choice, text): (u8, String)| [&[choice], text.as_bytes()].concat()).into()
}
