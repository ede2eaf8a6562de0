//! Size of an execution in the database, with realistic records.

use super::*;

const ROWS: u64 = 20_000;
/// Number of rows where less precision is enough.
const FEW: u64 = 4_000;
/// Maximum average size of an execution in bytes, indexes included.
const MAX: u64 = 300;

/// Creates a record; with `fan_out` as the command line starts it, with a run, a key and a fingerprint.
fn realistic(n: u64, fan_out: bool) -> (Execution, Option<Key>) {
    // Distinct, and distributed like a hash.
    let hash = |salt: u64| -> String {
        (0..4).map(|i| format!("{:016x}", (n * 4 + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (salt << 7)))).collect()
    };
    let actions = ["cassandra.clear_snapshots", "linux.disk_usage", "linux.restart_service", "postgres.vacuum"];
    let mut new = record(n, actions[n as usize % 4], &format!("spiffe://example/oncall/person-{}", n % 40));
    new.id =
        ExecutionId::new(format!("{:08x}-{:04x}-7{:03x}-8000-{}", n, n % 0xffff, n % 0xfff, &hash(3)[..12])).unwrap();
    new.parameters = serde_json::from_value(json!({"keyspace": "users", "older_than_days": n % 30})).unwrap();
    new.run = fan_out.then(|| packs_schema::base::name::RunId::new(format!("r-{}", new.id)).unwrap());
    new.created_at_ms = 1_800_000_000_000 + n * 1_234;
    let key = fan_out.then(|| Key { key: IdempotencyKey::new(hash(1)).unwrap(), fingerprint: hash(2) });
    (new, key)
}

fn end(mut record: Execution, n: u64) -> Execution {
    record.state = if n.is_multiple_of(20) { State::Failed } else { State::Succeeded };
    let started = record.created_at_ms + 3;
    record.started_at_ms = Some(started);
    record.ended_at_ms = Some(started + n % 5_000);
    record.duration_ms = Some(n % 5_000);
    record.exit_status = Some(i32::from(n.is_multiple_of(20)));
    record.usage = Some(Usage {
        user_us: 12_000 + n % 7_000,
        system_us: 8_000 + n % 3_000,
        peak_memory_bytes: Some(9_000_000 + n * 4_096),
        ..Usage::default()
    });
    record.stdout = Some(StreamTotals { written_bytes: n % 3_000, dropped_bytes: 0 });
    record.stderr = Some(StreamTotals::default());
    record
}

/// Returns the bytes of tables and indexes per execution, and separately those of its events, of which a limited number is kept.
fn measure(rows: u64, fan_outs: impl Fn(u64) -> bool) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (connection, _) = schema::open_writer(&dir.path().join("history.db")).unwrap();
    let history_clock = HistoryClock::resume(&connection, &clock::host()()).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN").unwrap();
    for n in 0..rows {
        let (new, key) = realistic(n, fan_outs(n));
        change::insert(&connection, &new, key.as_ref(), None, None).unwrap();
        let end = end(new, n);
        let changes = [(State::Running, end.started_at_ms.unwrap()), (end.state, end.ended_at_ms.unwrap())];
        change::update(&connection, n * 1_000, &end, &changes).unwrap();
        crate::history::retention::apply(
            &connection,
            &history_clock,
            &RetentionJob::Archive(vec![(end.id, OutputLocation::Empty)]),
        )
        .unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    let whole = (number("PRAGMA page_count") - number("PRAGMA freelist_count")) * number("PRAGMA page_size");
    let events = number("SELECT sum(pgsize) FROM dbstat WHERE name = 'events'");
    assert_eq!(number("SELECT count(*) FROM events"), rows * 3);
    ((whole - events) / rows, events / rows)
}

#[test]
fn an_execution_takes_at_most_three_hundred_bytes_on_average() {
    let ((fan_out, events), (alone, _), (both, _)) =
        (measure(FEW, |_| true), measure(FEW, |_| false), measure(ROWS, |n| n.is_multiple_of(2)));
    println!(
        "bytes of the database for an execution: {fan_out} of a fan-out, {alone} alone, {both} for one of each; \
         its events take {events} more while they are among those that are kept"
    );
    assert!(both <= MAX && fan_out <= MAX + 60 && events <= 45, "{both} {fan_out} {events}");
}
