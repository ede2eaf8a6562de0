//! Pages of a history whose rows are skewed: a few actions and callers have most of them, an action always fails, another
//! belongs to one caller, and times repeat and leap. Every combination of filters is compared with a scan of all rows.
//!
//! With `BOLT_TEST_HISTORY_ROWS=1000000` in the environment it prints how long pages take, beside the statement that earlier versions
//! used for them, and how long such a file takes to migrate.

use std::time::Instant;

use super::*;
use crate::history::compact::Compact;
use crate::history::row::state_number;
use packs_schema::base::name::RunId;
use rusqlite::types::Value;

const ACTIONS: u64 = 40;
const CALLERS: u64 = 25;
/// Rows in each run of the tests.
const ROWS: u64 = 6_000;
/// Maximum number of ranges that a page is merged from, each of which costs 20 to 30 µs.
const MAX_RANGES: usize = 128;
/// Size of a page.
const PAGE: u32 = 50;

fn action(n: u64) -> ActionRef {
    ActionRef::new(format!("pack{}.action{n}", n % 4)).unwrap()
}

fn caller(n: u64) -> Principal {
    Principal::new(format!("spiffe://x/caller-{n}")).unwrap()
}

/// Makes a history of the version before the indexes by state, with skewed rows.
fn fill(path: &Path, rows: u64) {
    let (connection, _) = schema::open_writer(path).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN").unwrap();
    for n in 1..=ACTIONS {
        change::insert(&connection, &record(n, action(n).as_str(), caller(1 + n % CALLERS).as_str()), None, None, None)
            .unwrap();
    }
    let callers: Vec<String> =
        (1..=CALLERS).map(|n| query::name_id(&connection, caller(n).as_str()).unwrap().unwrap().to_string()).collect();
    let state = state_number;
    connection
        .execute_batch(&format!(
            "DELETE FROM events;
             CREATE TEMP TABLE callers (n INTEGER PRIMARY KEY, id INTEGER);
             INSERT INTO callers SELECT key + 1, value FROM json_each('[{callers}]');
             WITH RECURSIVE numbers (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM numbers WHERE x < {rows}),
                drawn AS (SELECT x, (x * 2654435761 % 4294967296) / 4294967296.0 AS a,
                    (x * 40503 % 65536) / 65536.0 AS p, x * 2246822519 % 1000 AS s FROM numbers),
                skewed AS (SELECT x, s, CAST({ACTIONS} * a * a * a AS INTEGER) + 1 AS action,
                    CAST({CALLERS} * p * p * p AS INTEGER) + 1 AS caller FROM drawn)
             INSERT INTO executions (id, action, version, digest, principal, state, parameters, noop, run, created_at_ms,
                output, ended_life_ms)
             SELECT unhex(printf('%032x', 1000000000 + x)), k.action, o.version, o.digest,
                (SELECT id FROM callers WHERE n = CASE WHEN k.action = 2 THEN 7 ELSE k.caller END),
                CASE WHEN x > {rows} - 8 THEN x % 2 WHEN k.action = 3 THEN {failed} WHEN s < 20 THEN {failed}
                    WHEN s < 25 THEN {timed_out} WHEN s < 26 AND k.action > 20 THEN {killed} ELSE {succeeded} END,
                o.parameters, 0, CASE WHEN x % 3 = 0 THEN {often} WHEN x % 5000 = 1 THEN {seldom} END,
                1700000000000 + x / 3 * 1000 - CASE WHEN x * 10 / {rows} = 4 THEN 600000000 ELSE 0 END, 3, x
             FROM skewed k JOIN executions o ON o.seq = 1 ORDER BY x;
             DELETE FROM executions WHERE seq <= {ACTIONS};
             COMMIT;",
            callers = callers.join(","),
            failed = state(State::Failed),
            timed_out = state(State::TimedOut),
            killed = state(State::Killed),
            succeeded = state(State::Succeeded),
            often = literal("run-1"),
            seldom = literal("run-2"),
        ))
        .unwrap();
}

/// Returns a run as it is stored, for a statement.
fn literal(run: &str) -> String {
    match Compact(run.to_owned()).value() {
        Value::Blob(bytes) => format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        _ => format!("'{run}'"),
    }
}

/// Removes what the last migrations made.
fn downgrade(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "DROP INDEX executions_succeeded; DROP INDEX executions_unsuccessful_action;
             DROP INDEX executions_unsuccessful_principal; DROP INDEX executions_unsuccessful_action_principal;
             CREATE INDEX executions_principal ON executions (principal, created_at_ms);
             PRAGMA user_version = 6;",
        )
        .unwrap();
}

/// Decides which actions a caller may see.
type Visible = fn(&ActionRef) -> bool;

/// A combination of filters, and what its caller may see.
#[derive(Clone)]
struct Wanted {
    filter: Filter,
    visible: Visible,
    seen: &'static str,
}

fn combinations(rows: u64) -> Vec<Wanted> {
    let middle = 1_700_000_000_000 + rows / 6 * 1000;
    let mut all = Vec::new();
    let visible: [(&str, Visible); 3] = [
        ("all", |_| true),
        ("all but the most frequent", |action| action.as_str() != "pack1.action1"),
        ("two rare ones", |action| action.as_str().ends_with("action39") || action.as_str().ends_with("action40")),
    ];
    let states = [None, Some(State::Succeeded), Some(State::Failed), Some(State::Killed), Some(State::Running)];
    for action in [None, Some(action(1)), Some(action(2)), Some(action(3)), Some(action(39))] {
        for principal in [None, Some(caller(1)), Some(caller(7)), Some(caller(25))] {
            for state in states {
                for ended in [false, true] {
                    for run in [None, Some("run-1"), Some("run-2")] {
                        for (since_ms, until_ms) in
                            [(None, None), (Some(middle), Some(2 * middle)), (None, Some(middle))]
                        {
                            for (seen, visible) in visible {
                                let run = run.map(|run| RunId::new(run).unwrap());
                                let (action, principal) = (action.clone(), principal.clone());
                                let (limit, after) = (PAGE, None);
                                let filter =
                                    Filter { action, state, ended, principal, run, since_ms, until_ms, limit, after };
                                all.push(Wanted { filter, visible, seen });
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

fn passes(execution: &Execution, wanted: &Wanted) -> bool {
    let filter = &wanted.filter;
    (wanted.visible)(&execution.action)
        && filter.action.as_ref().is_none_or(|action| *action == execution.action)
        && filter.principal.as_ref().is_none_or(|principal| *principal == execution.principal)
        && filter.state.is_none_or(|state| state == execution.state)
        && (!filter.ended || execution.state.is_terminal())
        && filter.run.as_ref().is_none_or(|run| Some(run) == execution.run.as_ref())
        && filter.since_ms.is_none_or(|since| execution.created_at_ms >= since)
        && filter.until_ms.is_none_or(|until| execution.created_at_ms < until)
}

#[tokio::test]
async fn pages_of_any_filters_have_what_a_scan_finds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let rows = std::env::var("BOLT_TEST_HISTORY_ROWS").ok().and_then(|rows| rows.parse().ok());
    fill(&path, rows.unwrap_or(ROWS));
    downgrade(&path);
    let since = Instant::now();
    drop(schema::open_writer(&path).unwrap());
    let migrated = since.elapsed();
    if rows.is_some() {
        // For the statement of earlier versions, which used it.
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("CREATE INDEX executions_principal ON executions (principal, created_at_ms)").unwrap();
    }
    let history = History::open(&path, &instance()).unwrap();
    if let Some(rows) = rows {
        println!("{rows} rows, {} MB: migrated in {migrated:?}", path.metadata().unwrap().len() >> 20);
        print_times(&history, rows).await;
        history.close().await;
        return;
    }
    let mut everything = Vec::new();
    let mut wanted = Filter { limit: 500, ..Filter::default() };
    loop {
        let (items, next) = history.list(wanted.clone(), |_| true).await.unwrap();
        everything.extend(items);
        let Some(next) = next else { break };
        wanted.after = Some(next);
    }
    assert_eq!(everything.len() as u64, ROWS);
    assert!(everything.is_sorted_by(|a, b| a.created_at_ms >= b.created_at_ms));
    for wanted in combinations(ROWS) {
        let found: Vec<&ExecutionId> =
            everything.iter().filter(|execution| passes(execution, &wanted)).map(|execution| &execution.id).collect();
        let (mut listed, mut filter, mut pages) = (Vec::new(), wanted.filter.clone(), 0);
        loop {
            let (items, next) = history.list(filter.clone(), wanted.visible).await.unwrap();
            assert!(next.is_none() || !items.is_empty(), "an empty page has a cursor: {filter:?}");
            listed.extend(items.into_iter().map(|execution| execution.id));
            pages += 1;
            let Some(next) = next else { break };
            filter.after = Some(next);
            if pages == 3 {
                break;
            }
        }
        let ranges = count_ranges(&history, wanted.clone()).await;
        assert!(ranges <= MAX_RANGES, "{ranges} ranges for {:?} of {}", wanted.filter, wanted.seen);
        let matches = listed.iter().eq(found.iter().take(listed.len()).copied());
        let is_complete = pages == 3 || listed.len() == found.len();
        let (want, got) = (found.len(), listed.len());
        assert!(matches && is_complete, "{want} {got} {:?} of {}", wanted.filter, wanted.seen);
    }
    history.close().await;
}

/// Returns how many ranges of indexes the first page is merged from.
async fn count_ranges(history: &History, wanted: Wanted) -> usize {
    let plan = history.read(move |connection| listing::plan(connection, &wanted.filter, &wanted.visible));
    plan.await.unwrap().map_or(0, |plan| plan.ranges.len())
}

/// Number of consecutive pages whose times are printed.
const PAGES: usize = 4;

/// Prints how long the first pages of each combination take, by kind of filter, and some with the statement that was used before.
async fn print_times(history: &History, rows: u64) {
    let combinations = combinations(rows);
    let (mut all, mut kinds) = (Vec::new(), std::collections::BTreeMap::<String, Vec<Duration>>::new());
    for wanted in &combinations {
        let mut filter = wanted.filter.clone();
        for page in 1..=PAGES {
            let (mut took, mut after) = (Vec::new(), None);
            for _ in 0..3 {
                let since = Instant::now();
                after = history.list(filter.clone(), wanted.visible).await.unwrap().1;
                took.push(since.elapsed());
            }
            took.sort_unstable();
            all.push((took[1], page, wanted));
            kinds.entry(kind(wanted)).or_default().push(took[1]);
            let Some(after) = after else { break };
            filter.after = Some(after);
        }
    }
    all.sort_by_key(|(took, ..)| *took);
    let mut before = Vec::new();
    for wanted in combinations.iter().step_by(37) {
        let wanted = wanted.clone();
        let took = history.read(move |connection| {
            let since = Instant::now();
            let sql = former_statement(connection, &wanted)?;
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(since.elapsed())
        });
        before.push(took.await.unwrap());
    }
    before.sort_unstable();
    println!("{:<52} {:>7} {:>7} {:>7} {:>7}", "a page of any filters, ms", "p50", "p99", "longest", "pages");
    print_row("one scan of one index, first pages, as before", &before);
    print_row("merged ranges of indexes", &all.iter().map(|(took, ..)| *took).collect::<Vec<_>>());
    for (kind, times) in &mut kinds {
        times.sort_unstable();
        print_row(&format!("  {kind}"), times);
    }
    for (took, page, wanted) in all.iter().rev().take(5) {
        let Filter { action, state, ended, principal, run, since_ms, .. } = &wanted.filter;
        println!(
            "  {took:?}, page {page}: {action:?} {state:?} {ended} {principal:?} {run:?} {since_ms:?}, visible: {}",
            wanted.seen
        );
    }
}

/// Prints the distribution of sorted times.
fn print_row(name: &str, sorted: &[Duration]) {
    let at = |share: usize| sorted[(sorted.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!("{name:<52} {:>7.2} {:>7.2} {:>7.2} {:>7}", at(50), at(99), at(100), sorted.len());
}

/// Returns the names of the filters of a combination, without times.
fn kind(wanted: &Wanted) -> String {
    let filter = &wanted.filter;
    let names = [
        (filter.action.is_some(), "action"),
        (filter.principal.is_some(), "caller"),
        (filter.state.is_some() || filter.ended, "state"),
        (filter.run.is_some(), "run"),
        (wanted.seen != "all", "not all visible"),
    ];
    let names: Vec<&str> = names.into_iter().filter(|(is_used, _)| *is_used).map(|(_, name)| name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Returns the statement of the first page as earlier versions made it.
fn former_statement(connection: &rusqlite::Connection, wanted: &Wanted) -> Result<String, HistoryError> {
    let filter = &wanted.filter;
    let actions = query::actions(connection)?;
    let mut clauses = Vec::new();
    let shown: Vec<_> = actions.iter().filter(|(_, name)| (wanted.visible)(name)).collect();
    if let Some(action) = &filter.action {
        let id = shown.iter().find(|(_, name)| name == action).map_or(-1, |(id, _)| *id);
        clauses.push(format!("e.action = {id}"));
    } else if shown.len() < actions.len() {
        let ids: Vec<String> = shown.iter().map(|(id, _)| id.to_string()).collect();
        clauses.push(format!("+e.action IN ({})", ids.join(",")));
    }
    if let Some(state) = filter.state {
        clauses.push(format!("e.state = {}", state_number(state)));
        if state != State::Succeeded {
            clauses.push("e.state <> 2".to_owned());
        }
    }
    if filter.ended {
        clauses.push("e.state NOT IN (0, 1)".to_owned());
    }
    if let Some(principal) = &filter.principal {
        clauses.push(format!("e.principal = {}", query::name_id(connection, principal.as_str())?.unwrap_or(-1)));
    }
    if let Some(run) = &filter.run {
        clauses.push(format!("e.run = {}", literal(run.as_str())));
    }
    clauses.extend(filter.since_ms.map(|since| format!("e.created_at_ms >= {since}")));
    clauses.extend(filter.until_ms.map(|until| format!("e.created_at_ms < {until}")));
    let clauses = if clauses.is_empty() { "1".to_owned() } else { clauses.join(" AND ") };
    Ok(format!("{} WHERE {clauses} ORDER BY e.created_at_ms DESC, e.seq DESC LIMIT {}", row::SELECT, PAGE + 1))
}
