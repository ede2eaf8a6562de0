//! An access review names the grant that decides, and does not tell a hidden action from an absent one.

use serde_json::{Value, json};

use super::scope::{body, start};
use super::*;

/// Asks for an access review as the caller.
async fn review(api: &Api, caller: &Identity, query: &str) -> Value {
    let answer = api.ask(Some(caller), "GET", &format!("/v1/access?{query}"), "").await.unwrap();
    assert_eq!(status(&answer), 200, "{query}: {answer}");
    body(&answer)
}

#[tokio::test]
async fn an_access_review_names_the_grant_that_decides() {
    let api = start().await;
    let root = leaf(&api.issuer, &["spiffe://x/root"], |_| {});
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let runner = leaf(&api.issuer, &["spiffe://x/runner"], |_| {});
    let seen = review(&api, &ann, "verb=run&action=linux.seen").await;
    assert_eq!(seen["grant"], json!({"number": 2, "line": 6}), "{seen}");
    assert_eq!(
        (&seen["instance"], &seen["principal"], &seen["verb"], &seen["action"], &seen["allowed"]),
        (&json!("i-1"), &json!("spiffe://x/ann"), &json!("run"), &json!("linux.seen"), &json!(true))
    );
    assert_eq!(seen["active"], json!({"version": "1.0.0", "class": "diagnostic", "enabled": true}));
    assert_eq!(seen["reason"], "grant 2 of grants.toml (line 6) gives run on linux.seen");
    let absent = review(&api, &root, "verb=run&action=linux.absent").await;
    assert_eq!((&absent["allowed"], &absent["active"]), (&json!(true), &Value::Null), "{absent}");
    assert!(absent["reason"].as_str().unwrap().ends_with("no active version of the pack has this action here"));
    for (caller, query, allowed) in [
        (&ann, "verb=kill&action=linux.seen", true),
        (&ann, "verb=run&action=linux.*", false),
        (&root, "verb=run&action=linux.*", true),
        (&ann, "verb=sync", true),
        (&ann, "verb=run", true),
        (&runner, "verb=metrics", false),
        (&ann, "verb=metrics", true),
        // Included in read: the route answers.
        (&root, "verb=metrics", true),
    ] {
        let review = review(&api, caller, query).await;
        assert_eq!(review["allowed"], allowed, "{query}: {review}");
        assert_eq!(review["grant"].is_object(), allowed, "{query}: {review}");
    }
    let push = review(&api, &root, "verb=push&action=linux.*").await;
    assert!(
        push["allowed"] == false && push["reason"].as_str().unwrap().contains("does not allow pushed packs"),
        "{push}"
    );
    for wrong in ["", "?action=linux.seen", "?verb=fly", "?verb=run&action=linux", "?verb=run&verb=kill"] {
        let answer = api.ask(Some(&ann), "GET", &format!("/v1/access{wrong}"), "").await.unwrap();
        assert_eq!(status(&answer), 400, "{wrong}: {answer}");
    }
    api.stop().await;
}

#[tokio::test]
async fn an_access_review_answers_the_same_for_a_hidden_action_and_an_absent_one() {
    let api = start().await;
    let callers = ["ann", "diagnostics", "runner", "scraper"].map(|name| {
        let identity = leaf(&api.issuer, &[&format!("spiffe://x/{name}")], |_| {});
        (name, identity)
    });
    for (name, caller) in &callers {
        for verb in ["read", "run", "kill", "metrics", "push", "sync"] {
            let mut answers = Vec::new();
            for action in ["linux.canary", "linux.absent"] {
                let review = review(&api, caller, &format!("verb={verb}&action={action}")).await;
                assert!(review["active"].is_null(), "{name}: {review}");
                answers.push(review.to_string().replace(action, "NAME"));
            }
            assert_eq!(answers[0], answers[1], "{name} {verb}");
        }
    }
    let by_class = review(&api, &callers[1].1, "verb=read&action=linux.canary").await;
    let reason = by_class["reason"].as_str().unwrap();
    for said in [
        "grant 5 of grants.toml (line 18): it is for diagnostic actions only; ",
        "grant 6 of grants.toml (line 23): it gives run, kill only, and it is for remediation actions only, and it is for \
         instances where region == \"elsewhere\" only; ",
        "no action of this name is active here that you may see",
    ] {
        assert!(reason.contains(said), "{said}: {reason}");
    }
    let bob = leaf(&api.issuer, &["spiffe://x/bob"], |_| {});
    let answer = api.ask(Some(&bob), "GET", "/v1/access?verb=run&action=linux.seen", "").await.unwrap();
    assert!(status(&answer) == 403 && answer.contains("no grant names spiffe://x/bob on this instance"), "{answer}");
    api.stop().await;
}
