//! Tests of actions in which something happens meanwhile: files vanish, directories cannot be read, Cassandra removes a snapshot
//! itself, or the action is stopped.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::driver::{action, python};
use crate::service::script;
use crate::stand_in::StandIn;

/// Lists first, and removes once they are listed, the files whose names begin with `gone`; refuses to list what is `locked`.
const VANISHING: &str = r#"
import os
listed, removed = os.scandir, os.rmdir

class Listing:
    def __init__(self, path="."):
        if "locked" in os.path.basename(os.fspath(path)):
            raise PermissionError(13, "Permission denied", path)
        with listed(path) as found:
            self.entries = sorted(found, key=lambda e: (not e.name.startswith("gone"), e.name))
        for entry in self.entries:
            if entry.name.startswith("gone"):
                os.unlink(entry.path)
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def __iter__(self):
        return iter(self.entries)

os.scandir = Listing
"#;
/// Removes each directory twice, as if another process had been faster.
const REMOVED_TWICE: &str = r#"
import os
once = os.rmdir

def twice(*arguments, **options):
    once(*arguments, **options)
    once(*arguments, **options)

os.rmdir = twice
"#;

/// Is asked to end when it has connected for the first time.
const STOPPED: &str = r#"
import os, signal, socket
connect = socket.socket.connect

def stopped(self, address):
    connect(self, address)
    os.kill(os.getpid(), signal.SIGTERM)

socket.socket.connect = stopped
"#;

/// Returns a directory with a Python that carries out this program before each script.
fn python_with(program: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("sitecustomize.py"), program).unwrap();
    let start = format!("PYTHONPATH='{}' exec '{}' \"$@\"\n", directory.path().display(), python().display());
    script(directory.path(), "python3", &start);
    directory
}

fn write(path: &Path, size: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![1; size]).unwrap();
}

#[test]
fn a_segment_that_vanishes_leaves_the_partition_counted() {
    let (bin, top) = (python_with(VANISHING), TempDir::new().unwrap());
    for (name, size) in [("gone.log", 4096), ("1.log", 8192), ("2.log", 4096)] {
        write(&top.path().join("orders-0").join(name), size);
    }
    let disk_use = || action("kafka.disk_use", json!({})).programs(bin.path());
    let site = json!({"data_directories": [top.path()]});
    let ended = disk_use().config(site.clone()).go().well();
    let row = json!({"topic": "orders", "partitions": 1, "bytes": 12288, "segments": 2});
    assert_eq!((&ended.result["topics"], &ended.result["complete"]), (&json!([row]), &json!(true)));
    assert!(!top.path().join("orders-0/gone.log").exists(), "it vanished while it was counted");
    write(&top.path().join("locked-0/1.log"), 4096);
    assert_eq!(disk_use().config(site).go().well().result["complete"], false);
    fs::write(top.path().join("file"), "").unwrap();
    let disk_lost = json!({"data_directories": [top.path(), top.path().join("file")]});
    assert_eq!(disk_use().config(disk_lost).go().well().result["complete"], false);
}

#[test]
fn a_file_that_vanishes_leaves_the_others_of_a_pod_counted() {
    let (bin, top) = (python_with(VANISHING), TempDir::new().unwrap());
    let pod = top.path().join("pods/uid-1/volumes");
    for (name, size) in [("gone-1", 4096), ("gone-2", 4096), ("kept", 8192)] {
        write(&pod.join(name), size);
    }
    let site = json!({"pod_log_directory": top.path().join("logs"), "kubelet_directory": top.path()});
    let disk_use = || action("kubernetes_node.pod_disk_use", json!({})).programs(bin.path()).config(site.clone());
    let ended = disk_use().go().well();
    assert_eq!((&ended.result["volume_bytes"], &ended.result["complete"]), (&json!(8192), &json!(true)));
    write(&pod.join("locked/file"), 4096);
    let ended = disk_use().go().well();
    assert_eq!((&ended.result["volume_bytes"], &ended.result["complete"]), (&json!(8192), &json!(false)));
}

#[test]
fn a_keyspace_that_cannot_be_read_makes_the_sum_incomplete() {
    let (bin, top) = (python_with(VANISHING), TempDir::new().unwrap());
    write(&top.path().join("shop/orders-1/gone-Data.db"), 4096);
    write(&top.path().join("shop/orders-1/nb-1-big-Data.db"), 8192);
    let site = json!({"data_directories": [top.path()]});
    let disk_use =
        || action("cassandra.disk_use", json!({"free_percent": 0})).programs(bin.path()).config(site.clone());
    let ended = disk_use().go().well();
    assert_eq!((&ended.result["live_bytes"], &ended.result["complete"]), (&json!(8192), &json!(true)));
    write(&top.path().join("locked/items-1/nb-1-big-Data.db"), 8192);
    assert_eq!(disk_use().go().well().result["complete"], false);
}

#[test]
fn a_snapshot_that_cassandra_removes_meanwhile_is_no_problem() {
    let (bin, top) = (python_with(REMOVED_TWICE), TempDir::new().unwrap());
    let snapshot = top.path().join("shop/orders-1/snapshots/old");
    write(&snapshot.join("nb-1-big-Data.db"), 4096);
    write(&snapshot.join(".index/nb-1-big-Data.db"), 4096);
    let clear = action("cassandra.clear_snapshots", json!({"older_than_days": 0})).programs(bin.path());
    let ended = clear.config(json!({"data_directories": [top.path()]})).go().well();
    assert_eq!((&ended.result["snapshots"], &ended.result["problems"]), (&json!(1), &json!([])));
    assert!(!snapshot.exists());
}

#[test]
fn a_prune_that_is_stopped_removes_nothing_more() {
    let (bin, top) = (python_with(STOPPED), TempDir::new().unwrap());
    let socket = top.path().join("socket");
    let daemon = StandIn::unix(&socket, |_| (200, b"{}".to_vec()));
    let prune = action("docker.prune", json!({"what": ["containers", "images"]})).programs(bin.path());
    let ended = prune.config(json!({"socket": socket})).go().refused(1, "");
    let problems = ended.result["problems"].as_array().unwrap();
    assert!(problems.len() == 1 && problems[0].as_str().unwrap().contains("stopped by SIGTERM"), "{problems:?}");
    assert!(daemon.requests("POST").is_empty());
}
