//! Tests of `docker` on a stand-in for the daemon, with answers as Docker 20 to 29 give them.

use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action, directory, python};
use crate::stand_in::{Request, StandIn};

const ID: &str = "4f5b2d8e9a0c4f5b2d8e9a0c4f5b2d8e9a0c4f5b2d8e9a0c4f5b2d8e9a0c4f5b";

/// Daemon with one container, whose state the test changes.
struct Daemon {
    stand_in: StandIn,
    container: Arc<Mutex<Value>>,
    /// State after a restart.
    after: Arc<Mutex<Value>>,
    /// Latest version of the API that it speaks.
    version: Arc<Mutex<&'static str>>,
    top: TempDir,
}

fn running() -> Value {
    json!({"Status": "running", "Running": true, "ExitCode": 0, "OOMKilled": false,
        "StartedAt": "2026-11-29T10:00:00.123456789Z", "FinishedAt": "0001-01-01T00:00:00Z"})
}

fn usage() -> Value {
    json!({
        "LayersSize": 3000,
        "Images": [
            {"Id": "sha256:aaaaaaaaaaaaaaaa", "RepoTags": ["app:1"], "Size": 2000, "SharedSize": 500, "Containers": 1, "Created": 1},
            {"Id": "sha256:bbbbbbbbbbbbbbbb", "RepoTags": ["<none>:<none>"], "Size": 1500, "SharedSize": 500, "Containers": 0, "Created": 1},
            {"Id": "sha256:cccccccccccccccc", "RepoTags": ["old:1"], "Size": 900, "SharedSize": 0, "Containers": 0, "Created": 1},
            {"Id": "sha256:dddddddddddddddd", "RepoTags": null, "Size": 800, "SharedSize": 0, "Containers": 0, "Created": 1,
             "Labels": {"bolt.keep": ""}},
        ],
        "Containers": [
            {"Id": ID, "Names": ["/web"], "State": "running", "SizeRw": 70, "Created": 1},
            {"Id": "e0", "Names": ["/done\u{1b}"], "State": "exited", "SizeRw": 30, "Created": 1},
            {"Id": "e1", "Names": ["/recent"], "State": "exited", "SizeRw": 40, "Created": 32_503_680_000_u64},
        ],
        "Volumes": [{"Name": "data", "UsageData": {"Size": 5000, "RefCount": 0}}],
        "BuildCache": [{"ID": "cache1", "Size": 600, "InUse": false, "Shared": false, "LastUsedAt": "2020-01-01T00:00:00Z"}],
    })
}

/// Frame of a log: stream, length, text.
fn frame(stream: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
}

impl Daemon {
    fn new() -> Daemon {
        let top = TempDir::new().unwrap();
        let container = Arc::new(Mutex::new(json!({"Id": ID, "Name": "/web", "RestartCount": 0,
            "Config": {"Image": "app:1", "Tty": false}, "State": running()})));
        let after = Arc::new(Mutex::new(running()));
        let version = Arc::new(Mutex::new("1.44"));
        let (current, next, latest) = (Arc::clone(&container), Arc::clone(&after), Arc::clone(&version));
        let answer = move |request: &Request| {
            let (method, target) = request.line.split_once(' ').unwrap();
            let path = target.split('?').next().unwrap();
            let json = |value: Value| (200, value.to_string().into_bytes());
            if path == "/version" {
                return json(json!({"ApiVersion": *latest.lock().unwrap(), "MinAPIVersion": "1.24"}));
            }
            // A path without a version means the latest; of an earlier one, Docker 29 gives what Docker 28 gave.
            let (minor, path) = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
                Some((minor, rest)) => (minor.parse().unwrap(), format!("/{rest}")),
                None => (u32::MAX, path.to_owned()),
            };
            match (method, path.as_str()) {
                ("GET", "/info") => json(json!({"DockerRootDir": "/"})),
                ("GET", "/system/df") if minor >= 53 => json(json!({"ImageUsage": {"TotalCount": 4}})),
                ("GET", "/system/df") => json(usage()),
                ("GET", "/images/json") => json(json!([{"Id": "sha256:aaaa"}, {"Id": "sha256:bbbb"}])),
                ("GET", "/containers/json") => json(json!([{"Id": ID, "Names": ["/web"], "State": "running"}])),
                ("GET", "/networks") => json(json!([
                    {"Name": "bridge", "Created": "2020-01-01T00:00:00.1Z"},
                    {"Name": "old", "Created": "2020-01-01T00:00:00.123456789+01:00"},
                    {"Name": "kept", "Created": "2020-01-01T00:00:00-07:00", "Labels": {"bolt.keep": ""}},
                    {"Name": "recent", "Created": "2999-01-01T00:00:00+01:00"},
                ])),
                ("GET", path) if path.ends_with("/logs") && target.contains("tail=4000") => {
                    let long = |n: usize| frame(1, &format!("2026 {n} {}\n", "x".repeat(600)));
                    (200, (1..=4000).flat_map(long).collect())
                }
                ("GET", path) if path.ends_with("/logs") => {
                    (200, [frame(1, "2026 one\n"), frame(2, "2026 t\u{1b}[31mwo\n")].concat())
                }
                ("GET", path) if path == "/containers/web/json" || path == format!("/containers/{ID}/json") => {
                    let known = current.lock().unwrap().clone();
                    if known["Hangs"] == true {
                        std::thread::sleep(std::time::Duration::from_secs(60));
                    }
                    match known["Refused"].as_u64() {
                        Some(status) => (u16::try_from(status).unwrap(), br#"{"message":"refused"}"#.to_vec()),
                        None => json(known),
                    }
                }
                ("POST", path) if path == format!("/containers/{ID}/restart") => {
                    let (mut known, next) = (current.lock().unwrap(), next.lock().unwrap());
                    // A restart by request begins to count anew.
                    known["RestartCount"] = next.get("Restarts").cloned().unwrap_or(json!(0));
                    known["State"] = next.clone();
                    (204, Vec::new())
                }
                ("POST", "/containers/prune") => json(json!({"ContainersDeleted": ["e0"], "SpaceReclaimed": 30})),
                ("POST", "/images/prune") => json(
                    json!({"ImagesDeleted": [{"Untagged": "x"}, {"Deleted": "sha256:bbbb"}, {"Deleted": "sha256:1a7e"}, {"Deleted": "sha256:2b8f"}],
                        "SpaceReclaimed": 1000}),
                ),
                ("POST", "/build/prune") => (500, br#"{"message":"no builder"}"#.to_vec()),
                _ => (404, br#"{"message":"No such container: x"}"#.to_vec()),
            }
        };
        let stand_in = StandIn::unix(&top.path().join("socket"), answer);
        Daemon { stand_in, container, after, version, top }
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        let site = json!({"socket": self.top.path().join("socket"), "restart_allow": ["web*"]});
        action(&format!("docker.{name}"), parameters).config(site)
    }
}

#[test]
fn space_is_summed_by_kind_with_shared_layers_once() {
    let ended = Daemon::new().run("space", json!({})).go().well();
    let kinds = &ended.result["kinds"];
    assert_eq!(kinds["images"], json!({"count": 4, "bytes": 3000, "reclaimable_bytes": 1000 + 900 + 800}));
    assert_eq!(kinds["containers"], json!({"count": 3, "bytes": 140, "reclaimable_bytes": 70}));
    assert_eq!((&kinds["volumes"]["reclaimable_bytes"], &kinds["build_cache"]["bytes"]), (&json!(5000), &json!(600)));
    assert_eq!(
        ended.result["images"][0],
        json!({"name": "app:1", "id": "aaaaaaaaaaaa", "bytes": 2000, "in_use": true})
    );
    let percent = ended.result["file_system_used_percent"].as_i64().unwrap();
    assert!((0..=100).contains(&percent));
}

#[test]
fn prune_asks_only_for_what_is_old_and_not_kept() {
    let daemon = Daemon::new();
    let planned = daemon.run("prune", json!({"what": ["containers", "images", "build_cache"]})).noop().go().well();
    assert_eq!(planned.result["removed"], json!({"containers": 1, "images": 1, "build_cache": 1}));
    assert_eq!(planned.result["names"][0], "containers: done\\x1b");
    assert_eq!(planned.result["reclaimed_bytes"], 30 + 1000 + 600);
    assert!(daemon.stand_in.requests("POST").is_empty(), "a dry run removes nothing");
    let all = daemon.run("prune", json!({"what": ["all_images"]})).noop().go().well();
    assert_eq!(all.result["removed"], json!({"all_images": 2}), "what has the label stays");
    let done = daemon.run("prune", json!({"older_than_hours": 48})).go().refused(1, "");
    assert_eq!(done.result["removed"], json!({"containers": 1, "images": 1}), "layers are no images");
    assert!(done.result["problems"][0].as_str().unwrap().contains("no builder"), "{}", done.result);
    let asked = daemon.stand_in.requests("POST");
    assert_eq!(asked.len(), 3);
    // {"until": ["48h"], "label!": ["bolt.keep"], "dangling": ["true"]}
    let images = &asked[1].line;
    for part in ["%2248h%22", "%22label%21%22%3A+%5B%22bolt.keep%22%5D", "%22dangling%22%3A+%5B%22true%22%5D"] {
        assert!(images.starts_with("POST /v1.44/images/prune?filters=") && images.contains(part), "{images}");
    }
    assert!(asked.iter().all(|request| !request.line.contains("/volumes")));
}

#[test]
fn the_api_is_asked_in_a_version_whose_answers_are_known() {
    let daemon = Daemon::new();
    for (latest, asked) in [("1.41", "/v1.41/"), ("1.51", "/v1.51/"), ("1.56", "/v1.51/")] {
        *daemon.version.lock().unwrap() = latest;
        assert_eq!(daemon.run("space", json!({})).go().well().result["kinds"]["images"]["count"], 4, "{latest}");
        let planned = daemon.run("prune", json!({"what": ["all_images"]})).noop().go().well();
        assert_eq!(planned.result["removed"], json!({"all_images": 2}), "{latest}");
        assert!(!daemon.stand_in.requests(&format!("GET {asked}system/df")).is_empty(), "{latest}");
    }
    *daemon.version.lock().unwrap() = "";
    daemon.run("space", json!({})).go().error(1, "does not say which version");
}

#[test]
fn old_networks_are_found_whatever_the_zone_of_the_daemon() {
    let daemon = Daemon::new();
    let planned = daemon.run("prune", json!({"what": ["networks"]})).noop().go().well();
    assert_eq!(planned.result["names"], json!(["networks: old"]));
    let program = "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True\n\
        from lib import daemon\n\
        print([daemon.moment(t) - 1700000000 for t in ('2023-11-14T22:13:20Z', '2023-11-15T03:43:20.5+05:30', '2023-11-14T15:13:21-07:00')])\n\
        print([daemon.moment(t) for t in ('0001-01-01T00:00:00Z', '0001-01-01T00:53:28+00:53', '2023-13-45T00:00:00Z', 'never', '', None)])\n";
    let output =
        Command::new(python()).args(["-c", program]).arg(directory("docker").join("actions")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "[0, 0, 1]\n[0, 0, 0, 0, 0, 0]\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_container_that_cannot_be_inspected_is_a_problem() {
    let daemon = Daemon::new();
    daemon.container.lock().unwrap()["Refused"] = json!(500);
    let ended = daemon.run("containers", json!({"fail": true})).go().refused(1, "");
    let row = &ended.result["containers"][0];
    assert_eq!((&row["name"], &row["state"]), (&json!("web"), &json!("running")));
    assert!(row["problem"].as_str().unwrap().starts_with("cannot be inspected: "), "{row}");
    daemon.container.lock().unwrap()["Refused"] = json!(404);
    let ended = daemon.run("containers", json!({"fail": true})).go().well();
    assert_eq!(
        (&ended.result["containers"], &ended.result["complete"]),
        (&json!([]), &json!(true)),
        "removed meanwhile"
    );
}

#[test]
fn a_container_that_hangs_does_not_take_the_time_of_the_others() {
    let daemon = Daemon::new();
    daemon.container.lock().unwrap()["Hangs"] = json!(true);
    let (began, clock) = (std::time::Instant::now(), std::time::SystemTime::now());
    let deadline = clock.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 8;
    let ended = daemon.run("containers", json!({"fail": true})).deadline(deadline).go().refused(1, "");
    assert!(began.elapsed().as_secs() < 35, "it waited for {:?}", began.elapsed());
    let problem = ended.result["containers"][0]["problem"].as_str().unwrap();
    assert!(problem.starts_with("cannot be inspected: ") && problem.contains("no answer within"), "{problem}");
}

#[test]
fn containers_that_died_are_named_with_the_reason() {
    let daemon = Daemon::new();
    let problem = |state: Value| {
        daemon.container.lock().unwrap()["State"] = state;
        let ended = daemon.run("containers", json!({})).go().well();
        ended.result["containers"][0]["problem"].as_str().unwrap().to_owned()
    };
    assert_eq!(problem(running()), "");
    let exited = |code: i32, killed: bool, at: &str| {
        json!({"Status": "exited", "Running": false, "ExitCode": code, "OOMKilled": killed,
            "StartedAt": "2020-01-01T00:00:00Z", "FinishedAt": at})
    };
    assert_eq!(problem(exited(137, true, "2999-01-01T00:00:00Z")), "ended for lack of memory");
    assert_eq!(problem(exited(3, false, "2999-01-01T00:00:00Z")), "failed");
    assert_eq!(problem(exited(3, false, "2020-01-01T00:00:00Z")), "", "it is long ago");
    let not_started = |made: &str| {
        daemon.container.lock().unwrap()["Created"] = json!(made);
        problem(json!({"Status": "created", "Running": false, "ExitCode": 128, "StartedAt": "0001-01-01T00:00:00Z",
            "FinishedAt": "0001-01-01T00:00:00Z", "Error": "driver failed: port is already allocated"}))
    };
    assert_eq!(not_started("2999-01-01T00:00:00Z"), "could not be started: driver failed: port is already allocated");
    assert_eq!(not_started("2020-01-01T00:00:00Z"), "", "it is long ago");
    let mut again = running();
    daemon.container.lock().unwrap()["RestartCount"] = json!(57);
    assert_eq!(problem(again.clone()), "", "it has been running since then");
    let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.5Z"]).output().unwrap();
    again["StartedAt"] = json!(String::from_utf8(now.stdout).unwrap().trim());
    assert!(problem(again).starts_with("restarted 57 times by the daemon, the last time "));
    let mut sick = running();
    sick["Health"] = json!({"Status": "unhealthy"});
    assert_eq!(problem(sick), "unhealthy");
    let ended = daemon.run("containers", json!({"fail": true})).go();
    assert_eq!((ended.status, &ended.result["problems"]), (Some(1), &json!(1)));
}

#[test]
fn logs_of_both_streams_are_printed_without_control_characters() {
    let daemon = Daemon::new();
    let ended = daemon.run("logs", json!({"container": "web", "lines": 7})).go().well();
    assert_eq!(ended.stdout, "2026 one\n2026 t\\x1b[31mwo\n");
    assert_eq!((&ended.result["lines"], &ended.result["complete"]), (&json!(2), &json!(true)));
    assert!(daemon.stand_in.requests("GET").iter().any(|r| r.line.contains("tail=7")));
    daemon.run("logs", json!({"container": "x"})).go().error(2, "No such container");
}

#[test]
fn of_logs_that_exceed_the_limit_the_last_lines_are_printed() {
    let daemon = Daemon::new();
    let ended = daemon.run("logs", json!({"container": "web", "lines": 4000})).go().well();
    assert_eq!(ended.stdout, "2026 one\n2026 t\\x1b[31mwo\n", "what the daemon sends for fewer lines");
    assert_eq!((&ended.result["lines"], &ended.result["complete"]), (&json!(2), &json!(false)));
    assert!(daemon.stand_in.requests("GET").iter().any(|r| r.line.contains("tail=2000")));
}

#[test]
fn a_container_is_restarted_only_by_name_and_id_and_must_stay_up() {
    let daemon = Daemon::new();
    let restart =
        || daemon.run("restart_container", json!({"container": "web", "id": ID[..12], "settle": 0, "health_wait": 0}));
    restart().config(json!({"socket": daemon.top.path().join("socket")})).go().error(2, "allowed now: nothing");
    let other = json!({"container": "web", "id": "000000000000"});
    daemon.run("restart_container", other).go().error(2, "is another container now");
    assert_eq!(restart().noop().go().well().result["outcome"], "would_restart");
    assert!(daemon.stand_in.requests("POST").is_empty());
    daemon.container.lock().unwrap()["RestartCount"] = json!(3);
    assert_eq!(restart().go().well().result["outcome"], "restarted", "restarts of before do not count");
    let mut again = running();
    again["Restarts"] = json!(1);
    *daemon.after.lock().unwrap() = again;
    let ended = restart().go().refused(1, "web ended again and was restarted by the daemon");
    assert_eq!(ended.result["outcome"], "restarts_again");
    *daemon.after.lock().unwrap() = json!({"Status": "exited", "Running": false, "ExitCode": 9});
    let ended = restart().go().refused(1, "web is exited after the restart, exit code 9");
    assert_eq!(ended.result["outcome"], "not_running");
    let mut starting = running();
    starting["Health"] = json!({"Status": "starting"});
    *daemon.after.lock().unwrap() = starting;
    assert_eq!(restart().go().refused(1, "runs and is starting").result["outcome"], "unhealthy");
}

#[test]
fn a_daemon_that_does_not_run_is_named() {
    let none = json!({"socket": "/nonexistent/docker.sock"});
    action("docker.space", json!({})).config(none).go().error(3, "is Docker running");
}
