//! Tests of `nginx` on the installed nginx, and on recorded logs.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action, have};
use crate::servers::{Server, wait_for};
use crate::service::programs;

/// Server on a Unix socket; it runs in the foreground, so that it ends with the test.
struct Nginx {
    _server: Server,
    top: TempDir,
}

impl Nginx {
    fn start(test: &str) -> Option<Nginx> {
        if !have(test, "nginx") {
            return None;
        }
        let top = TempDir::new().unwrap();
        let here = top.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {here}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off; pid {here}/pid; error_log {here}/error.log notice; worker_processes 2;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log {here}/access.log; {temporary} server {{ listen unix:{here}/socket;\n\
             location /status {{ stub_status; }}\nlocation / {{ return 200 ok; }}\n\
             location /broken {{ proxy_pass http://unix:{here}/none:/; }} }} }}\n"
        );
        std::fs::write(top.path().join("nginx.conf"), text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(top.path().join("nginx.conf")).args(["-e", "stderr"]);
        let nginx = Nginx { _server: Server::start(command), top };
        wait_for("an answer of nginx", || nginx.get("/"));
        wait_for("its pid", || {
            std::fs::read_to_string(nginx.top.path().join("pid")).ok().filter(|t| t.ends_with('\n'))
        });
        Some(nginx)
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.top.path().join("socket")).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn run(&self, name: &str, parameters: Value) -> Run {
        let here = self.top.path().display();
        action(&format!("nginx.{name}"), parameters).config(json!({
            "status_url": format!("unix:{here}/socket:/status"), "configuration": format!("{here}/nginx.conf"),
            "pid_file": format!("{here}/pid"), "error_log": format!("{here}/error.log"),
            "access_log": format!("{here}/access.log"),
        }))
    }

    fn workers(&self) -> Vec<u64> {
        let ended = self.run("status", json!({"seconds": 0})).go().well();
        let processes = ended.result["processes"].as_array().unwrap();
        processes.iter().filter(|p| p["role"] == "worker").map(|p| p["pid"].as_u64().unwrap()).collect()
    }

    fn add_to_configuration(&self, text: &str) {
        let path = self.top.path().join("nginx.conf");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, before + text).unwrap();
    }
}

#[test]
fn connections_and_requests_are_counted_by_stub_status() {
    let Some(nginx) = Nginx::start("connections_and_requests_are_counted_by_stub_status") else { return };
    let ended = nginx.run("status", json!({"seconds": 0})).go().well();
    let before = ended.result["connections"]["requests"].as_u64().unwrap();
    assert_eq!(ended.result["processes"].as_array().unwrap().len(), 2, "{}", ended.result);
    nginx.get("/").unwrap();
    let ended = nginx.run("status", json!({"seconds": 0})).go().well();
    // The action itself asks twice in each run.
    assert_eq!(ended.result["connections"]["requests"], before + 3);
    let wrong = json!({"pid_file": nginx.top.path().join("none")});
    action("nginx.status", json!({})).config(wrong).go().error(3, "nginx does not run");
}

#[test]
fn nginx_is_reloaded_and_its_workers_are_replaced() {
    let Some(nginx) = Nginx::start("nginx_is_reloaded_and_its_workers_are_replaced") else { return };
    let before = nginx.workers();
    assert_eq!(nginx.run("reload", json!({})).noop().go().well().result["outcome"], "would_reload");
    assert_eq!(nginx.workers(), before, "a dry run replaces nothing");
    let ended = nginx.run("reload", json!({})).go().well();
    assert_eq!((&ended.result["outcome"], &ended.result["workers"]), (&json!("reloaded"), &json!(2)));
    let after = nginx.workers();
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    assert!(nginx.get("/").unwrap().ends_with("ok"));
}

#[test]
fn a_reload_that_is_stopped_reloads_nothing() {
    let Some(nginx) = Nginx::start("a_reload_that_is_stopped_reloads_nothing") else { return };
    let (bin, before) = (programs(&[("systemctl", "kill -TERM $PPID; sleep 5\n")]), nginx.workers());
    nginx.run("reload", json!({})).programs(bin.path()).go().error(143, "stopped by SIGTERM");
    assert_eq!(nginx.workers(), before);
}

#[test]
fn an_invalid_configuration_is_shown_and_not_loaded() {
    let Some(nginx) = Nginx::start("an_invalid_configuration_is_shown_and_not_loaded") else { return };
    assert_eq!(nginx.run("config_test", json!({})).go().well().result["valid"], true);
    let before = nginx.workers();
    nginx.add_to_configuration("nonsense;\n");
    let ended = nginx.run("config_test", json!({})).go().refused(1, "");
    let problem = &ended.result["problems"][0];
    assert_eq!((&problem["message"], &problem["level"]), (&json!("unknown directive \"nonsense\""), &json!("emerg")));
    assert!(problem["line"].as_u64().unwrap() > 1 && problem["file"].as_str().unwrap().ends_with("nginx.conf"));
    let ended = nginx.run("reload", json!({})).go().refused(1, "so nothing was reloaded");
    assert_eq!(ended.result["outcome"], "invalid_configuration");
    assert_eq!(nginx.workers(), before);
}

#[test]
fn a_configuration_that_only_fails_when_it_is_loaded_is_noticed() {
    let Some(nginx) = Nginx::start("a_configuration_that_only_fails_when_it_is_loaded_is_noticed") else { return };
    // The address is in use by the test: nginx -t does not listen, a reload does.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let path = nginx.top.path().join("nginx.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    let listen = format!("listen {}; listen unix:", taken.local_addr().unwrap());
    std::fs::write(path, text.replace("listen unix:", &listen)).unwrap();
    let before = nginx.workers();
    let ended = nginx.run("reload", json!({"wait": 1})).go();
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    // Some versions of nginx try to listen in the test as well.
    let outcome = ended.result["outcome"].as_str().unwrap();
    assert!(["not_reloaded", "invalid_configuration"].contains(&outcome), "{}", ended.result);
    assert_eq!(nginx.workers(), before);
}

#[test]
fn errors_and_requests_are_summarized_from_the_logs_of_nginx() {
    let Some(nginx) = Nginx::start("errors_and_requests_are_summarized_from_the_logs_of_nginx") else { return };
    for _ in 0..3 {
        assert!(nginx.get("/broken?token=secret").unwrap().starts_with("HTTP/1.1 502"));
    }
    let ended = nginx.run("error_log_summary", json!({})).go().well();
    let message = &ended.result["messages"][0];
    assert_eq!((&message["count"], &message["level"]), (&json!(3), &json!("crit")));
    assert!(message["message"].as_str().unwrap().starts_with("connect() to unix:"), "{message}");
    assert!(ended.result["upstreams"][0]["name"].as_str().unwrap().ends_with("/none"), "{}", ended.result);
    assert!(!format!("{}{}", ended.stdout, ended.result).contains("secret"), "requests are not shown");
    let ended = nginx.run("access_log_summary", json!({})).go().well();
    assert_eq!(ended.result["paths"], json!([{"count": 3, "name": "/broken"}]));
    assert_eq!(ended.result["statuses"]["502"], 3);
}

#[test]
fn old_entries_and_foreign_lines_are_left_out_of_the_summaries() {
    let top = TempDir::new().unwrap();
    let (errors, requests) = (top.path().join("error.log"), top.path().join("access.log"));
    std::fs::write(&errors, "2020/01/01 00:00:00 [error] 1#1: *1 old, client: 192.0.2.1\n\u{1b}[2J noise\n").unwrap();
    let line = |moment: &str| format!("192.0.2.1 - - [{moment}] \"GET /\u{1b} HTTP/1.1\" 500 7 \"-\" \"agent\"\n");
    let text = line("01/Jan/2020:00:00:00 +0000") + "noise\n" + &line("31/Feb/2020:00:00:00 +0000");
    std::fs::write(&requests, text).unwrap();
    let site = json!({"error_log": errors, "access_log": requests});
    let ended = action("nginx.error_log_summary", json!({})).config(site.clone()).go().well();
    assert_eq!((&ended.result["entries"], &ended.result["complete"]), (&json!(0), &json!(true)));
    let ended = action("nginx.access_log_summary", json!({})).config(site).go().well();
    assert_eq!((&ended.result["requests"], &ended.result["not_understood"]), (&json!(0), &json!(1)));
    // Entries that logrotate took away meanwhile are not in the log.
    for path in [&errors, &requests] {
        std::fs::write(path, "").unwrap();
        std::fs::write(path.with_extension("log.1"), "").unwrap();
    }
    for name in ["nginx.error_log_summary", "nginx.access_log_summary"] {
        let summary =
            || action(name, json!({})).config(json!({"error_log": errors, "access_log": requests})).go().well();
        assert_eq!(summary().result["complete"], false, "{name}");
        for path in [&errors, &requests] {
            let rotated = std::fs::File::open(path.with_extension("log.1")).unwrap();
            rotated.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        assert_eq!(summary().result["complete"], true, "{name}");
        for path in [&errors, &requests] {
            std::fs::write(path.with_extension("log.1"), "").unwrap();
        }
    }
    let none = json!({"error_log": top.path()});
    action("nginx.error_log_summary", json!({})).config(none).go().error(3, "");
}
