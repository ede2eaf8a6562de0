//! Messages between api and launcher: requests, which a compromised api sends to root, and replies.

use packs_schema::agent::launch::{self, Operation, Reply, Request, RequestError, is_traceparent, read_request};
use packs_schema::base::strict;

use crate::repository;

pub(super) fn run(data: &[u8]) {
    match read_request(data) {
        Ok(request) => check(&request),
        Err(RequestError::Broken { column }) => assert!(column <= data.len() + 1),
        Err(RequestError::Unsupported { .. }) => {}
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(data) {
        let written = serde_json::to_vec(&reply).expect("a reply serialises");
        assert_eq!(serde_json::from_slice::<Reply>(&written).expect("what was written reads back"), reply);
    }
}

/// A request in its earliest format is read again as the same; its names hold no path and its parameters no duplicate.
fn check(request: &Request) {
    assert!(request.format <= launch::FORMAT);
    let earliest = Request::new(request.seq, request.operation.clone());
    let written = serde_json::to_vec(&earliest).expect("a request serialises");
    let again = read_request(&written).unwrap_or_else(|error| panic!("what was written is not read: {error:?}"));
    assert_eq!(serde_json::to_vec(&again).expect("a request serialises"), written);
    let (Operation::Start(start) | Operation::Accept(start) | Operation::Prepare(start)) = &request.operation else {
        return;
    };
    for name in [start.pack.as_str(), start.action.as_str(), start.execution.as_str(), start.digest.as_str()] {
        assert!(!name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.'), "{name:?}");
    }
    let version = start.version.to_string();
    assert!(!version.contains(['/', '\0']) && !version.starts_with('.'), "{version:?}");
    assert!(start.traceparent.as_deref().is_none_or(is_traceparent));
    let parameters = serde_json::to_vec(&start.parameters).expect("a map serialises");
    strict::parse(&parameters).expect("parameters are strict JSON");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let start = format!(
        r#"{{"execution":"01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa","pack":"linux","version":"1.0.0","digest":"{}","action":"a",
        "parameters":{{"n":1,"deep":[{{"x":null}}]}},"noop":false,"timeout_ms":null,"run":null,
        "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}"#,
        "a".repeat(64)
    );
    let mut seeds: Vec<Vec<u8>> = [(1, "start"), (2, "accept"), (3, "prepare")]
        .map(|(format, ask)| format!(r#"{{"seq":7,"format":{format},"ask":{{"{ask}":{start}}}}}"#).into_bytes())
        .into();
    let more: [&[u8]; 4] = [
        br#"{"seq":8,"ask":"sync"}"#,
        br#"{"seq":9,"ask":{"kill":{"execution":"01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa"}}}"#,
        br#"{"seq":7,"outcome":"done"}"#,
        br#"{"seq":7,"outcome":{"refused":{"code":"too_many_running","message":"later"}}}"#,
    ];
    seeds.extend(more.map(<[u8]>::to_vec));
    seeds.push(repository::read("tests/fixtures/records/spec.json"));
    seeds
}
