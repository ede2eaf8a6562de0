use packs_schema::base::name::{ActionRef, InstanceId};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use serde_json::{Map, json};

use super::*;
use crate::fleet::{self, Amount, Before, Grouping, Request, Run, Strategy};
use crate::inventory::{Address, Instance};
use crate::runs::{StoredEnding, take_over};

fn run(id: &str, count: usize) -> Run {
    let target = |at| Instance {
        facts: Facts::of(InstanceId::new(format!("i-{at}")).unwrap()),
        address: Address::new("127.0.0.1:1").unwrap(),
    };
    let targets: Vec<Instance> = (0..count).map(target).collect();
    let strategy = Strategy { grouping: Grouping::All, batch: Some(Amount::Count(2)), ..Strategy::default() };
    let plan = fleet::Plan::new(&targets.iter().map(|t| &t.facts).collect::<Vec<_>>(), &strategy);
    let mut request = Request::new(ActionRef::new("linux.a").unwrap());
    request.parameters.insert("path".to_owned(), json!("/var"));
    request.parameters.insert("token".to_owned(), json!("hunter2"));
    Run { id: RunId::new(id).unwrap(), request, targets, plan, check: None }
}

async fn record(store: &Directory, run: &Run) -> Result<Box<dyn Lease>, StoreError> {
    let plan = Plan::new(run, |_, name| name == "token");
    store.create(&Head::new(run, Class::Diagnostic, None, 7), &plan).await
}

fn unreachable(may_run: bool) -> Box<StoredEnding> {
    Box::new(StoredEnding::Unreachable {
        outcome: "tls_failed".to_owned(),
        message: "its certificate has expired".to_owned(),
        execution: None,
        may_run,
    })
}

#[tokio::test]
async fn a_run_comes_back_as_it_was_recorded_and_without_its_secret() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::new(dir.path().join("runs"));
    let planned = run("r-1", 5);
    let mut lease = record(&store, &planned).await.unwrap();
    assert!(matches!(record(&store, &planned).await, Err(StoreError::Exists(_))));
    lease.append(&[Entry::Starting { target: 0 }, Entry::Starting { target: 1 }]).await.unwrap();
    lease.append(&[Entry::Ended { target: 1, ending: unreachable(false) }]).await.unwrap();
    lease.append(&[Entry::Ended { target: 0, ending: unreachable(true) }]).await.unwrap();
    // Asked, and killed before the answer: it must be asked again.
    lease.append(&[Entry::Starting { target: 2 }]).await.unwrap();

    for entry in std::fs::read_dir(dir.path().join("runs/r-1")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
    }
    let stored = store.load(&planned.id).await.unwrap();
    assert!(take_over(&stored, Map::new(), None).unwrap_err().to_string().contains("token"));
    let taken = take_over(&stored, Map::from_iter([("token".to_owned(), json!("hunter2"))]), None).unwrap();
    assert_eq!(taken.run.request.parameters, planned.request.parameters);
    assert_eq!((&taken.run.targets, &taken.run.plan), (&planned.targets, &planned.plan));
    let ended = Before::Ended(fleet::Outcome::Unreachable);
    let untouched = Before::Untouched;
    assert_eq!(taken.earlier.before, [Before::Started, ended, Before::Started, untouched, untouched]);
    let state = |at: usize| taken.earlier.endings[at].as_ref().map(fleet::Ending::state);
    assert_eq!((state(0), state(1), state(2)), (Some("tls_failed"), Some("tls_failed"), None));
    // Asked again: what it had accepted is not forgotten.
    lease.append(&[Entry::Starting { target: 0 }]).await.unwrap();
    let stored = store.load(&planned.id).await.unwrap();
    let taken = take_over(&stored, Map::from_iter([("token".to_owned(), json!("hunter2"))]), None).unwrap();
    assert!(matches!(&taken.earlier.endings[0], Some(fleet::Ending::Unreachable { may_run: true, .. })));
    assert_eq!(taken.earlier.before[0], Before::Started);
    drop(lease);
    assert_eq!(store.list(usize::MAX).await.unwrap().heads, [Head::new(&planned, Class::Diagnostic, None, 7)]);
}

/// Returns true in a process that runs `test` alone; elsewhere starts one and waits for its success. A process that
/// another test starts has copies of all descriptors until it executes its program, so that this lock would look taken.
fn is_alone(test: &str) -> bool {
    /// Set for the process that is started here, and nowhere else.
    const ALONE: &str = "BOLT_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[tokio::test]
async fn one_client_at_a_time_carries_out_a_run() {
    if !is_alone("runs::directory::tests::one_client_at_a_time_carries_out_a_run") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::new(dir.path().to_owned());
    let planned = run("r-1", 1);
    let lease = record(&store, &planned).await.unwrap();
    assert!(store.status(&planned.id).await.unwrap().holder.is_some());
    let error = store.acquire(&planned.id).await.err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(lease);
    assert!(store.status(&planned.id).await.unwrap().holder.is_none());
    // Asking takes nothing: a client may begin at any moment.
    let path = dir.path().join("r-1").join(LOCK);
    let is_asked = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            while is_asked.load(std::sync::atomic::Ordering::Relaxed) {
                runtime.block_on(store.status(&planned.id)).unwrap();
            }
        });
        let refused = (0..2000).filter(|_| store.lock(&planned.id, path.parent().unwrap()).is_err()).count();
        is_asked.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(refused, 0, "of 2000");
    });
    drop(store.acquire(&planned.id).await.unwrap());
    let unknown = store.acquire(&RunId::new("r-2").unwrap()).await.err().unwrap();
    assert!(matches!(unknown, StoreError::Unknown { .. }));
}

#[tokio::test]
async fn old_runs_are_removed_beyond_the_newest_and_none_that_is_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::new(dir.path().to_owned());
    let at = async |id: String, ms: u64| {
        let planned = run(&id, 1);
        let plan = Plan::new(&planned, |_, _| false);
        store.create(&Head::new(&planned, Class::Diagnostic, None, ms), &plan).await.unwrap()
    };
    let busy = at("r-busy".to_owned(), 1).await;
    for n in 0..ALWAYS_KEPT {
        drop(at(format!("r-{n}"), 2 + n as u64).await);
    }
    // Within the age, all stay; beyond it, all but the newest and the busy one go.
    drop(at("r-soon".to_owned(), KEPT_MS).await);
    assert_eq!(store.list(usize::MAX).await.unwrap().heads.len(), ALWAYS_KEPT + 2);
    // Not at every run: a search reads the heads of all.
    let mut late = 0;
    let left = loop {
        drop(at(format!("r-late-{late}"), KEPT_MS + 1_000).await);
        late += 1;
        let heads = store.list(usize::MAX).await.unwrap().heads;
        if heads.len() != ALWAYS_KEPT + 2 + late {
            break heads;
        }
        assert!(late < SEARCH_EVERY, "nothing is removed");
    };
    assert_eq!((ALWAYS_KEPT + 2 + late) % SEARCH_EVERY, 0);
    let left: Vec<String> = left.iter().map(|head| head.run.to_string()).collect();
    assert_eq!(left.len(), ALWAYS_KEPT + 1);
    assert!(left.iter().any(|id| id == "r-busy") && !left.iter().any(|id| id == "r-0"), "{left:?}");
    drop(busy);
}

#[tokio::test]
async fn a_line_that_a_crash_has_cut_short_is_ignored_and_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::new(dir.path().to_owned());
    let planned = run("r-1", 2);
    let mut lease = record(&store, &planned).await.unwrap();
    let entries: Vec<Entry> = (0..200).map(|at| Entry::Starting { target: at % 2 }).collect();
    lease.append(&entries).await.unwrap();
    let path = dir.path().join("r-1").join(PROGRESS);
    let whole = std::fs::read(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..100 {
        let cut = rng.usize(0..=whole.len());
        std::fs::write(&path, &whole[..cut]).unwrap();
        let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(store.load(&planned.id).await.unwrap().entries, entries[..lines]);
        lease.append(&[Entry::Checked { batch: 3 }]).await.unwrap();
        let mut wanted = entries[..lines].to_vec();
        wanted.push(Entry::Checked { batch: 3 });
        assert_eq!(store.load(&planned.id).await.unwrap().entries, wanted);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_hides_no_other_run() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::new(dir.path().to_owned());
    let (good, later, bad) = (run("r-good", 1), run("r-later", 1), run("r-bad", 1));
    for planned in [&good, &later, &bad] {
        drop(record(&store, planned).await.unwrap());
    }
    let head = dir.path().join("r-later").join(HEAD);
    let text = std::fs::read_to_string(&head).unwrap().replace("\"format\":1", "\"format\":9");
    std::fs::write(&head, text).unwrap();
    std::fs::write(dir.path().join("r-bad").join(HEAD), "{").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "").unwrap();
    let Listing { heads, problems, .. } = store.list(usize::MAX).await.unwrap();
    assert_eq!(heads.iter().map(|head| &head.run).collect::<Vec<_>>(), [&good.id]);
    let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.sort();
    assert!(problems.iter().any(|p| p.contains("r-bad") && p.contains("damaged")), "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("format 9") && p.contains("newer")), "{problems:?}");
    let error = store.load(&later.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Later { format: 9, .. }), "{error}");
    // A plan whose batches name instances that are not there.
    let plan = dir.path().join("r-good").join(PLAN);
    let text = std::fs::read_to_string(&plan).unwrap().replace("\"targets\":[0]", "\"targets\":[7]");
    std::fs::write(&plan, text).unwrap();
    let stored = store.load(&good.id).await.unwrap();
    let secret = Map::from_iter([("token".to_owned(), json!("x"))]);
    assert!(take_over(&stored, secret, None).unwrap_err().to_string().contains("contradicts itself"));
}
