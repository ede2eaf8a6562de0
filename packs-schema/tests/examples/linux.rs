//! Tests of the diagnostics and remediations of `linux` that have no module of their own.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{action, can_be_alone, have};
use crate::service::programs;

/// Shell that waits for input, after these commands; it prints a line when it is ready.
pub(crate) fn waiting(commands: &str) -> Child {
    let mut child = Command::new("/bin/bash")
        .args(["-c", &format!("{commands}\necho ready; read -r _")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    child
}

pub(crate) fn end(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// Returns the start time of a process in ticks.
pub(crate) fn started(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap()
}

pub(crate) fn row<'a>(list: &'a Value, key: &str, value: &Value) -> &'a Value {
    list.as_array().unwrap().iter().find(|r| r[key] == *value).unwrap_or_else(|| panic!("{value} is not in {list:#}"))
}

#[test]
fn a_process_is_ended_by_its_exact_identity() {
    let mut child = waiting("");
    let (pid, start) = (child.id(), started(child.id()));
    action("linux.kill_process", json!({"pid": pid, "started": start + 1})).go().error(2, "is another one now");
    let planned = action("linux.kill_process", json!({"pid": pid, "started": start})).noop().go().well();
    assert_eq!((&planned.result["outcome"], &planned.result["name"]), (&json!("would_signal"), &json!("bash")));
    assert!(child.try_wait().unwrap().is_none(), "neither sent a signal");
    let ended = action("linux.kill_process", json!({"pid": pid, "started": start})).go().well();
    assert_eq!(ended.result["outcome"], "terminated");
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_process_that_ignores_term_is_killed_only_on_request() {
    let mut child = waiting("trap '' TERM");
    let (pid, start) = (child.id(), started(child.id()));
    let parameters = json!({"pid": pid, "started": start, "wait": 0});
    let ended = action("linux.kill_process", parameters).go().refused(1, "pass kill=true");
    assert_eq!(ended.result["outcome"], "still_running");
    let ended =
        action("linux.kill_process", json!({"pid": pid, "started": start, "wait": 0, "kill": true})).go().well();
    assert_eq!(ended.result["outcome"], "killed");
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn processes_that_the_host_needs_are_not_ended() {
    let own = std::process::id();
    let refused = action("linux.kill_process", json!({"pid": own, "started": started(own)})).go();
    refused.error(2, "is the action itself or started it");
    let child = waiting("");
    let parameters = json!({"pid": child.id(), "started": started(child.id())});
    let site = action("linux.kill_process", parameters).config(json!({"kill_refused": ["ba*"]}));
    site.go().error(2, "bash is not ended by this action");
    end(child);
}

#[test]
fn memory_is_counted_with_shared_pages_once() {
    let ended = action("linux.memory_hogs", json!({"top": 5})).go().well();
    let hogs = ended.result["hogs"].as_array().unwrap();
    assert!(!hogs.is_empty() && hogs.len() <= 5);
    for hog in hogs {
        let number = |key: &str| hog[key].as_u64().unwrap();
        assert!(number("private_bytes") <= number("pss_bytes"), "{hog}");
        assert!(number("pss_bytes") <= number("private_bytes") + number("shared_bytes") + 4096, "{hog}");
        assert!(number("started") > 0 || number("pid") == 1, "{hog}");
    }
}

#[test]
fn the_process_with_most_descriptors_of_its_limit_is_named() {
    let child = waiting("ulimit -S -n 20; exec 5</dev/null 6</dev/null 7</dev/null 8</dev/null 9</dev/null");
    let ended = action("linux.descriptor_use", json!({"top": 100})).go().well();
    let row = row(&ended.result["processes"], "pid", &json!(child.id()));
    // Standard error may be a file or a pipe, and pipes of tests that run at the same time may be inherited as well.
    let open = row["open"].as_u64().unwrap();
    assert_eq!((&row["limit"], &row["percent"]), (&json!(20), &json!(open * 5)), "{row}");
    assert!(open >= 8 && row["kinds"]["files"].as_u64() >= Some(5), "{row}");
    end(child);
}

#[test]
fn a_parent_that_does_not_collect_its_zombies_is_named() {
    let program = "import os\nchild = os.fork() or os._exit(0)\nos.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)\n\
                   print('ready', flush=True)\nos.read(0, 1)";
    let child = waiting(&format!("exec python3 -c \"{program}\""));
    let ended = action("linux.stuck_processes", json!({"seconds": 0.1, "top": 100})).go().well();
    let row = row(&ended.result["parents"], "pid", &json!(child.id()));
    assert_eq!((&row["zombies"], &row["example"]), (&json!(1), &row["name"]), "{row}");
    assert_eq!(row["started"], started(child.id()));
    end(child);
}

#[test]
fn the_directory_with_most_entries_comes_first() {
    let top = TempDir::new().unwrap();
    for n in 0..30 {
        std::fs::create_dir_all(top.path().join("few")).unwrap();
        std::fs::create_dir_all(top.path().join("ma\u{1b}ny").join(format!("{n}"))).unwrap();
    }
    std::os::unix::fs::symlink("/usr", top.path().join("few/link")).unwrap();
    let ended = action("linux.inode_hogs", json!({"path": top.path(), "top": 2})).go().well();
    let first = format!("{}/ma\\x1bny", top.path().display());
    assert_eq!(ended.result["directories"][0], json!({"path": first, "entries": 30}));
    assert_eq!(ended.result["entries"], 33, "links are not followed");
}

#[test]
fn input_and_output_and_network_are_measured() {
    let ended = action("linux.io_activity", json!({"seconds": 0.1, "top": 5})).go().well();
    assert!(ended.result["seconds"].as_f64().unwrap() >= 0.1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ended = action("linux.network_errors", json!({"seconds": 0})).go().well();
    assert!(!row(&ended.result["interfaces"], "name", &json!("lo"))["state"].is_null());
    drop(socket);
}

/// Answers one question in the way that the test gives, and returns the port.
pub(crate) fn name_server(answer: fn(&mut Vec<u8>)) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        if let Ok((size, from)) = socket.recv_from(&mut question) {
            let mut text = question[..size].to_vec();
            text[2] |= 0x80;
            answer(&mut text);
            let _ = socket.send_to(&text, from);
        }
    });
    port
}

#[test]
fn each_name_server_is_asked() {
    let good = name_server(|text| {
        text[7] = 1;
        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    });
    let bad = name_server(|text| text[3] = 2);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = |port: u16| format!("127.0.0.1#{port}");
    let mute = server(silent.local_addr().unwrap().port());
    let ask = |servers: Value, timeout: u64| {
        let parameters = json!({"name": "host.example", "servers": servers, "tries": 1, "timeout_ms": timeout});
        action("linux.dns_health", parameters).go()
    };
    let ended = ask(json!([server(good), server(bad)]), 5000);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    let answers = &ended.result["servers"];
    assert_eq!((&answers[0]["problem"], &answers[0]["addresses"]), (&json!(""), &json!(["192.0.2.7"])));
    assert_eq!(answers[1]["problem"], "the server answers SERVFAIL");
    let ended = ask(json!([mute]), 50);
    assert_eq!(ended.result["servers"][0]["problem"], "no answer within 50 ms");
}

#[test]
fn the_clock_is_compared_with_a_time_server() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut question = [0; 64];
        if let Ok((48, from)) = socket.recv_from(&mut question) {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            // An hour behind the host's clock.
            let seconds = u32::try_from(now.as_secs() + 2_208_988_800 - 3600).unwrap().to_be_bytes();
            let mut answer = [0; 48];
            answer[0] = 0x24;
            answer[1] = 2;
            answer[24..32].copy_from_slice(&question[40..48]);
            answer[32..36].copy_from_slice(&seconds);
            answer[40..44].copy_from_slice(&seconds);
            let _ = socket.send_to(&answer, from);
        }
    });
    let ended = action("linux.clock_health", json!({"server": format!("127.0.0.1#{port}")})).go();
    assert_eq!((ended.status, &ended.result["offset_known"]), (Some(1), &json!(true)), "{}", ended.stdout);
    let offset = ended.result["offset_ms"].as_f64().unwrap();
    assert!((3_600_000.0..3_610_000.0).contains(&offset), "{offset}");
}

#[test]
fn the_clock_is_set_by_chrony_and_verified() {
    let bin = programs(&[]);
    let here = bin.path().display();
    let chronyc = format!(
        "#!/bin/bash\ncd '{here}'\necho \"$*\" >>calls\n[[ $1 == makestep ]] && echo 0.0001 >offset\n\
         [[ $* == *tracking ]] && echo \"A9FEA97B,169.254.169.123,4,$(date +%s).5,$(cat offset),0,0,0,0,0,0,0,64,Normal\"\ntrue\n"
    );
    std::fs::write(bin.path().join("chronyc"), chronyc).unwrap();
    Command::new("chmod").arg("755").arg(bin.path().join("chronyc")).status().unwrap();
    std::fs::write(bin.path().join("offset"), "100.0").unwrap();
    let fix = |parameters| action("linux.fix_clock", parameters).programs(bin.path());
    fix(json!({"max_step_seconds": 50})).go().error(2, "more than max_step_seconds");
    assert_eq!(fix(json!({})).noop().go().well().result["outcome"], "would_step");
    let calls = || std::fs::read_to_string(bin.path().join("calls")).unwrap();
    assert!(!calls().contains("makestep"));
    let ended = fix(json!({})).go().well();
    assert_eq!(
        (&ended.result["outcome"], &ended.result["offset_before_ms"]),
        (&json!("synchronized"), &json!(-100_000.0))
    );
    assert!(calls().contains("makestep"));
}

#[test]
fn failed_units_and_a_reload_are_read_from_systemd() {
    let systemctl = "case \"$*\" in\n\
        is-system-running) echo degraded ;;\n\
        list-units*) printf 'a.service loaded failed failed A\\n' ;;\n\
        *CanReload*) echo CanReload=yes ;;\n\
        *Result*) printf 'Result=oom-kill\\nExecMainStatus=9\\nStateChangeTimestamp=now\\033\\n' ;;\n\
        show*) printf 'LoadState=loaded\\nActiveState=active\\nSubState=running\\nMainPID=%s\\nNRestarts=0\\n' \"$(cat \"$0.pid\")\" ;;\n\
        reload*) echo reload >>\"$0.calls\"; cp \"$0.next\" \"$0.pid\" ;;\nesac\n";
    let bin = programs(&[("systemctl", systemctl), ("journalctl", "echo out of memory\n")]);
    let ended = action("linux.failed_units", json!({"fail": true})).programs(bin.path()).go();
    assert_eq!(ended.status, Some(1));
    let unit = json!({"unit": "a.service", "result": "oom-kill", "exit_status": "9", "since": "now\\x1b", "log": ["out of memory"]});
    assert_eq!(ended.result["units"], json!([unit]));
    let file = |name: &str| bin.path().join(format!("systemctl.{name}"));
    let reload = |next: &str| {
        std::fs::write(file("pid"), "7").unwrap();
        std::fs::write(file("next"), next).unwrap();
        let run = action("linux.reload_service", json!({"service": "app-web", "settle": 0})).programs(bin.path());
        run.config(json!({"restart_allow": ["app-*.service"]}))
    };
    assert_eq!(reload("7").noop().go().well().result["outcome"], "would_reload");
    assert!(!file("calls").exists(), "a dry run reloads nothing");
    assert_eq!(reload("7").go().well().result["outcome"], "reloaded");
    assert_eq!(reload("8").go().refused(1, "another main process").result["outcome"], "new_process");
    reload("7").config(json!({})).go().error(2, "allowed now: nothing");
}

#[test]
fn updates_are_read_from_apt() {
    let apt = "[[ $* == *-s* ]] || exit 9\ncat <<'END'\nInst zlib [1.0] (1.1 Debian:12/stable [amd64])\n\
        Inst bash [5.1] (5.2 Debian-Security:12/stable-security [amd64]) []\nConf bash (5.2)\nEND\n";
    let bin = programs(&[("apt-get", apt)]);
    let ended = action("linux.pending_updates", json!({})).programs(bin.path()).go().well();
    assert_eq!((&ended.result["count"], &ended.result["security"]), (&json!(2), &json!(1)));
    let first = json!({"name": "bash", "installed": "5.1", "available": "5.2", "security": true});
    assert_eq!(ended.result["packages"][0], first);
}

#[test]
fn the_package_cache_is_cleaned_only_without_noop() {
    let bin = programs(&[("apt-get", "echo \"$*\" >>\"$0.calls\"; exit 100\n")]);
    let calls = bin.path().join("apt-get.calls");
    let clean = || action("linux.clean_package_cache", json!({})).programs(bin.path());
    clean().noop().go().well();
    assert!(!calls.exists());
    clean().go().error(1, "apt-get failed with status 100");
    assert_eq!(std::fs::read_to_string(calls).unwrap(), "clean\n");
}

#[test]
fn core_dumps_are_listed_without_being_read() {
    let place = TempDir::new().unwrap();
    let name = "core.my-app.1000.0123456789abcdef0123456789abcdef.4242.1700000000000000.zst";
    std::fs::write(place.path().join(name), vec![1; 9000]).unwrap();
    std::fs::write(place.path().join("notes.txt"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.path().join("core.7")).unwrap();
    let run = action("linux.core_dumps", json!({"top": 200})).config(json!({"core_directories": [place.path()]}));
    let ended = run.go().well();
    let rows = ended.result["dumps"].as_array().unwrap();
    let here: Vec<&Value> =
        rows.iter().filter(|r| r["file"].as_str().unwrap().contains(place.path().to_str().unwrap())).collect();
    assert_eq!(here.len(), 1, "{here:?}");
    assert_eq!((&here[0]["program"], &here[0]["pid"]), (&json!("my-app"), &json!(4242)));
}

#[test]
fn dumps_of_ubuntu_and_of_the_kernel_are_listed() {
    if !can_be_alone("dumps_of_ubuntu_and_of_the_kernel_are_listed") {
        return;
    }
    let var = TempDir::new().unwrap();
    let boot = "01234567-89ab-cdef-0123-456789abcdef";
    let apport = format!("lib/apport/coredump/core._usr_bin_app.1000.{boot}.4242.98765");
    let (red_hat, ubuntu) = ("crash/127.0.0.1-2026-01-02-03:04/vmcore", "crash/202601020304/dump.202601020304");
    let log = "crash/127.0.0.1-2026-01-02-03:04/vmcore-dmesg.txt";
    for file in [apport.as_str(), red_hat, ubuntu, log, "crash/app/core"] {
        let path = var.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    let instead = format!("mount --bind '{}' /var", var.path().display());
    let ended = action("linux.core_dumps", json!({"top": 200})).after(&instead).go().well();
    for (file, program, pid) in [(apport.as_str(), "_usr_bin_app", 4242), (red_hat, "kernel", 0), (ubuntu, "kernel", 0)]
    {
        let row = row(&ended.result["dumps"], "file", &json!(format!("/var/{file}")));
        assert_eq!((&row["program"], &row["pid"]), (&json!(program), &json!(pid)), "{row}");
    }
    let listed = ended.result["dumps"].as_array().unwrap().iter();
    assert_eq!(listed.filter(|row| row["file"].as_str().unwrap().starts_with("/var/")).count(), 3);
}

#[test]
fn a_process_is_sampled_for_a_bounded_time() {
    let child = waiting("");
    let sample = |more: Value| {
        let mut parameters = json!({"pid": child.id(), "seconds": 1});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        action("linux.sample_process", parameters)
    };
    sample(json!({"started": 1})).go().error(2, "is another one now");
    let ended = sample(json!({})).go().well();
    let thread = &ended.result["threads"][0];
    assert_eq!((&thread["tid"], &thread["name"]), (&json!(child.id()), &json!("bash")));
    assert!(thread["states"]["S"].as_u64().unwrap() > 1, "{thread}");
    let bin = programs(&[("timeout", "echo 'strace: attach: no' >&2; exit 1\n"), ("strace", "")]);
    sample(json!({"method": "strace"}))
        .programs(bin.path())
        .go()
        .error(1, "strace cannot observe the process: strace: attach: no");
    end(child);
}

#[test]
fn a_read_only_file_system_is_made_writable_where_the_site_allows_it() {
    if !can_be_alone("a_read_only_file_system_is_made_writable_where_the_site_allows_it") {
        return;
    }
    let place = TempDir::new().unwrap();
    let path = place.path().to_str().unwrap();
    let read_only = format!("mount -t tmpfs -o ro,size=1m tmpfs '{path}'");
    let remount = || {
        let run = action("linux.remount_read_write", json!({"mount": path}));
        run.config(json!({"remount_allow": [path]}))
    };
    assert_eq!(remount().noop().after(&read_only).go().well().result["outcome"], "would_remount");
    assert_eq!(remount().after(&read_only).go().well().result["outcome"], "writable");
    let writable = format!("mount -t tmpfs -o size=1m tmpfs '{path}'");
    assert_eq!(remount().after(&writable).go().well().result["outcome"], "already_writable");
    remount().go().error(2, "is not a mount point");
    remount().config(json!({})).go().error(2, "allowed now: nothing");
}

#[test]
fn the_caches_are_only_measured_in_a_dry_run() {
    let ended = action("linux.drop_caches", json!({"caches": "both"})).noop().go().well();
    assert_eq!(ended.result["cached_before"], ended.result["cached_after"]);
    assert!(ended.result["available_before"].as_u64().unwrap() > 0);
}

#[test]
fn logrotate_that_is_missing_or_has_no_such_file_is_named() {
    let name = "bolt-no-such-configuration";
    let rotate = || action("linux.rotate_logs", json!({"configuration": name}));
    if have("logrotate_is_missing", "logrotate") {
        rotate().go().error(2, "there is no /etc/logrotate.d/");
    } else {
        rotate().go().error(3, "this host has no program logrotate");
        let bin = programs(&[("logrotate", "")]);
        rotate().programs(bin.path()).go().error(2, "there is no /etc/logrotate.d/");
    }
}
