//! Retention on an agent without a launcher; ended executions have a directory and a row.

use std::fs;
use std::os::unix::net::UnixStream;

use nix::fcntl::{Flock, FlockArg};
use packs_schema::agent::config::AuditConfig;
use packs_schema::agent::execution::output::{Frame, MAGIC, Stream, tail_name};
use packs_schema::agent::execution::{State, StreamTotals, file};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ExecutionId, InstanceId};
use serde_json::json;

use super::super::output::{OutputError, StoredOutput};
use super::super::{Launcher, Piece, Settings};
use super::*;
use crate::access::Access;
use crate::audit::Audit;
use crate::health::Health;
use crate::history::{History, OutputLocation};
use crate::metrics::Metrics;
use crate::registry::Registry;

struct Site {
    dir: tempfile::TempDir,
    exec: Arc<Exec>,
    _launcher: UnixStream,
}

fn audit(dir: &tempfile::TempDir) -> Arc<Audit> {
    let config = AuditConfig { journal_socket: dir.path().join("journal"), ..AuditConfig::default() };
    let settings = crate::audit::Settings { directory: dir.path().join("audit"), config };
    Audit::open(&settings, Arc::default()).unwrap().0
}

impl Site {
    /// An agent whose retention runs when the test says so.
    async fn new(budget: Budget) -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("exec")).unwrap();
        Site::in_directory(dir, budget).await
    }

    async fn in_directory(dir: tempfile::TempDir, budget: Budget) -> Site {
        let instance = InstanceId::new("i-1").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let settings = Settings {
            state: dir.path().to_owned(),
            executions: dir.path().join("exec"),
            instance: instance.clone(),
            max_running: 1,
            max_queued: 1,
            keep: Duration::from_secs(1_000_000),
            budget,
            boot_id: "boot".to_owned(),
        };
        let grants = dir.path().join("grants.toml");
        fs::write(&grants, "").unwrap();
        let exec = Exec::begin(
            settings,
            Arc::new(History::open(&dir.path().join("history.db"), &instance).unwrap()),
            Arc::new(Registry::new(dir.path().join("packs"))),
            Arc::new(Access::load(&grants, Arc::default()).unwrap()),
            Launcher::connect(ours.into()).unwrap(),
            audit(&dir),
            Arc::new(Health::default()),
            Arc::new(Metrics::default()),
        );
        Site { exec: exec.await.unwrap(), dir, _launcher: theirs }
    }

    /// Restarts the agent on the same directory, with or without its database.
    async fn restart(self, budget: Budget, lose: bool) -> Site {
        self.exec.history.close().await;
        let Site { dir, exec, _launcher } = self;
        drop(exec);
        for suffix in ["", "-wal", "-shm"] {
            if lose {
                let _ = fs::remove_file(dir.path().join(format!("history.db{suffix}")));
            }
        }
        Site::in_directory(dir, budget).await
    }

    /// Creates an execution that has ended after writing `bytes` to standard output.
    async fn add_ended(&self, n: u64, bytes: &[u8]) -> ExecutionId {
        let mut record: Execution = crate::records::record(json!({
            "id": format!("01932c07-1f4e-7c61-b4b0-{n:012x}"), "created_at_ms": 1_000 + n,
        }));
        let directory = self.exec.directory(&record.id);
        fs::create_dir(&directory).unwrap();
        let mut segment = MAGIC.to_vec();
        for (i, part) in bytes.chunks(60_000).enumerate() {
            let offset = i as u64 * 60_000;
            let frame = Frame { stream: Stream::Stdout, length: part.len() as u32, at_us: 5 + offset, offset };
            segment.extend(frame.encode());
            segment.extend(part);
        }
        fs::write(directory.join(file::OUTPUT), segment).unwrap();
        for name in [file::LOCK, file::STARTED, file::KILL] {
            fs::write(directory.join(name), "").unwrap();
        }
        let spec: packs_schema::agent::execution::Spec =
            crate::records::record(json!({ "id": record.id, "created_at_ms": record.created_at_ms }));
        fs::write(directory.join(file::SPEC), serde_json::to_vec(&spec).unwrap()).unwrap();
        self.exec.history.insert(record.clone(), None, None).await.unwrap();
        record.state = State::Succeeded;
        record.started_at_ms = Some(2_000);
        record.ended_at_ms = Some(2_000);
        record.stdout = Some(StreamTotals { written_bytes: bytes.len() as u64, dropped_bytes: 0 });
        record.stderr = Some(StreamTotals::default());
        let exit = super::super::state::to_exit_record(&record);
        let exit = packs_schema::agent::execution::Exit { stdout: record.stdout.unwrap(), ..exit };
        fs::write(directory.join(file::EXIT), serde_json::to_vec(&exit).unwrap()).unwrap();
        self.exec.history.update(record.clone(), vec![(State::Succeeded, 2_000)]).await.unwrap();
        self.exec.meter.record_end(&record.id);
        record.id
    }

    async fn stdout(&self, id: &ExecutionId) -> Result<Vec<u8>, OutputError> {
        let mut output = self.exec.output(id).await?.open([Some(0), None]);
        let mut all = Vec::new();
        while let Some(piece) = output.read()? {
            match piece {
                Piece::Data { bytes, .. } => all.extend(bytes),
                Piece::Dropped { .. } => panic!("{piece:?}"),
            }
        }
        Ok(all)
    }

    fn names(&self, id: &ExecutionId) -> Vec<String> {
        let entries = fs::read_dir(self.exec.directory(id)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn archive_all(&self) {
        let mut batch = steps::Batch::default();
        while self.exec.archive_some(None, &mut batch).await.unwrap() {}
    }
}

const AMPLE: Budget = Budget { max_bytes: 1 << 30, max_files: 100_000 };

/// Returns bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn small_outputs_are_archived_in_the_database_and_large_ones_in_files() {
    let site = Site::new(AMPLE).await;
    let (small, large) = (b"hello\n".repeat(500), noise(7, 100_000));
    let (one, two, three) =
        (site.add_ended(1, &small).await, site.add_ended(2, &large).await, site.add_ended(3, b"").await);
    site.archive_all().await;
    assert!(!site.exec.directory(&one).exists() && !site.exec.directory(&three).exists());
    assert_eq!(site.names(&two), [file::ARCHIVE, file::EXIT, file::SPEC]);
    assert_eq!(site.stdout(&one).await.unwrap(), small);
    assert_eq!(site.stdout(&two).await.unwrap(), large);
    assert_eq!(site.stdout(&three).await.unwrap(), b"");
    // A restart finds the archives; one without the database finds those in directories.
    let site = site.restart(AMPLE, false).await;
    assert_eq!(site.stdout(&one).await.unwrap(), small);
    assert_eq!(site.stdout(&two).await.unwrap(), large);
    let site = site.restart(AMPLE, true).await;
    let back = site.exec.history.get(&two).await.unwrap().expect("imported from its directory");
    assert_eq!((back.state, back.stdout.unwrap().written_bytes), (State::Succeeded, 100_000));
    assert_eq!(site.stdout(&two).await.unwrap(), large);
    site.archive_all().await;
    assert_eq!(site.exec.history.output_location(&two).await.unwrap(), Some(OutputLocation::File));
    assert_eq!(site.stdout(&two).await.unwrap(), large);
    site.exec.history.close().await;
}

#[tokio::test]
async fn outputs_that_are_locked_or_read_are_not_removed() {
    let site = Site::new(AMPLE).await;
    let bytes = noise(3, 50_000);
    let (held, read) = (site.add_ended(1, &bytes).await, site.add_ended(2, &bytes).await);
    let tail = site.exec.directory(&read).join(tail_name(Stream::Stdout, 0));
    fs::write(&tail, MAGIC).unwrap();
    let lock = fs::File::open(site.exec.directory(&held).join(file::LOCK)).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    let before = site.names(&held);
    let stored = site.exec.output(&read).await.unwrap();
    let mut output = stored.open([Some(0), None]);
    drop(stored);
    site.archive_all().await;
    assert_eq!(site.names(&held), before);
    assert_eq!(site.exec.history.output_location(&held).await.unwrap(), Some(OutputLocation::Directory));
    assert!(site.names(&read).contains(&file::OUTPUT.to_owned()) && tail.exists());
    // A new reader gets the archive; the one that reads continues.
    assert!(matches!(site.exec.output(&read).await.unwrap(), StoredOutput::Archived(_)));
    assert!(output.read().unwrap().is_some());
    drop(output);
    drop(lock);
    site.exec.recount().await.unwrap();
    site.archive_all().await;
    for id in [&held, &read] {
        assert_eq!(site.names(id), [file::ARCHIVE, file::EXIT, file::SPEC]);
        assert_eq!(site.stdout(id).await.unwrap(), bytes);
    }
    site.exec.history.close().await;
}

#[tokio::test]
async fn an_unreadable_output_is_reported_and_does_not_stop_the_others() {
    let site = Site::new(Budget { max_bytes: 1 << 30, max_files: 10 }).await;
    let (bad, good) = (site.add_ended(1, b"x").await, site.add_ended(2, b"good").await);
    let log = site.exec.directory(&bad).join(file::OUTPUT);
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    site.exec.measure_ended().await.unwrap();
    let error = site.exec.enforce_budget().await.unwrap_err();
    assert!(matches!(error, RetentionError::Archive(ArchiveOutputError::Segment(_))), "{error:?}");
    assert_eq!(site.exec.history.output_location(&bad).await.unwrap(), Some(OutputLocation::Directory));
    assert!(site.exec.directory(&bad).exists() && !site.exec.directory(&good).exists());
    assert_eq!(site.stdout(&good).await.unwrap(), b"good");
    site.exec.history.close().await;
}

#[tokio::test]
async fn files_over_the_budget_are_archived_early_then_evicted_oldest_first() {
    // Inodes per output: eight as written, four as an archive file, none in the database.
    let site = Site::new(Budget { max_bytes: 1 << 30, max_files: 60 }).await;
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(site.add_ended(n, &noise(n + 1, 20_000)).await);
    }
    let running = ExecutionId::new("01932c07-1f4e-7c61-b4b0-00000000ffff").unwrap();
    fs::create_dir(site.exec.directory(&running)).unwrap();
    site.exec.measure_ended().await.unwrap();
    site.exec.enforce_budget().await.unwrap();
    let used = site.exec.meter.used();
    assert!(used.files <= 57 && used.files > 40, "{used}");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(site.stdout(id).await.unwrap(), noise(n as u64 + 1, 20_000), "archived early, nothing is lost");
    }
    for n in 12..24 {
        ids.push(site.add_ended(n, &noise(n + 1, 20_000)).await);
    }
    site.exec.measure_ended().await.unwrap();
    site.exec.enforce_budget().await.unwrap();
    let counted = site.exec.meter.used();
    assert!(counted.files <= 60, "{counted}");
    site.exec.recount().await.unwrap();
    assert_eq!(
        site.exec.meter.used().files,
        counted.files + 1,
        "counted correctly, except for the one that was not recorded as ended"
    );
    let mut kept = false;
    for (n, id) in ids.iter().enumerate() {
        match site.stdout(id).await {
            Ok(bytes) => {
                kept = true;
                assert_eq!(bytes, noise(n as u64 + 1, 20_000));
            }
            Err(OutputError::Gone) => {
                assert!(!kept, "{n}: the oldest go first");
                assert!(!site.exec.directory(id).exists());
            }
            Err(error) => panic!("{error}"),
        }
        assert!(site.exec.history.get(id).await.unwrap().is_some(), "the rows stay");
    }
    assert!(kept && site.exec.directory(&running).exists());
    assert!(!site.exec.health.has(OVER_BUDGET));
    site.exec.history.close().await;
}

#[tokio::test]
async fn bytes_over_the_budget_evict_outputs_then_rows_of_ended_executions() {
    let site = Site::new(AMPLE).await;
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(site.add_ended(n, &noise(n + 1, 6_000)).await);
    }
    let mut live: Execution = site.exec.history.get(&ids[0]).await.unwrap().unwrap();
    live.id = ExecutionId::new("01932c07-1f4e-7c61-b4b0-00000000ffff").unwrap();
    live.state = State::Queued;
    live.note = Some("x".repeat(400_000));
    site.exec.history.insert(live.clone(), None, None).await.unwrap();
    fs::create_dir(site.exec.directory(&live.id)).unwrap();
    let lock = fs::File::create(site.exec.directory(&live.id).join(file::LOCK)).unwrap();
    let _shim = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    site.archive_all().await;
    let tally = site.exec.tally().await.unwrap();
    site.exec.recount().await.unwrap();
    let squeezed = |max_bytes: u64| Budget { max_bytes, ..AMPLE };
    let site = site.restart(squeezed(tally.used_bytes - 100_000), false).await;
    site.exec.recount().await.unwrap();
    site.exec.tally().await.unwrap();
    site.exec.enforce_budget().await.unwrap();
    assert!(matches!(site.stdout(&ids[0]).await, Err(OutputError::Gone)));
    assert_eq!(site.exec.history.count().await.unwrap(), 61, "outputs are evicted before rows");
    // Only the execution that has not ended is left, which is still too much: health reports it.
    let site = site.restart(squeezed(300_000), false).await;
    site.exec.recount().await.unwrap();
    site.exec.tally().await.unwrap();
    site.exec.enforce_budget().await.unwrap();
    assert!(site.exec.health.has(OVER_BUDGET));
    assert_eq!(site.exec.history.count().await.unwrap(), 1);
    assert!(site.exec.history.knows(&live.id).await.unwrap());
    site.exec.history.close().await;
}
