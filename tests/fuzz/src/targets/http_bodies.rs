//! Queries and JSON bodies of each route that takes one, in requests that are otherwise well-formed. The first byte chooses the route.

use super::http_request::answer;
use crate::{join, parts};

const ROUTES: [&str; 7] = [
    "POST /v1/executions",
    "POST /v1/executions/01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa/kill",
    "GET /v1/executions",
    "GET /v1/events",
    "GET /v1/access",
    "POST /v1/packs/linux/unpush",
    "POST /v1/packs/push",
];

/// A query, an idempotency key and a body.
pub(super) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let [query, key, body] = parts(rest);
    let route = ROUTES[usize::from(*choice) % ROUTES.len()];
    // A line end would end the head.
    let visible = |text: &[u8]| text.iter().copied().filter(u8::is_ascii_graphic).collect::<Vec<u8>>();
    let mut request = route.as_bytes().to_vec();
    if !query.is_empty() {
        request.push(b'?');
        request.extend(visible(query));
    }
    request.extend(b" HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
    if !key.is_empty() {
        request.extend([b"idempotency-key: ", visible(key).as_slice(), b"\r\n"].concat());
    }
    request.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
    request.extend(body);
    answer(&request);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let create = br#"{"action":"linux.run","version":"1.0.0","parameters":{"name":"abc","n":2,"token":"s","list":["a","b"]},"noop":true,
        "instance":"i-1","run":"r-1","timeout_ms":1000,"note":"n"}"#;
    let wrong = br#"{"action":"linux.run","parameters":{"name":"ABC","n":9,"x":1,"x":2},"more":[]}"#;
    let all: [(u8, [&[u8]; 3]); 7] = [
        (0, [b"wait=0s&output=5&class=diagnostic", b"key-1", create]),
        (0, [b"", b"", wrong]),
        (1, [b"", b"", br#"{"note":"n"}"#]),
        (2, [b"action=linux.run&state=running&principal=spiffe%3A%2F%2Fx&until_ms=9&cursor=abc&ended=true", b"", b""]),
        (3, [b"follow=true&after=0190.7", b"", b""]),
        (4, [b"verb=run&action=linux.run", b"", b""]),
        (6, [b"pack=linux&version=1.0.0&digest=00&ttl=2h", b"", b"\x1f\x8b"]),
    ];
    all.map(|(choice, parts)| [&[choice], join(&parts).as_slice()].concat()).into()
}
