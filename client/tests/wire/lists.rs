//! Events that are followed over a replaced history, and lists of executions that do not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bolt_client::connection::{Agent, ExecutionQuery, Followed, Mismatch};
use bolt_client::error::Kind;
use hyper::StatusCode;
use packs_schema::agent::rest::{Code, EventCursor, PROBLEM_TYPE, Problem};
use serde_json::{Value, json as value};

use crate::server::{Answer, World, answer, broken_after, json, problem};

fn event(epoch: &str, event: u64) -> String {
    let change = value!({"event": event, "cursor": format!("{epoch}.{event}"), "at_ms": 1,
        "execution": "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", "action": "linux.a", "state": "queued"});
    format!("{change}\n")
}

fn gone(begin: &str) -> Answer {
    let mut problem = Problem::new(Code::CursorGone, "the history was replaced", "request-1");
    problem.begin = Some(begin.to_owned());
    answer(StatusCode::GONE, PROBLEM_TYPE, serde_json::to_vec(&problem).unwrap())
}

#[tokio::test]
async fn a_follower_is_told_of_a_replaced_history_and_begins_again() {
    let world = World::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = world
        .server("i-1", move |request| {
            let query = request.uri().query().unwrap_or_default();
            let expected = ["after=old.7", "after=old.8", "after=old.8", "after=new.0", "after=new.1"];
            let n = count.fetch_add(1, Ordering::SeqCst);
            assert!(query.contains(expected[n]) && query.contains("follow=true"), "{n}: {query}");
            match n {
                0 => broken_after(&event("old", 8)),
                // The agent restarts.
                1 => problem(Code::Unavailable, "the agent is starting"),
                2 => gone("new.0"),
                3 => broken_after(&event("new", 1)),
                _ => broken_after(&event("new", 2)),
            }
        })
        .await;
    let agent = Agent::new(&server.instance, &world.identity());
    let mut events = agent.follow_events(Some(EventCursor { epoch: Some("old".to_owned()), event: 7 }));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(match events.next().await.unwrap() {
            Followed::Change(change) => change.event.to_string(),
            Followed::Restarted(why) => why,
        });
    }
    assert_eq!(seen, ["8", "the history was replaced", "1", "2"]);
    assert_eq!(events.cursor().unwrap().to_string(), "new.2");
}

#[tokio::test]
async fn an_agent_that_takes_back_its_own_beginning_is_an_error() {
    let world = World::new();
    let server = world.server("i-1", |_| gone("new.0")).await;
    let agent = Agent::new(&server.instance, &world.identity());
    let mut events = agent.follow_events(None);
    assert!(matches!(events.next().await, Ok(Followed::Restarted(_))));
    let error = events.next().await.unwrap_err();
    assert!(matches!(&error.kind, Kind::Problem(p) if p.code == Code::CursorGone), "{error}");
}

fn execution(n: usize, state: &str) -> Value {
    value!({"id": format!("01932c07-1f4e-7c61-b4b0-{n:012x}"), "instance": "i-1", "action": "linux.a", "version": "1.0.0",
        "digest": "a".repeat(64), "state": state, "parameters": {}, "noop": false, "principal": "spiffe://x/ann",
        "created_at_ms": 1})
}

fn ended(limit: u32) -> ExecutionQuery {
    ExecutionQuery { ended: true, limit: Some(limit), ..ExecutionQuery::default() }
}

#[tokio::test]
async fn a_list_that_does_not_lead_on_is_an_error() {
    let world = World::new();
    let identity = world.identity();
    // The same running execution on page after page, each with a new cursor.
    let pages = AtomicUsize::new(0);
    let server = world
        .server("i-1", move |_| {
            let next = pages.fetch_add(1, Ordering::SeqCst).to_string();
            json(&value!({"items": [execution(1, "running")], "next": next}))
        })
        .await;
    let error = Agent::new(&server.instance, &identity).newest(&ended(50), 20).await.unwrap_err();
    assert!(matches!(&error.kind, Kind::WrongAnswer(Mismatch::Twice { .. })), "{error}");
    let empty = world.server("i-1", |_| json(&value!({"items": [], "next": "x"}))).await;
    let error = Agent::new(&empty.instance, &identity).newest(&ended(50), 20).await.unwrap_err();
    assert!(matches!(&error.kind, Kind::Protocol(_)), "{error}");
    // Ever new ones that run.
    let count = AtomicUsize::new(0);
    let endless = world
        .server("i-1", move |_| {
            let first = count.fetch_add(500, Ordering::SeqCst);
            let items: Vec<Value> = (first..first + 500).map(|n| execution(n, "running")).collect();
            json(&value!({"items": items, "next": first.to_string()}))
        })
        .await;
    let error = Agent::new(&endless.instance, &identity).newest(&ended(500), 20).await.unwrap_err();
    assert!(error.to_string().contains("does not end"), "{error}");
}

#[tokio::test]
async fn an_older_agent_lists_all_and_a_replaced_history_is_listed_again() {
    let world = World::new();
    let identity = world.identity();
    let older = world
        .server("i-1", |request| match request.uri().query() {
            Some(query) if query.contains("ended") => problem(Code::BadRequest, "unknown query parameter \"ended\""),
            Some(query) if query.contains("cursor") => json(&value!({"items": [execution(2, "succeeded")]})),
            _ => json(&value!({"items": [execution(1, "running")], "next": "n"})),
        })
        .await;
    let found = Agent::new(&older.instance, &identity).newest(&ended(50), 20).await.unwrap();
    assert_eq!((found.executions.len(), found.more, found.restarted), (1, false, false));
    let asked = AtomicUsize::new(0);
    let replaced = world
        .server("i-1", move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => json(&value!({"items": [execution(1, "failed"), execution(2, "failed")], "next": "old.1.1"})),
            1 => problem(Code::CursorGone, "the history was replaced"),
            _ => json(&value!({"items": [execution(2, "failed")]})),
        })
        .await;
    let found = Agent::new(&replaced.instance, &identity).newest(&ended(50), 20).await.unwrap();
    assert_eq!((found.executions.len(), found.more, found.restarted), (1, false, true));
}
