//! Bytes of a connection to the interface after the handshake, with all that is behind it. Whatever comes, the answers are well-formed,
//! and none of them is an error of the agent.

use std::sync::{LazyLock, Mutex, PoisonError};

use bolt_agent::fuzz::Service;
use packs_schema::agent::rest::Problem;

use crate::service;

static SERVICE: LazyLock<Mutex<Service>> = LazyLock::new(|| Mutex::new(service::start()));

pub(super) fn run(data: &[u8]) {
    answer(data);
}

/// Sends bytes and checks the answers.
pub(super) fn answer(data: &[u8]) {
    let sent = SERVICE.lock().unwrap_or_else(PoisonError::into_inner).answer(data);
    let mut rest = &sent[..];
    while !rest.is_empty() {
        rest = &rest[check(rest)..];
    }
}

/// Checks the answer at the beginning of `sent`, and returns its length.
fn check(sent: &[u8]) -> usize {
    let end = sent.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends") + 4;
    let head = std::str::from_utf8(&sent[..end]).expect("a head is ASCII");
    let mut lines = head.trim_end().split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status: u16 = status_line.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    assert!(status_line.starts_with("HTTP/1.") && (200..=599).contains(&status), "{status_line}");
    assert!(!matches!(status, 500 | 502 | 504), "{}", String::from_utf8_lossy(sent));
    let headers: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").expect("a header")).collect();
    let header = |name: &str| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    // The library answers malformed HTTP itself, without these headers.
    if status != 400 && status != 431 && status != 414 {
        assert_eq!(header("cache-control"), Some("no-store"), "{head}");
        assert!(header("bolt-request-id").is_some(), "{head}");
    }
    let Some(length) = header("content-length").and_then(|length| length.parse::<usize>().ok()) else {
        // Streamed, and cut when the peer closes.
        return sent.len();
    };
    let body = &sent[end..sent.len().min(end + length)];
    // The answer to HEAD has no body.
    if header("content-type") == Some("application/problem+json") && body.len() == length && length > 0 {
        let problem: Problem = serde_json::from_slice(body).expect("a problem document");
        assert_eq!(problem.status, status);
        assert!(problem.detail.len() <= 64 << 10, "a detail of {} bytes", problem.detail.len());
    }
    end + body.len()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    let mut seeds: Vec<Vec<u8>> = [
        "/v1/health",
        "/v1/info",
        "/v1/packs",
        "/v1/packs/linux",
        "/v1/actions",
        "/v1/actions/linux.run",
        "/v1/executions?limit=2&state=running&run=r-1&since_ms=5",
        "/v1/executions/01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa?output=100",
        "/v1/executions/01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa/output?stdout_from=5",
        "/v1/events?after=0190.7",
        "/v1/access?verb=run&action=linux.%2a",
        "/v1/metrics",
        "/v1/openapi.json",
        "/v1/nothing/../x",
    ]
    .map(get)
    .into();
    let body = r#"{"action":"linux.run","parameters":{"name":"abc","n":2,"token":"s"},"noop":true,"note":"n"}"#;
    let post = |headers: &str, body: &str| format!("POST /v1/executions?wait=0s HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n{body}").into_bytes();
    let length = format!("content-type: application/json\r\nidempotency-key: k\r\ncontent-length: {}", body.len());
    seeds.push(post(&length, body));
    seeds.push(post("content-type: application/json\r\ntransfer-encoding: chunked", &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())));
    seeds.push(post("content-length: 5\r\ncontent-length: 6", "hello"));
    seeds.push(b"POST /v1/executions/01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa/kill HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}GET / HTTP/1.0\r\norigin: http://x\r\n\r\n".to_vec());
    seeds.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
    seeds
}
