//! Changes of executions whose directories are written here, as launcher and shim would.

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use packs_schema::agent::config::AuditConfig;
use packs_schema::agent::execution::{Exit, Started, State, file};
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ExecutionId, InstanceId, Principal};
use serde_json::json;

use super::super::{Budget, Exec, Launcher, Settings};
use crate::access::Access;
use crate::audit::Audit;
use crate::health::Health;
use crate::history::History;
use crate::metrics::Metrics;
use crate::records::record;
use crate::registry::Registry;

struct Site {
    exec: Arc<Exec>,
    _directory: tempfile::TempDir,
    _launcher: UnixStream,
}

impl Site {
    async fn new() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir(path.join("exec")).unwrap();
        fs::write(path.join("grants.toml"), "").unwrap();
        let instance = InstanceId::new("i-1").unwrap();
        let settings = Settings {
            state: path.to_owned(),
            executions: path.join("exec"),
            instance: instance.clone(),
            max_running: 8,
            max_queued: 8,
            keep: Duration::from_secs(1_000_000),
            budget: Budget { max_bytes: 1 << 30, max_files: 1_000_000 },
            boot_id: "boot".to_owned(),
        };
        let config = AuditConfig { journal_socket: path.join("journal"), ..AuditConfig::default() };
        let audit = crate::audit::Settings { directory: path.join("audit"), config };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let exec = Exec::begin(
            settings,
            Arc::new(History::open(&path.join("history.db"), &instance).unwrap()),
            Arc::new(Registry::new(path.join("packs"))),
            Arc::new(Access::load(&path.join("grants.toml"), Arc::default()).unwrap()),
            Launcher::connect(ours.into()).unwrap(),
            Audit::open(&audit, Arc::default()).unwrap().0,
            Arc::new(Health::default()),
            Arc::new(Metrics::default()),
        );
        Site { exec: exec.await.unwrap(), _directory: directory, _launcher: theirs }
    }

    /// Adds a queued execution that the launcher has been given.
    async fn add(&self, n: u64) -> ExecutionId {
        let queued: Execution = record(json!({
            "id": format!("01932c07-1f4e-7c61-b4b0-{n:012x}"), "state": "queued", "created_at_ms": 1_000,
        }));
        let id = queued.id.clone();
        fs::create_dir(self.exec.directory(&id)).unwrap();
        self.exec.history.insert(queued.clone(), None, None).await.unwrap();
        self.exec.track(queued, None, None);
        id
    }

    fn start(&self, id: &ExecutionId) {
        let started: Started = record(json!({ "started_at_ms": 2_000 }));
        fs::write(self.exec.directory(id).join(file::STARTED), serde_json::to_vec(&started).unwrap()).unwrap();
        self.exec.reconcile_started(id);
    }

    fn end(&self, id: &ExecutionId) {
        let exit: Exit = record(json!({ "id": id, "started_at_ms": 2_000, "ended_at_ms": 2_005, "duration_ms": 5 }));
        fs::write(self.exec.directory(id).join(file::EXIT), serde_json::to_vec(&exit).unwrap()).unwrap();
        assert!(self.exec.reconcile_exit(id));
    }

    async fn state_in_history(&self, id: &ExecutionId) -> State {
        self.exec.history.get(id).await.unwrap().unwrap().state
    }
}

#[tokio::test]
async fn the_directory_of_an_execution_is_not_watched_once_its_end_is_known() {
    let site = Site::new().await;
    let id = site.add(1).await;
    let watch = |site: &Site| site.exec.lock().live.get(&id).map(|live| live.watch.is_some());
    assert_eq!(watch(&site), Some(true));
    site.start(&id);
    assert_eq!(watch(&site), Some(true));
    let follow = site.exec.follow(&id).unwrap();
    site.end(&id);
    // Its end is being written. Whoever follows it now or no longer follows it does not have it watched again.
    assert_eq!(watch(&site), Some(false));
    assert_eq!(site.exec.watcher.count(), 0);
    let late = site.exec.follow(&id).unwrap();
    drop(late);
    drop(follow);
    assert_eq!(site.exec.watcher.count(), 0);
    let ended = site.exec.wait(&id, Duration::from_secs(10)).await.unwrap().unwrap();
    assert_eq!(ended.state, State::Succeeded);
    assert_eq!(watch(&site), None);
}

#[tokio::test]
async fn a_kill_whose_caller_has_gone_is_carried_out() {
    let site = Site::new().await;
    let id = site.add(1).await;
    let action = site.exec.lock().live[&id].record.action.clone();
    let permit = site.exec.access.enter_local(&[Verb::Kill]).unwrap().may(&action, None).unwrap();
    // As at the end of its connection: begun, and dropped.
    assert!(site.exec.kill(permit, &id, None).now_or_never().is_none());
    let request = site.exec.directory(&id).join(file::KILL);
    for _ in 0..1000 {
        if request.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(request.exists(), "it is on record, and was not carried out");
    assert_eq!(site.exec.view(&id).await.unwrap().unwrap().killed_by, Some(Principal::local_root()));
}

#[tokio::test]
async fn starts_are_written_a_while_later_unless_the_end_comes_before() {
    let site = Site::new().await;
    let (long, short) = (site.add(1).await, site.add(2).await);
    site.start(&short);
    site.start(&long);
    assert_eq!(site.exec.lock().starts_to_write.len(), 2);
    site.end(&short);
    let ended = site.exec.wait(&short, Duration::from_secs(10)).await.unwrap().unwrap();
    assert_eq!(ended.state, State::Succeeded);
    // Shown at once.
    assert_eq!(site.exec.view(&long).await.unwrap().unwrap().state, State::Running);
    for _ in 0..1000 {
        if site.state_in_history(&long).await == State::Running {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(site.state_in_history(&long).await, State::Running);
    assert_eq!(site.exec.lock().starts_to_write.len(), 0);
    // The next one has a task again.
    let next = site.add(3).await;
    site.start(&next);
    for _ in 0..1000 {
        if site.state_in_history(&next).await == State::Running {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("its start is not written");
}
