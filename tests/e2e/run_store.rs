//! The record of runs, in a directory and in a bucket: one contract for both, and the faults of each.

mod clients;
mod contract;
mod crashes;
mod hostile;
mod races;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bolt_client::fleet::{self, Amount, Grouping, Request, Run, Strategy};
use bolt_client::inventory::{Address, Instance};
use bolt_client::runs::{Entry, Head, Lease, RunStore, StoreError, StoredEnding, StoredPlan, open};
use bolt_tests::bucket::{ACCESS_KEY, credentials, location};
use bolt_tests::{Bucket, Moto, Proxy};
use packs_schema::base::name::{ActionRef, InstanceId, RunId};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use serde_json::json;
use tempfile::TempDir;

/// Prefix of the record in a bucket.
const PREFIX: &str = "ops/runs";
/// Setting of a lease that tests can wait for.
const LEASE: &str = "lease=1s";

/// Place of a record.
enum Place {
    Directory(TempDir),
    Bucket(Bucket),
    Moto(Moto),
}

impl Place {
    fn directory() -> Place {
        Place::Directory(tempfile::tempdir().unwrap())
    }

    fn bucket() -> Place {
        Place::Bucket(Bucket::start())
    }

    /// Opens it, as another client would.
    fn store(&self) -> Arc<dyn RunStore> {
        match self {
            Place::Directory(directory) => open(&directory.path().join("runs")),
            Place::Bucket(bucket) => open(Path::new(&at(&bucket.endpoint()))),
            Place::Moto(moto) => open(Path::new(&at(&moto.endpoint()))),
        }
        .unwrap()
    }

    /// Opens a bucket through a proxy.
    fn store_through(proxy: &Proxy) -> Arc<dyn RunStore> {
        open(Path::new(&at(&proxy.endpoint()))).unwrap()
    }
}

/// Returns the location of the record in the bucket at `endpoint`.
pub(crate) fn at(endpoint: &str) -> String {
    format!("{}&{LEASE}", location(&format!("s3://packs/{PREFIX}"), endpoint))
}

/// Returns true in a process that has the credentials of the bucket; elsewhere runs `test` again in one.
fn with_credentials(test: &str) -> bool {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|key| key == ACCESS_KEY) {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).envs(credentials()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// Returns a run on `count` instances, two at a time, with a secret parameter.
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
    request.parameters.insert("token".to_owned(), json!("canary-hunter2"));
    Run { id: RunId::new(id).unwrap(), request, targets, plan, check: None }
}

async fn create(store: &dyn RunStore, run: &Run, created_at_ms: u64) -> Result<Box<dyn Lease>, StoreError> {
    let plan = StoredPlan::new(run, |_, name| name == "token");
    store.create(&Head::new(run, Class::Diagnostic, None, created_at_ms), &plan).await
}

fn starting(target: usize) -> Entry {
    Entry::Starting { target }
}

/// An instance that was not reached.
fn ended(target: usize) -> Entry {
    let ending = StoredEnding::Unreachable {
        outcome: "tls_failed".to_owned(),
        message: "its certificate has expired".to_owned(),
        execution: None,
        may_run: false,
    };
    Entry::Ended { target, ending: Box::new(ending) }
}

/// Returns the error of a result whose value cannot be printed.
fn error<T>(result: Result<T, StoreError>) -> StoreError {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error,
    }
}

/// Planner and record take times from their callers, or measure durations: a wall clock that jumps during a run has no influence.
#[test]
fn neither_planner_nor_record_reads_the_wall_clock() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/src");
    let mut left = vec![source.join("fleet"), source.join("runs"), source.join("runs.rs")];
    let mut files = 0;
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for clock in ["SystemTime", "now_ms()", "OffsetDateTime"] {
            assert!(!text.contains(clock), "{} reads {clock}", path.display());
        }
    }
    assert!(files > 20);
}
