//! Tests of `kafka` on recorded output of the tools of Kafka 3.9, and on generated data directories.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action};
use crate::python::altered;
use crate::service::{programs, script};

/// Each kind of trouble is listed from a file of its name, if the test wrote one.
const TOPICS: &str = "cd \"$(dirname \"$0\")\"; echo \"$*\" >>calls\n\
    [[ -e stop ]] && { kill -TERM $PPID; sleep 5; }\n\
    [[ -e down ]] && { echo 'Timed out waiting for a node assignment' >&2; exit 1; }\n\
    for word in \"$@\"; do [[ -e list$word ]] && cat \"list$word\"; done; true\n";
const API_VERSIONS: &str = "cd \"$(dirname \"$0\")\"; [[ -e down ]] && { echo 'Connection refused' >&2; exit 1; }\n\
    [[ -e absent ]] && printf 'a.example:9092 (id: 1 rack: null isFenced: true) -> (\\n)\\n' ||\n\
    printf 'a.example:9092 (id: 1 rack: eu-west-1a isFenced: false) -> (\\n\\tProduce(0): 0 to 11 [usable: 11],\\n)\\n'\n\
    printf 'b.example:9092 (id: 2 rack: null isFenced: false) -> (\\n)\\n'\n";
const QUORUM: &str = "cat <<'END'\nClusterId:              fMCL8kv1SWm87L_Md-I2hg\nLeaderId:               3002\nLeaderEpoch:            2\n\
    HighWatermark:          10\nMaxFollowerLag:         4\nMaxFollowerLagTimeMs:   350\nCurrentVoters:          [3000,3001,3002]\nEND\n";
const GROUPS: &str = "cat <<'END'\n\nGROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID\n\
    billing         orders          0          100             150             50              consumer-1-aa   /10.0.0.1       consumer-1\n\
    billing         orders          1          90              100             10              consumer-1-aa   /10.0.0.1       consumer-1\n\
    billing         orders          2          -               20              -               -               -               -\n\
    audit           orders          0          150             150             0               -               -               -\n\
    nightly report  orders          0          0               40              40              -               -               -\n\
    END\n";
const SYSTEMCTL: &str = "cd \"$(dirname \"$0\")\"; echo \"systemctl $*\" >>calls\n\
    case $1 in\n\
    is-system-running) echo running ;;\n\
    show) printf 'LoadState=loaded\\nActiveState=%s\\nSubState=x\\nMainPID=%s\\nNRestarts=0\\n' \"$(cat unit)\" \"$(cat pid)\" ;;\n\
    restart) rm -f down; cp next unit; echo $(($(cat pid) + 1)) >pid; mv after list--under-replicated-partitions 2>/dev/null || rm -f list--*; true ;;\n\
    esac\n";
const UNDER_REPLICATED: &str =
    "\tTopic: orders\tPartition: 3\tLeader: 1\tReplicas: 1,2,3\tIsr: 1,3\tElr: \tLastKnownElr: \n";

/// Broker 1 with its tools and one data directory.
struct Broker {
    bin: TempDir,
}

impl Broker {
    fn new() -> Broker {
        let bin = programs(&[
            ("kafka-topics.sh", TOPICS),
            ("kafka-broker-api-versions.sh", API_VERSIONS),
            ("kafka-metadata-quorum.sh", QUORUM),
            ("kafka-consumer-groups.sh", GROUPS),
            ("systemctl", SYSTEMCTL),
        ]);
        let broker = Broker { bin };
        broker.set("unit", "active");
        broker.set("next", "active");
        broker.set("pid", "7");
        broker.set("calls", "");
        broker.set("meta.properties", "#\nversion=1\nnode.id=1\ncluster.id=x\n");
        broker
    }

    fn set(&self, name: &str, text: &str) {
        fs::write(self.bin.path().join(name), text).unwrap();
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.bin.path().join("calls")).unwrap()
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        let here = self.bin.path();
        let site =
            json!({"bin_directory": here, "data_directories": [here], "command_config": "/etc/kafka/client.conf"});
        action(&format!("kafka.{name}"), parameters).programs(here).config(site)
    }
}

#[test]
fn partitions_without_all_replicas_are_listed_with_the_missing_brokers() {
    let broker = Broker::new();
    let ended = broker.run("partitions", json!({})).go().well();
    assert_eq!(ended.result["counts"], json!({"unavailable": 0, "under_min_isr": 0, "under_replicated": 0}));
    assert!(
        broker.calls().contains("--bootstrap-server localhost:9092 --command-config /etc/kafka/client.conf --describe")
    );
    broker.set("list--under-replicated-partitions", UNDER_REPLICATED);
    broker.set("list--unavailable-partitions", "\tTopic: dead\tPartition: 0\tLeader: none\tReplicas: 2\tIsr: \n");
    let ended = broker.run("partitions", json!({})).go().refused(1, "");
    assert_eq!(ended.result["missing_brokers"], json!({"2": 1}));
    let rows = &ended.result["partitions"];
    assert_eq!((&rows[0]["topic"], &rows[0]["leader"], &rows[0]["isr"]), (&json!("dead"), &json!(-1), &json!([])));
    assert_eq!((&rows[1]["partition"], &rows[1]["isr"]), (&json!(3), &json!([1, 3])));
    let none = json!({"bin_directory": "/nonexistent"});
    action("kafka.partitions", json!({})).config(none).go().error(3, "set bin_directory");
}

#[test]
fn a_broker_that_does_not_answer_is_a_problem() {
    let broker = Broker::new();
    let ended = broker.run("broker_health", json!({"free_percent": 0})).go().well();
    assert_eq!((&ended.result["broker"], &ended.result["brokers"]), (&json!(1), &json!([1, 2])));
    assert_eq!(ended.result["quorum"], json!({"leader": 3002, "epoch": 2, "follower_lag": 4, "follower_lag_ms": 350}));
    broker.set("absent", "");
    let ended = broker.run("broker_health", json!({"free_percent": 0})).go().refused(1, "");
    assert_eq!(
        (&ended.result["answers"], &ended.result["brokers"]),
        (&json!(false), &json!([2])),
        "another one answers"
    );
    fs::remove_file(broker.bin.path().join("absent")).unwrap();
    broker.set("meta.properties", "broker.id=7\n");
    let ended = broker.run("broker_health", json!({"free_percent": 0})).go().refused(1, "");
    assert!(ended.result["problems"][0].as_str().unwrap().contains("does not list broker 7"), "{}", ended.result);
    broker.set("down", "");
    broker.set("unit", "failed");
    let ended = broker.run("broker_health", json!({"free_percent": 0})).go().refused(1, "");
    let problems = ended.result["problems"].as_array().unwrap();
    assert!(
        problems[0] == "kafka.service is failed" && problems[1].as_str().unwrap().contains("Connection refused"),
        "{problems:?}"
    );
}

#[test]
fn lag_is_summed_by_group_and_topic() {
    let broker = Broker::new();
    let ended = broker.run("consumer_lag", json!({})).go().well();
    let first = json!({"group": "billing", "topic": "orders", "partitions": 3, "lag": 60, "largest_lag": 50, "members": 1, "unknown": 1});
    assert_eq!((&ended.result["rows"][0], &ended.result["groups"]), (&first, &json!(3)));
    let second = &ended.result["rows"][1];
    assert_eq!((&second["group"], &second["lag"]), (&json!("nightly report"), &json!(40)), "a group with a space");
    assert_eq!(broker.run("consumer_lag", json!({"max_lag": 60})).go().well().result["exceeded"], 0);
    assert_eq!(broker.run("consumer_lag", json!({"max_lag": 59})).go().refused(1, "").result["exceeded"], 1);
    script(
        broker.bin.path(),
        "kafka-consumer-groups.sh",
        "echo; echo \"Error: Consumer group '${@: -1}' does not exist.\"\n",
    );
    let unknown = broker.run("consumer_lag", json!({"group": "biling", "max_lag": 60}));
    unknown.go().error(2, "no partition of the group biling is known: Error: Consumer group 'biling' does not exist.");
}

#[test]
fn disk_use_is_counted_by_topic() {
    let top = TempDir::new().unwrap();
    for (partition, size) in [
        ("my-topic-0", 8192),
        ("my-topic-11", 4096),
        ("gone-1.0123abcd-delete", 16384),
        ("moved-0.0123abcd-future", 4096),
    ] {
        fs::create_dir(top.path().join(partition)).unwrap();
        fs::write(top.path().join(partition).join("0000.log"), vec![1; size]).unwrap();
    }
    fs::write(top.path().join("meta.properties"), "node.id=1\n").unwrap();
    let ended = action("kafka.disk_use", json!({})).config(json!({"data_directories": [top.path()]})).go().well();
    let first = json!({"topic": "my-topic", "partitions": 2, "bytes": 12288, "segments": 2});
    assert_eq!(ended.result["topics"][0], first);
    assert_eq!((&ended.result["being_deleted_bytes"], &ended.result["being_moved"]), (&json!(16384), &json!(1)));
}

#[test]
fn a_broker_is_restarted_only_in_a_cluster_that_is_in_sync() {
    let broker = Broker::new();
    let restart = |more: Value| {
        let mut parameters = json!({"broker": 1, "wait": 10});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        broker.run("restart_broker", parameters)
    };
    restart(json!({"broker": 2})).go().error(2, "this host has broker 1, not 2");
    broker.set("list--under-replicated-partitions", UNDER_REPLICATED);
    assert_eq!(restart(json!({})).go().refused(1, "is not in sync").result["outcome"], "not_in_sync");
    fs::remove_file(broker.bin.path().join("list--under-replicated-partitions")).unwrap();
    broker.set("list--at-min-isr-partitions", "\tTopic: single\tPartition: 0\tLeader: 1\tReplicas: 1\tIsr: 1\n");
    assert_eq!(restart(json!({})).go().refused(1, "single-0").result["outcome"], "at_min_isr");
    let planned = restart(json!({"allow_at_min_isr": true})).noop().go().well();
    assert_eq!(
        (&planned.result["outcome"], &planned.result["before"]["at_min_isr"]),
        (&json!("would_restart"), &json!(1))
    );
    assert!(!broker.calls().contains("systemctl restart"), "none of these restarted it");
    assert_eq!(restart(json!({"allow_at_min_isr": true})).go().well().result["outcome"], "restarted");
    assert!(broker.calls().contains("systemctl restart -- kafka.service"));
}

#[test]
fn a_restart_after_which_the_cluster_is_not_in_sync_fails() {
    let broker = Broker::new();
    broker.set("after", UNDER_REPLICATED);
    let ended = broker.run("restart_broker", json!({"broker": 1, "wait": 10})).go().refused(1, "1 under replicated");
    assert_eq!(
        (&ended.result["outcome"], &ended.result["after"]["under_replicated"]),
        (&json!("still_not_in_sync"), &json!(1))
    );
    let broker = Broker::new();
    broker.set("next", "failed");
    let ended = broker.run("restart_broker", json!({"broker": 1, "wait": 10})).go().refused(1, "is failed after");
    assert_eq!(ended.result["outcome"], "not_active");
    // As of a unit that says when it is ready.
    let text = SYSTEMCTL.replace("list--*; true ;;", "list--*; exit 1 ;;");
    script(broker.bin.path(), "systemctl", &text);
    broker.set("unit", "active");
    let ended = broker.run("restart_broker", json!({"broker": 1, "wait": 10})).go().refused(1, "is failed after");
    assert_eq!(ended.result["outcome"], "not_active");
    // The process is still ending, longer than systemctl waits.
    broker.set("unit", "active");
    broker.set("next", "deactivating");
    let ended = broker.run("restart_broker", json!({"broker": 1, "wait": 10})).go().refused(1, "is deactivating");
    assert_eq!(ended.result["outcome"], "no_answer");
    // The broker was not restarted at all.
    broker.set("unit", "active");
    script(broker.bin.path(), "systemctl", &SYSTEMCTL.replace("rm -f down; ", "exit 1; "));
    let ended = broker.run("restart_broker", json!({"broker": 1, "wait": 10})).go().refused(1, "it was not restarted");
    assert_eq!(ended.result["outcome"], "no_answer");
}

#[test]
fn a_restart_is_done_only_when_this_broker_answers() {
    let restart = |broker: &Broker| broker.run("restart_broker", json!({"broker": 1, "wait": 10})).go();
    // Other brokers answer, and the ISR still has the replicas of this one.
    let broker = Broker::new();
    broker.set("absent", "");
    let ended = restart(&broker).refused(1, "the cluster does not list broker 1");
    assert_eq!((&ended.result["outcome"], &ended.result["after"]), (&json!("no_answer"), &json!({})));
    let broker = Broker::new();
    broker.set("next", "activating");
    assert_eq!(restart(&broker).refused(1, "kafka.service is activating").result["outcome"], "no_answer");
}

#[test]
fn a_partition_in_an_unknown_form_stops_a_restart() {
    let broker = Broker::new();
    broker.set("list--under-replicated-partitions", "\tTopic: orders\tPartition: 3\tReplicas: 1,2,3\tIsr: 1,3\n");
    broker.run("restart_broker", json!({"broker": 1})).go().error(1, "in an unknown form: Topic: orders");
    assert!(!broker.calls().contains("systemctl restart"));
}

#[test]
fn root_runs_the_tools_as_the_owner_of_the_data() {
    let broker = Broker::new();
    // An account without a name, and a root that cannot change its own.
    let root = "import os\nstat = os.lstat\nclass Owned:\n\
        \x20 def __init__(self, info):\n    self.info = info\n\
        \x20 def __getattr__(self, name):\n    return 4242 if name in ('st_uid', 'st_gid') else getattr(self.info, name)\n\
        os.lstat, os.geteuid = lambda *path, **more: Owned(stat(*path, **more)), lambda: 0";
    let bin = altered(root);
    let setpriv = "echo \"setpriv $*\" >>\"${0%/*}/calls\"\nwhile [[ $1 != -- ]]; do shift; done\nshift; exec \"$@\"\n";
    script(bin.path(), "setpriv", setpriv);
    let here = broker.bin.path().display();
    script(bin.path(), "systemctl", &format!("exec '{here}/systemctl' \"$@\"\n"));
    broker.run("restart_broker", json!({"broker": 1, "wait": 10})).programs(bin.path()).noop().go().well();
    let calls = fs::read_to_string(bin.path().join("calls")).unwrap();
    let start =
        format!("setpriv --reuid 4242 --regid 4242 --clear-groups -- {here}/kafka-topics.sh --bootstrap-server ");
    assert!(calls.lines().count() == 4 && calls.lines().all(|line| line.starts_with(&start)), "{calls}");
}

#[test]
fn a_broker_that_is_down_is_restarted_although_its_cluster_does_not_answer() {
    let broker = Broker::new();
    broker.set("down", "");
    let restart = || broker.run("restart_broker", json!({"broker": 1, "wait": 10}));
    restart().go().error(1, "Timed out waiting");
    broker.set("unit", "failed");
    assert_eq!(restart().noop().go().well().result["outcome"], "would_restart");
    assert!(!broker.calls().contains("systemctl restart"), "neither restarted it");
    let ended = restart().go().well();
    assert_eq!((&ended.result["outcome"], &ended.result["before"]), (&json!("restarted"), &json!({})));
    assert!(ended.stdout.contains("Timed out waiting"), "{}", ended.stdout);
    broker.set("unit", "failed");
    broker.set("calls", "");
    broker.set("stop", "");
    restart().go().error(143, "stopped by SIGTERM");
    assert!(!broker.calls().contains("systemctl restart"), "what is stopped restarts nothing");
    restart().config(json!({"data_directories": [broker.bin.path()]})).go().error(3, "set bin_directory");
}

#[test]
fn a_broker_that_is_down_is_restarted_although_partitions_lack_it() {
    // Its tools ask other brokers as well, which answer.
    let broker = Broker::new();
    broker.set("unit", "failed");
    broker
        .set("list--under-replicated-partitions", "\tTopic: orders\tPartition: 3\tLeader: 2\tReplicas: 1,2\tIsr: 2\n");
    let ended = broker.run("restart_broker", json!({"broker": 1, "wait": 10})).go().well();
    assert_eq!(
        (&ended.result["outcome"], &ended.result["before"]["under_replicated"]),
        (&json!("restarted"), &json!(1))
    );
}
