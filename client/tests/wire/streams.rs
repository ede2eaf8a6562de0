//! Checks of an answer: its subject, its size, its form, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bolt_client::connection::{Agent, MAX_JSON, MAX_LINE, OutputFrom};
use bolt_client::error::Kind;
use hyper::StatusCode;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::{Code, OutputChunk};
use packs_schema::base::name::ExecutionId;

use crate::server::{World, answer, broken_after, problem};

fn execution() -> ExecutionId {
    ExecutionId::new("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa").unwrap()
}

fn line(stream: Stream, offset: u64, text: &str) -> String {
    let chunk =
        OutputChunk { stream, offset, at_us: 0, text: Some(text.to_owned()), base64: None, dropped_bytes: None };
    format!("{}\n", serde_json::to_string(&chunk).unwrap())
}

#[tokio::test]
async fn a_problem_is_told_with_its_code_and_without_its_control_characters() {
    let world = World::new();
    let server = world.server("i-1", |_| problem(Code::Forbidden, "no \x1b[2J grant")).await;
    let error = Agent::new(&server.instance, &world.identity()).info().await.unwrap_err();
    assert!(matches!(&error.kind, Kind::Problem(p) if p.code == Code::Forbidden), "{error}");
    assert!(error.to_string().contains("no \\x1b[2J grant"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_promised_is_a_protocol_error() {
    let world = World::new();
    for (status, body) in [
        (StatusCode::OK, "{}".to_owned()),
        (StatusCode::OK, "not json".to_owned()),
        (StatusCode::BAD_GATEWAY, "<html>".to_owned()),
        (StatusCode::FORBIDDEN, "{\"code\": \"forbidden\"}".to_owned()),
        (StatusCode::OK, format!("\"{}\"", "x".repeat(MAX_JSON))),
    ] {
        let begin: String = body.chars().take(20).collect();
        let server = world.server("i-1", move |_| answer(status, "application/json", body.clone())).await;
        let error = Agent::new(&server.instance, &world.identity()).info().await.unwrap_err();
        assert!(matches!(error.kind, Kind::Protocol(_)), "{begin}: {error}");
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_not_read_for_ever() {
    let world = World::new();
    let server =
        world.server("i-1", |_| answer(StatusCode::OK, "application/x-ndjson", vec![b'x'; MAX_LINE + 2])).await;
    let agent = Agent::new(&server.instance, &world.identity());
    let mut lines = agent.output(&execution(), OutputFrom::default(), false).await.unwrap();
    let error = lines.next().await.unwrap().unwrap_err();
    assert!(matches!(error.kind, Kind::Protocol(_)), "{error}");
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn output_is_bounded_by_the_caller() {
    let world = World::new();
    let server = world.server("i-1", |_| answer(StatusCode::OK, "application/octet-stream", vec![b'x'; 100_000])).await;
    let agent = Agent::new(&server.instance, &world.identity());
    let stream = agent.stream(&execution(), Stream::Stdout, 0, false).await.unwrap();
    let (bytes, more) = stream.collect(1000).await.unwrap();
    assert_eq!((bytes.len(), more), (1000, true));
    let stream = agent.stream(&execution(), Stream::Stdout, 0, false).await.unwrap();
    let (bytes, more) = stream.collect(100_000).await.unwrap();
    assert_eq!((bytes.len(), more), (100_000, false));
}

#[tokio::test]
async fn a_followed_output_goes_on_where_it_broke() {
    let world = World::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = world
        .server("i-1", move |request| {
            let query = request.uri().query().unwrap_or_default();
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => broken_after(&format!("{}{}", line(Stream::Stdout, 0, "one "), line(Stream::Stderr, 0, "err"))),
                1 => {
                    assert!(query.contains("stdout_from=4") && query.contains("stderr_from=3"), "{query}");
                    // Broken in the middle of a line: this one has not been seen.
                    broken_after(&line(Stream::Stdout, 4, "two ")[..20])
                }
                _ => {
                    assert!(query.contains("stdout_from=4"), "{query}");
                    answer(StatusCode::OK, "application/x-ndjson", line(Stream::Stdout, 4, "two"))
                }
            }
        })
        .await;
    let agent = Agent::new(&server.instance, &world.identity());
    let id = execution();
    let mut output = agent.follow_output(&id, true);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    while let Some(chunk) = output.next().await {
        let chunk = chunk.unwrap();
        let text = chunk.text.unwrap();
        match chunk.stream {
            Stream::Stdout => stdout.push_str(&text),
            Stream::Stderr => stderr.push_str(&text),
        }
    }
    assert_eq!((stdout.as_str(), stderr.as_str()), ("one two", "err"));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}
