//! Stop with requests in progress: waiting callers are answered, streams are cut.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_stop_answers_waiting_callers_and_cuts_streams() {
    let api = scope::start().await;
    let root = leaf(&api.issuer, &["spiffe://x/root"], |_| {});
    let id = scope::run_action(&api, &root, "linux.seen").await;
    // Two requests in one piece: once the first is answered, the second is under way.
    let health = "GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n";
    let wait = format!("{health}GET /v1/executions/{id}?wait=60s HTTP/1.1\r\nhost: x\r\n\r\n");
    let follow = format!("{health}GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut open = Vec::new();
    for request in [wait, follow] {
        let mut stream = api.open(Some(&root), &request).await.unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        open.push(stream);
    }
    api.stop().await;
    let mut texts = Vec::new();
    for mut stream in open {
        let mut bytes = Vec::new();
        // Cut: without an orderly end.
        let _ = stream.read_to_end(&mut bytes).await;
        texts.push(String::from_utf8(bytes).unwrap());
    }
    let answer = texts[0].rsplit("\r\n\r\n").next().unwrap();
    let record: serde_json::Value = serde_json::from_str(answer).unwrap_or_else(|e| panic!("{e}: {}", texts[0]));
    assert_eq!((&record["id"], record["ended_at_ms"].is_null()), (&json!(id), true), "{record}");
    assert!(texts[1].contains("application/x-ndjson"), "{}", texts[1]);
    assert!(!texts[1].ends_with("0\r\n\r\n"), "a stream that is cut must not look complete: {}", texts[1]);
}

#[tokio::test]
async fn a_disconnect_with_the_signal_to_stop_is_a_clean_stop() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // The launcher's signal arrives after its disconnect was seen.
    tokio::spawn(async move { stop.send(()) });
    let mut stopped = std::pin::pin!(async { stopped.await.unwrap() });
    assert!(matches!(after_disconnect(&mut stopped).await, Ended::Signalled));
    let mut never = std::pin::pin!(std::future::pending());
    assert!(matches!(after_disconnect(&mut never).await, Ended::LauncherGone));
}
