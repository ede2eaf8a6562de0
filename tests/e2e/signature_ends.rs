//! Warnings before the signatures of a repository end, as a monitor gets them from the real processes.

use bolt_tests::http::Call;
use bolt_tests::{Operator, World, spec};
use packs_schema::agent::rest::{Health, Reason};

use crate::calls::until;

/// Expiry warning in the health and in the metrics.
#[derive(Debug, PartialEq)]
struct Warning {
    /// Text among the reasons of a degraded agent.
    reason: Option<String>,
    note: Option<String>,
    within: Option<String>,
}

async fn warning(operator: &Operator) -> Warning {
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    let metrics = operator.send(Call::get("/v1/metrics")).await.text();
    let sample = "bolt_ends_within_seconds{kind=\"signature\",name=\"timestamp\"} ";
    let of = |list: &[Reason]| Some(list.iter().find(|reason| reason.code == "metadata_expiring")?.message.clone());
    let within = metrics.lines().find_map(|line| line.strip_prefix(sample)).map(str::to_owned);
    Warning { reason: of(&health.reasons), note: of(&health.notes), within }
}

#[tokio::test]
async fn an_end_is_a_note_and_then_degrades_the_agent_until_there_are_new_signatures() {
    let world = World::with_probe();
    let agent = world.start(&spec("i-1").set("repository", "poll", "1s"));
    let operator = world.operator(&agent);
    let none = Warning { reason: None, note: None, within: None };
    let bolt = world.bolt(&[&agent]);
    let (repository, keys) = (world.site.repository().display().to_string(), world.site.keys().display().to_string());
    // The timestamp is signed again every few days: each warning comes one step later than for other roles.
    for (lifetime, degrades, within) in
        [("6d", false, Some("2592000")), ("20h", true, Some("604800")), ("30d", false, None)]
    {
        let said =
            bolt.run(["repo", "refresh", "--timestamp-expires", lifetime, "--repo", &repository, "--keys", &keys]);
        assert_eq!(said.code, 0, "{said:?}");
        until(lifetime, async || warning(&operator).await.within.as_deref() == within).await;
        let found = warning(&operator).await;
        if within.is_none() {
            assert_eq!(found, none);
            continue;
        }
        let (told, other) = if degrades { (found.reason, found.note) } else { (found.note, found.reason) };
        let told = told.unwrap_or_else(|| panic!("{lifetime}: no warning; {other:?}"));
        assert!(told.contains("the repository's timestamp metadata") && told.contains("bolt repo refresh"), "{told}");
        assert_eq!(other, None);
    }
}
