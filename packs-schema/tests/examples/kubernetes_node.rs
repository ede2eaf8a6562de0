//! Tests of `kubernetes_node` on a stand-in for the kubelet, and on recorded answers of crictl and systemctl.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action, skip};
use crate::service::programs;
use crate::stand_in::StandIn;

/// Unit states are in files beside the script; a restart copies `next` to the state of the unit.
const SYSTEMCTL: &str = "cd \"$(dirname \"$0\")\"; echo \"$*\" >>calls\n\
    unit=\"${@: -1}\"\n\
    case $1 in\n\
    is-system-running) echo running ;;\n\
    show) printf 'LoadState=loaded\\nActiveState=%s\\nSubState=x\\nMainPID=%s\\nNRestarts=0\\n' \"$(cat \"$unit\")\" \"$(cat pid)\"\n\
    [[ ! -e crashes ]] || echo $(($(cat pid) + 1)) >pid ;;\n\
    restart) cp next \"$unit\" ;;\n\
    esac\n";

/// Answers of crictl 1.30 on containerd, shortened. As with crictl itself, options stand before arguments.
const CRICTL: &str = r#"cd "$(dirname "$0")"; echo "$*" >>crictl.calls
shift 4
case "$*" in
"info -o json") cat info ;;
"pods -o json") echo '{"items":[{"id":"p1","metadata":{"name":"web-0","namespace":"shop"},"state":"SANDBOX_READY"},
  {"id":"p2","metadata":{"name":"job-1","namespace":"batch"},"state":"SANDBOX_NOTREADY"}]}' ;;
"ps -o json -a") [[ ! -e unknown ]] || { echo '{"items":[]}'; exit; }; echo '{"containers":[
  {"id":"c1aaaaaaaaaaaaaaaa","metadata":{"name":"web","attempt":7},"image":{"image":"sha256:aaaaaaaaaaaa"},"imageRef":"sha256:aaaaaaaaaaaa",
   "state":"CONTAINER_RUNNING","createdAt":"1700000000000000000","labels":{"io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop"}},
  {"id":"c2aaaaaaaaaaaaaaaa","metadata":{"name":"job"},"image":{"image":"sha256:bbbbbbbbbbbb"},"imageRef":"registry/job@sha256:1",
   "state":"CONTAINER_EXITED","createdAt":"1700000000000000000","labels":{"io.kubernetes.pod.name":"job-1","io.kubernetes.pod.namespace":"batch"}}]}' ;;
"inspect -o json c2aaaaaaaaaaa") echo '{"status":{"exitCode":137,"reason":"OOMKilled","message":""}}' ;;
"imagefsinfo -o json") echo '{"status":{"imageFilesystems":[{"usedBytes":{"value":"1048576"}}]}}' ;;
"images -o json") echo '{"images":['"$(cat more 2>/dev/null)"'
  {"id":"sha256:aaaaaaaaaaaa","repoTags":["web:1"],"size":"100"},
  {"id":"sha256:cccccccccccc","repoTags":["registry/old:1"],"size":"300"},
  {"id":"sha256:dddddddddddd","repoTags":["pause:3"],"size":"5","pinned":true},
  {"id":"sha256:ffffffffffff","repoTags":["registry.k8s.io/pause:3.9"],"size":"5"},
  {"id":"--all","repoTags":["evil:1"],"size":"5"},
  {"id":"sha256:eeeeeeeeeeee","repoDigests":["registry/job@sha256:1"],"size":"7"}]}' ;;
"rmi sha256:cccccccccccc"|"rmi sha256:999999999999") [[ ! -e stop ]] || { kill -TERM $PPID; sleep 5; } ;;
*) echo "unexpected: $*" >&2; exit 9 ;;
esac
"#;

/// Node with a kubelet that answers as the test wants.
struct Node {
    bin: TempDir,
    healthy: Arc<AtomicBool>,
    address: String,
}

impl Node {
    fn new() -> Node {
        let bin = programs(&[("systemctl", SYSTEMCTL), ("crictl", CRICTL)]);
        for (name, text) in [
            ("kubelet.service", "active"),
            ("containerd.service", "active"),
            ("next", "active"),
            ("calls", ""),
            ("pid", "7"),
            (
                "info",
                r#"{"status":{"conditions":[{"type":"RuntimeReady","status":true},{"type":"NetworkReady","status":true}]}}"#,
            ),
        ] {
            std::fs::write(bin.path().join(name), text).unwrap();
        }
        let healthy = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&healthy);
        let (_, address) = StandIn::tcp(move |request| match (request.line.as_str(), state.load(Ordering::SeqCst)) {
            ("GET /healthz", true) => (200, b"ok".to_vec()),
            ("GET /healthz", false) => (500, b"[-]syncloop\x1b failed".to_vec()),
            _ => (404, Vec::new()),
        });
        Node { bin, healthy, address }
    }

    fn set(&self, name: &str, text: &str) {
        std::fs::write(self.bin.path().join(name), text).unwrap();
    }

    fn calls(&self, name: &str) -> String {
        std::fs::read_to_string(self.bin.path().join(name)).unwrap_or_default()
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        let here = self.bin.path();
        action(&format!("kubernetes_node.{name}"), parameters).programs(here).config(json!({
            "kubelet_health": format!("{}/healthz", self.address), "kubelet_directory": here, "runtime_directory": here,
            "pod_log_directory": here, "certificate": "", "disk_free_percent": 1, "inodes_free_percent": 1, "memory_free_mib": 1,
        }))
    }
}

fn check<'a>(result: &'a Value, name: &str) -> &'a Value {
    let checks = result["checks"].as_array().unwrap();
    checks.iter().find(|c| c["check"] == name).unwrap_or_else(|| panic!("no {name} in {result:#}"))
}

#[test]
fn each_reason_for_an_unhealthy_node_is_named() {
    let node = Node::new();
    let health = || node.run("node_health", json!({})).go();
    assert_eq!(health().well().result["healthy"], true);
    node.healthy.store(false, Ordering::SeqCst);
    let ended = health().refused(1, "");
    assert_eq!(check(&ended.result, "kubelet")["detail"], "HTTP status 500: [-]syncloop\\x1b failed");
    node.healthy.store(true, Ordering::SeqCst);
    node.set("containerd.service", "failed");
    node.set(
        "info",
        r#"{"status":{"conditions":[{"type":"RuntimeReady","status":true},{"type":"NetworkReady","status":false,"reason":"NoCni","message":"none"}]}}"#,
    );
    let ended = health().refused(1, "");
    assert_eq!(check(&ended.result, "runtime")["detail"], "NetworkReady: NoCni none");
    assert!(check(&ended.result, "runtime_unit")["detail"].as_str().unwrap().contains("is failed"));
    assert_eq!(check(&ended.result, "kubelet_unit")["ok"], true);
    // The kubelet looks at two conditions only, and needs both.
    node.set("containerd.service", "active");
    let deprecated =
        r#"{"type":"NetworkReady","status":true},{"type":"ContainerdHasNoDeprecationWarnings","status":false}"#;
    node.set(
        "info",
        &format!(r#"{{"status":{{"conditions":[{{"type":"RuntimeReady","status":true}},{deprecated}]}}}}"#),
    );
    assert_eq!(health().well().result["healthy"], true);
    node.set("info", &format!(r#"{{"status":{{"conditions":[{deprecated}]}}}}"#));
    let ended = health().refused(1, "");
    assert_eq!(check(&ended.result, "runtime")["detail"], "RuntimeReady: crictl info does not name it ");
    let full = json!({"kubelet_health": format!("{}/healthz", node.address), "kubelet_directory": "/", "memory_free_mib": 1_048_576});
    let ended = node.run("node_health", json!({})).config(full).go().refused(1, "");
    assert_eq!(check(&ended.result, "memory")["ok"], false);
}

#[test]
fn the_socket_of_the_runtime_is_tried_without_crictl() {
    let node = Node::new();
    let bare = programs(&[("systemctl", SYSTEMCTL)]);
    for name in ["kubelet.service", "containerd.service"] {
        std::fs::write(bare.path().join(name), "active").unwrap();
    }
    let socket = bare.path().join("socket");
    let health = |path: &Path| {
        let site = json!({"kubelet_health": format!("{}/healthz", node.address), "runtime_socket": path});
        action("kubernetes_node.node_health", json!({})).programs(bare.path()).config(site).go()
    };
    if std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|d| d.join("crictl").exists()) {
        return skip("the_socket_of_the_runtime_is_tried_without_crictl", "this host has crictl");
    }
    assert_eq!(check(&health(&socket).result, "runtime")["ok"], false);
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(check(&health(&socket).result, "runtime")["ok"], true);
}

#[test]
fn pods_and_containers_are_read_from_the_runtime() {
    let node = Node::new();
    let ended = node.run("pods", json!({})).go().well();
    assert_eq!(ended.result["pods"], json!({"ready": 1, "notready": 1}));
    assert_eq!(
        (&ended.result["restarted"][0]["pod"], &ended.result["restarted"][0]["attempt"]),
        (&json!("shop/web-0"), &json!(7))
    );
    let failed = &ended.result["failed"][0];
    assert_eq!((&failed["exit_code"], &failed["reason"]), (&json!(137), &json!("OOMKilled")));
    assert_eq!(ended.result["image_bytes"], 1_048_576);
    let ended = node.run("pods", json!({"namespace": "shop"})).go().well();
    assert_eq!((&ended.result["pods"], &ended.result["failed"]), (&json!({"ready": 1}), &json!([])));
}

#[test]
fn only_images_that_no_container_uses_are_removed() {
    let node = Node::new();
    let planned = node.run("prune_images", json!({})).noop().go().well();
    assert_eq!((&planned.result["names"], &planned.result["bytes"]), (&json!(["registry/old:1"]), &json!(300)));
    assert!(!node.calls("crictl.calls").contains("rmi"), "a dry run removes nothing");
    assert_eq!(node.run("prune_images", json!({})).go().well().result["images"], 1);
    assert!(node.calls("crictl.calls").contains("rmi sha256:cccccccccccc"));
    node.set("more", r#"{"id":"sha256:999999999999","repoTags":["registry/other:1"],"size":"900"},"#);
    node.set("stop", "");
    node.set("crictl.calls", "");
    let ended = node.run("prune_images", json!({})).go().refused(1, "");
    assert!(ended.result["problems"][0].as_str().unwrap().contains("stopped by SIGTERM"), "{}", ended.result);
    assert_eq!(node.calls("crictl.calls").matches("rmi").count(), 1, "what is stopped removes nothing more");
    node.set("unknown", "");
    node.run("prune_images", json!({})).go().error(1, "crictl ps lists no containers");
}

#[test]
fn the_kubelet_is_restarted_if_it_is_unhealthy_and_its_runtime_runs() {
    let node = Node::new();
    let restart = || node.run("restart_kubelet", json!({"wait": 1, "settle": 0}));
    assert_eq!(restart().go().well().result["outcome"], "healthy_already");
    node.set("kubelet.service", "failed");
    node.set("containerd.service", "failed");
    assert_eq!(restart().go().refused(1, "cannot become healthy without it").result["outcome"], "runtime_down");
    node.set("containerd.service", "active");
    assert_eq!(restart().noop().go().well().result["outcome"], "would_restart");
    assert!(!node.calls("calls").contains("restart"), "none of these restarted it");
    let ended = restart().go().well();
    assert_eq!((&ended.result["outcome"], &ended.result["main_pid"]), (&json!("restarted"), &json!(7)));
    assert!(node.calls("calls").contains("restart -- kubelet.service"));
    node.set("crashes", "");
    let again = node.run("restart_kubelet", json!({"wait": 1, "settle": 0, "only_if_unhealthy": false}));
    assert_eq!(again.go().refused(1, "systemd started it again").result["outcome"], "not_healthy");
    node.healthy.store(false, Ordering::SeqCst);
    assert_eq!(restart().go().refused(1, "HTTP status 500").result["outcome"], "not_healthy");
}

#[test]
fn disk_use_is_counted_by_pod() {
    let top = TempDir::new().unwrap();
    let logs = top.path().join("logs/shop_web-0_uid-1/web");
    let volume = top.path().join("kubelet/pods/uid-1/volumes/kubernetes.io~empty-dir/cache");
    let orphan = top.path().join("kubelet/pods/uid-2/volumes");
    for directory in [&logs, &volume, &orphan] {
        std::fs::create_dir_all(directory).unwrap();
    }
    std::fs::write(logs.join("0.log"), vec![1; 8192]).unwrap();
    std::fs::write(volume.join("a"), vec![1; 16384]).unwrap();
    std::fs::hard_link(volume.join("a"), volume.join("b")).unwrap();
    std::os::unix::fs::symlink("/usr", volume.join("link")).unwrap();
    std::fs::write(orphan.join("c"), vec![1; 4096]).unwrap();
    let site = json!({"pod_log_directory": top.path().join("logs"), "kubelet_directory": top.path().join("kubelet")});
    let ended = action("kubernetes_node.pod_disk_use", json!({})).config(site).go().well();
    let pods = &ended.result["pods"];
    assert_eq!(
        (&pods[0]["pod"], &pods[0]["log_bytes"], &pods[0]["volume_bytes"]),
        (&json!("shop/web-0"), &json!(8192), &json!(16384))
    );
    assert_eq!(
        (&pods[1]["pod"], &pods[1]["uid"], &pods[1]["volume_bytes"]),
        (&json!("?"), &json!("uid-2"), &json!(4096))
    );
    let none = json!({"pod_log_directory": "/nonexistent", "kubelet_directory": "/nonexistent"});
    action("kubernetes_node.pod_disk_use", json!({})).config(none).go().error(3, "is this a node of Kubernetes");
}
