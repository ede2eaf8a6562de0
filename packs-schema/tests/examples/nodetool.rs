//! Tests of `cassandra` on recorded output of nodetool (4.1), and on generated data directories.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action};
use crate::service::programs;

/// Each command prints the file of its name.
const NODETOOL: &str = "cd \"$(dirname \"$0\")\"; echo \"$*\" >>calls; shift 2\n\
    [[ $1 == -u ]] && shift 2; [[ $1 == -pwf ]] && shift 2\n\
    [[ $1 == repair && -e broken ]] && { echo 'error: Repair job has failed'; exit 2; }\n\
    [[ -e $1 ]] && cat \"$1\"; true\n";
const STATUS: &str = "Datacenter: eu\n==============\nStatus=Up/Down\n|/ State=Normal/Leaving/Joining/Moving\n\
    --  Address    Load        Tokens  Owns (effective)  Host ID                               Rack\n\
    UN  10.0.0.1   174.31 KiB  16      100.0%            8d5ed9f4-7764-4dbd-bad8-43fddce94b7c  rack1\n\
    UN  10.0.0.2   1,2 GiB     16      ?                 1d5ed9f4-7764-4dbd-bad8-43fddce94b7c  rack2\n\n";
/// Ring in which every node has one token.
const ONE_TOKEN: &str = "Datacenter: eu\n==============\nStatus=Up/Down\n|/ State=Normal/Leaving/Joining/Moving\n\
    --  Address    Load        Owns (effective)  Host ID                               Token                 Rack\n\
    UN  10.0.0.1   174.31 KiB  50.0%             8d5ed9f4-7764-4dbd-bad8-43fddce94b7c  -9223372036854775808  rack1\n\
    UN  10.0.0.2   1.2 GiB     ?                 1d5ed9f4-7764-4dbd-bad8-43fddce94b7c  0                     rack2\n";
const INFO: &str = "ID                     : 8d5ed9f4-7764-4dbd-bad8-43fddce94b7c\nGossip active          : true\n\
    Native Transport active: true\nLoad                   : 174.31 KiB\nUptime (seconds)       : 4711\n\
    Heap Memory (MB)       : 511.22 / 4016.00\nExceptions             : 3\n";
const IDLE: &str = "pending tasks: 0\n";
const BUSY: &str = "concurrent compactors           2\npending tasks: 12\n- shop.orders: 12\n\n\
    id                                   compaction type keyspace table  completed total unit  progress\n\
    5f0cc880-1111-11ee-8888-0123456789ab Compaction      shop     orders 1024      4096  bytes 25.00%\n\
    5f0cc880-2222-11ee-8888-0123456789ab Anticompaction after repair shop items 1 2 ranges 50,00%\n\
    Active compaction remaining time :   0h00m01s\n";
const POOLS: &str = "Pool Name                    Active   Pending      Completed   Blocked  All time blocked\n\
    ReadStage                         0         0              1         0                 0\n\
    MutationStage                    32        77           1000         2                 5\n\n\
    Message type           Dropped                  Latency waiting in queue (micros)\n\
    MUTATION_REQ               41               0.00              0.00              0.00              0.00\n\
    PAXOS2_PREPARE_REQ          2               0.00              0.00              0.00              0.00\n\
    READ_REQ                    0               0.00              0.00              0.00              0.00\n";
const RING: &str = "Schema Version:1\nTokenRange: \n\
    \tTokenRange(start_token:10, end_token:20, endpoints:[10.0.0.1, 10.0.0.2], rpc_endpoints:[10.0.0.1], endpoint_details:[])\n\
    \tTokenRange(start_token:-30, end_token:-20, endpoints:[10.0.0.1, 10.0.0.2], rpc_endpoints:[10.0.0.1], endpoint_details:[])\n\
    \tTokenRange(start_token:20, end_token:-30, endpoints:[10.0.0.1, 10.0.0.2], rpc_endpoints:[10.0.0.1], endpoint_details:[])\n\
    \tTokenRange(start_token:0, end_token:10, endpoints:[10.0.0.2, 10.0.0.1], rpc_endpoints:[10.0.0.2], endpoint_details:[])\n";

/// Node whose nodetool prints what the test wrote.
struct Node {
    bin: TempDir,
}

impl Node {
    fn new() -> Node {
        let node = Node { bin: programs(&[("nodetool", NODETOOL)]) };
        for (name, text) in [
            ("status", STATUS),
            ("info", INFO),
            ("compactionstats", IDLE),
            (
                "getcompactionthroughput",
                "Current compaction throughput: 64 MiB/s\nCurrent compaction throughput (1 minute): 1.5 MiB/s\n",
            ),
            ("tpstats", POOLS),
            ("describering", RING),
            ("calls", ""),
        ] {
            node.set(name, text);
        }
        node
    }

    fn set(&self, name: &str, text: &str) {
        fs::write(self.bin.path().join(name), text).unwrap();
    }

    /// Returns the ranges that were repaired, as arguments of nodetool.
    fn repairs(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.bin.path().join("calls")).unwrap();
        calls.lines().filter_map(|line| line.split_once("repair ").map(|(_, words)| words.to_owned())).collect()
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        action(&format!("cassandra.{name}"), parameters).programs(self.bin.path())
    }
}

#[test]
fn the_ring_and_this_node_are_read() {
    let node = Node::new();
    let ended = node.run("node_status", json!({})).go().well();
    assert_eq!(ended.result["this_node"]["heap_used_mib"], 511.22);
    assert_eq!((&ended.result["nodes"][1]["rack"], &ended.result["nodes"][1]["owns"]), (&json!("rack2"), &json!("?")));
    node.set("status", &STATUS.replace("UN  10.0.0.2", "DN  10.0.0.2"));
    let ended = node.run("node_status", json!({})).go().refused(1, "");
    assert_eq!((&ended.result["down"], &ended.result["nodes"][0]["address"]), (&json!(1), &json!("10.0.0.2")));
    assert_eq!(ended.result["problems"], json!(["10.0.0.2 in eu is down, normal"]));
    // A node of which gossip knows no host id any more.
    let unknown = STATUS.replace(
        "UN  10.0.0.2   1,2 GiB     16      ?                 1d5ed9f4-7764-4dbd-bad8-43fddce94b7c",
        "DN  10.0.0.2   ?           16      ?                 null                                ",
    );
    node.set("status", &unknown);
    let ended = node.run("node_status", json!({})).go().refused(1, "");
    assert_eq!((&ended.result["nodes"][0]["host_id"], &ended.result["down"]), (&json!("null"), &json!(1)));
    node.set("status", "nothing\n");
    node.run("node_status", json!({})).go().error(1, "lists no node");
    let missing = json!({"nodetool": "/nonexistent/nodetool"});
    node.run("node_status", json!({})).config(missing).go().error(3, "no program /nonexistent/nodetool");
}

#[test]
fn access_to_jmx_is_configured_by_the_site() {
    let node = Node::new();
    let site = json!({"jmx_port": 7299, "jmx_user": "ops", "jmx_password_file": "/etc/cassandra/jmx"});
    node.run("compactions", json!({})).config(site).go().well();
    let calls = fs::read_to_string(node.bin.path().join("calls")).unwrap();
    assert!(calls.contains("-p 7299 -u ops -pwf /etc/cassandra/jmx compactionstats"), "{calls}");
}

#[test]
fn compactions_pools_and_dropped_messages_are_read() {
    let node = Node::new();
    node.set("compactionstats", BUSY);
    let ended = node.run("compactions", json!({"max_pending": 12})).go().well();
    assert_eq!(
        (&ended.result["pending"], &ended.result["throughput"]),
        (&json!(12), &json!("Current compaction throughput: 64 MiB/s"))
    );
    let running = &ended.result["running"];
    assert_eq!((&running[0]["percent"], &running[0]["total"]), (&json!(25.0), &json!(4096)));
    assert_eq!((&running[1]["kind"], &running[1]["table"]), (&json!("Anticompaction after repair"), &json!("items")));
    node.run("compactions", json!({"max_pending": 11})).go().refused(1, "");
    let ended = node.run("thread_pools", json!({})).go().refused(1, "");
    assert_eq!(
        (&ended.result["blocked"], &ended.result["dropped"]),
        (&json!(2), &json!({"MUTATION_REQ": 41, "PAXOS2_PREPARE_REQ": 2}))
    );
    assert_eq!(ended.result["pools"].as_array().unwrap().len(), 1);
    node.set("tpstats", "Pool\n");
    node.run("thread_pools", json!({})).go().error(1, "lists no thread pool");
    node.set("compactionstats", "pending: 12\n");
    node.run("compactions", json!({"max_pending": 11})).go().error(1, "does not say how many tasks are pending");
}

#[test]
fn a_ring_without_virtual_nodes_is_read() {
    let node = Node::new();
    node.set("status", ONE_TOKEN);
    let ended = node.run("node_status", json!({})).go().well();
    let first = &ended.result["nodes"][0];
    assert_eq!(
        (&first["tokens"], &first["owns"], &first["rack"], &first["host_id"]),
        (&json!(1), &json!("50.0%"), &json!("rack1"), &json!("8d5ed9f4-7764-4dbd-bad8-43fddce94b7c"))
    );
    assert_eq!(
        (&ended.result["nodes"][1]["owns"], &ended.result["nodes"][1]["load"]),
        (&json!("?"), &json!("1.2 GiB"))
    );
    let ended = node.run("repair", json!({"keyspace": "shop"})).noop().go().well();
    assert_eq!((&ended.result["address"], &ended.result["ranges"]), (&json!("10.0.0.1"), &json!(3)));
    node.set("status", &ONE_TOKEN.replace("UN  10.0.0.2", "DN  10.0.0.2"));
    assert_eq!(node.run("node_status", json!({})).go().refused(1, "").result["down"], 1);
    node.set("status", &ONE_TOKEN.replace("1.2 GiB     ?  ", "1.2 GiB        "));
    node.run("node_status", json!({})).go().error(1, "describes a node in an unknown form: UN  10.0.0.2");
}

#[test]
fn nothing_is_repaired_while_the_answers_are_not_understood() {
    let node = Node::new();
    let repair = || node.run("repair", json!({"keyspace": "shop"})).go();
    node.set("compactionstats", "no tasks\n");
    repair().error(1, "does not say how many tasks are pending");
    // A validation that has just begun has no size, so no progress; a later version may print yet another form.
    for (form, table) in [("shop orders 0 0 bytes n/a", "shop.orders"), ("shop.orders 25%", "?.?")] {
        let task = format!("5f0cc880-1111-11ee-8888-0123456789ab Validation {form}\n");
        node.set("compactionstats", &(IDLE.to_owned() + &task));
        assert_eq!(repair().refused(1, table).result["outcome"], "repair_running");
    }
    node.set("compactionstats", IDLE);
    let first: Vec<&str> = STATUS.lines().filter(|line| !line.contains("10.0.0.2")).collect();
    node.set("status", &first.join("\n"));
    assert_eq!(repair().refused(1, "replicas are down: 10.0.0.2").result["outcome"], "replicas_down");
    assert!(node.repairs().is_empty());
}

#[test]
fn only_the_ranges_of_the_piece_are_repaired() {
    let node = Node::new();
    let repair = |more: Value| {
        let mut parameters = json!({"keyspace": "shop"});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node.run("repair", parameters)
    };
    let planned = repair(json!({})).noop().go().well();
    assert_eq!((&planned.result["outcome"], &planned.result["ranges"]), (&json!("would_repair"), &json!(3)));
    assert!(node.repairs().is_empty(), "a dry run repairs nothing");
    let ended = repair(json!({"pieces": 2, "piece": 1, "table": "orders"})).go().well();
    assert_eq!((&ended.result["repaired"], &ended.result["primary_ranges"]), (&json!(1), &json!(3)));
    assert_eq!(node.repairs(), ["-full -st -30 -et -20 shop orders"]);
    repair(json!({"pieces": 2, "piece": 2})).go().well();
    assert_eq!(node.repairs()[1..], ["-full -st 10 -et 20 shop", "-full -st 20 -et -30 shop"]);
    repair(json!({"pieces": 2, "piece": 3})).go().error(2, "there is no piece 3 of 2");
}

#[test]
fn nothing_is_repaired_while_a_replica_is_down_or_the_node_is_busy() {
    let node = Node::new();
    let repair = |more: Value| {
        let mut parameters = json!({"keyspace": "shop"});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node.run("repair", parameters).go()
    };
    node.set("status", &STATUS.replace("UN  10.0.0.2", "DN  10.0.0.2"));
    assert_eq!(repair(json!({})).refused(1, "replicas are down: 10.0.0.2").result["outcome"], "replicas_down");
    node.set("status", STATUS);
    node.set("compactionstats", BUSY);
    assert_eq!(repair(json!({})).refused(1, "another repair runs").result["outcome"], "repair_running");
    node.set("compactionstats", &BUSY.replace("Anticompaction after repair", "Cleanup"));
    assert_eq!(repair(json!({"max_pending": 11})).refused(1, "more than 11").result["outcome"], "compactions_pending");
    node.set("compactionstats", IDLE);
    assert!(node.repairs().is_empty());
    node.set("broken", "");
    let ended = repair(json!({})).refused(1, "Repair job has failed");
    assert_eq!((&ended.result["outcome"], &ended.result["next_start_token"]), (&json!("range_failed"), &json!("-30")));
    node.set("info", &INFO.replace("8d5ed9f4", "00000000"));
    repair(json!({})).error(1, "the ring does not list this node");
}

#[test]
fn disk_use_counts_live_tables_and_snapshots_apart() {
    let top = TempDir::new().unwrap();
    let table = top.path().join("shop/orders-0123456789abcdef0123456789abcdef");
    let snapshot = table.join("snapshots/nightly");
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(table.join("nb-1-big-Data.db"), vec![1; 8192]).unwrap();
    fs::hard_link(table.join("nb-1-big-Data.db"), snapshot.join("nb-1-big-Data.db")).unwrap();
    fs::write(snapshot.join("nb-0-big-Data.db"), vec![1; 4096]).unwrap();
    std::os::unix::fs::symlink("/usr", top.path().join("link")).unwrap();
    let site = json!({"data_directories": [top.path()]});
    let ended = action("cassandra.disk_use", json!({"free_percent": 0})).config(site).go().well();
    let row = json!({"table": "shop.orders", "live_bytes": 8192, "snapshot_bytes": 12288, "sstables": 1});
    assert_eq!(ended.result["tables"], json!([row]));
    assert_eq!(ended.result["snapshot_own_bytes"], 4096);
}
