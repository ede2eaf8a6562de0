//! Filters and pages: each uses an index, and pages are stable while rows are added, pruned, or the clock is set back.

use super::*;
use crate::history::retention::{IN_FILES, IN_TABLE, OLDEST, TO_ARCHIVE};

const ALL: fn(&ActionRef) -> bool = |_| true;

/// Returns the statement of each range that a page is read from, and its query plan.
async fn plans(history: &History, wanted: Filter) -> Vec<(String, String)> {
    let explained = history.read(move |connection| {
        let Some(plan) = listing::plan(connection, &wanted, &ALL)? else { return Ok(Vec::new()) };
        let explain = |range: &listing::Range| {
            let sql = range.sql();
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let rows = statement.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>()?;
            Ok((sql, rows.join("\n")))
        };
        plan.ranges.iter().map(explain).collect()
    });
    explained.await.unwrap()
}

#[tokio::test]
async fn every_filter_uses_an_index() {
    let (_dir, history) = open();
    for n in 0..200 {
        let (action, who) = if n % 3 == 0 { ("linux.b", "spiffe://x/bob") } else { ("linux.a", "spiffe://x/ann") };
        let new = record(n, action, who);
        history.insert(new.clone(), None, None).await.unwrap();
        history.update(ended(new), vec![(State::Succeeded, 1)]).await.unwrap();
    }
    let after = Some(Cursor { epoch: None, created_at_ms: 1_050, seq: 100 });
    let run = Some(packs_schema::base::name::RunId::new("run-1").unwrap());
    let (action, principal) =
        (Some(ActionRef::new("linux.a").unwrap()), Some(Principal::new("spiffe://x/ann").unwrap()));
    let none = Filter { limit: 50, ..Filter::default() };
    let each = [
        none.clone(),
        Filter { action: action.clone(), ..none.clone() },
        Filter { principal: principal.clone(), ..none.clone() },
        Filter { run: run.clone(), ..none.clone() },
        Filter { since_ms: Some(1_010), until_ms: Some(1_050), ..none.clone() },
        Filter { ended: true, ..none.clone() },
        Filter { action, principal, run, ..none.clone() },
    ];
    let states = [None, Some(State::Succeeded), Some(State::Failed), Some(State::Queued)];
    for wanted in each {
        for state in states {
            for after in [None, after.clone()] {
                let wanted = Filter { state, after, ..wanted.clone() };
                for (range, plan) in plans(&history, wanted.clone()).await {
                    // All columns that are fixed, and times, so that no entry is read that is not of the page.
                    let good = plan.starts_with("SEARCH executions USING COVERING INDEX executions_")
                        && plan.contains("created_at_ms")
                        && !plan.contains("TEMP B-TREE");
                    assert!(good, "{wanted:?}\n{range}\n{plan}");
                }
            }
        }
    }
    let queries = [TO_ARCHIVE, IN_FILES, IN_TABLE, OLDEST];
    for sql in queries {
        let plan = history.read(move |connection| {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let rows = statement.query_map([1, 1], |row| row.get::<_, String>(3))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        for line in plan.await.unwrap() {
            assert!(line.starts_with("SEARCH") && !line.contains("TEMP"), "{sql}\n{line}");
        }
    }
    history.close().await;
}

#[tokio::test]
async fn pages_are_stable_while_rows_come_and_go_and_the_clock_leaps() {
    let (_dir, history) = open();
    // The clock is set back by years in the middle, and stops for a while.
    let created = |n: u64| match n {
        0..20 => 1_000_000 + n,
        20..40 => 10,
        _ => 20 + n,
    };
    let at = |n: u64| {
        let mut new = record(n, "linux.a", "spiffe://x/ann");
        new.created_at_ms = created(n);
        new
    };
    let mut wanted_ids = Vec::new();
    for n in 0..60 {
        let new = at(n);
        history.insert(new.clone(), None, None).await.unwrap();
        history.update(ended(new.clone()), vec![(State::Succeeded, 1)]).await.unwrap();
        wanted_ids.push(new.id);
    }
    let mut seen = Vec::new();
    let mut wanted = Filter { limit: 7, ..Filter::default() };
    for page in 0.. {
        assert!(page < 40, "paging does not end");
        let (items, next) = history.list(wanted.clone(), |_| true).await.unwrap();
        seen.extend(items.into_iter().map(|execution| execution.id));
        // Between the pages one is added, and one that was listed is pruned.
        history.insert(at(100 + page), None, None).await.unwrap();
        if let Some(shown) = seen.first() {
            let row = wanted_ids.iter().position(|id| id == shown).unwrap();
            history.prune(vec![i64::try_from(row).unwrap() + 1]).await.unwrap();
        }
        let Some(next) = next else { break };
        wanted.after = Some(next.to_string().parse().unwrap());
    }
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "none is listed twice");
    for id in &wanted_ids {
        assert!(seen.contains(id), "{id} was not listed");
    }
    history.close().await;
}
