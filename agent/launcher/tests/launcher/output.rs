//! Limits on output.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use packs_schema::agent::execution::State;
use packs_schema::agent::execution::output::Stream;
use serde_json::json;

use crate::driver::{Host, wait_for};

const NUMBERS: &str = "#!/bin/sh\necho err >&2; seq 1 400000; echo end >&2\n";

#[test]
fn the_first_and_the_last_half_of_output_are_kept() {
    let mut host = Host::new();
    let ended = host.run(NUMBERS, json!({"output_max": "1MiB"}));
    assert_eq!(ended.exit.state, State::Succeeded);
    let whole: Vec<u8> = (1..=400_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    assert_eq!(ended.exit.stdout.written_bytes, whole.len() as u64);
    assert_eq!(ended.stderr(), "err\nend\n");

    let (mut next, mut gaps, mut kept) = (0, Vec::new(), 0);
    for ((_, offset), data) in ended.output.frames.iter().filter(|((s, _), _)| *s == Stream::Stdout) {
        if *offset != next {
            gaps.push((next, *offset));
        }
        let at = usize::try_from(*offset).unwrap();
        assert_eq!(data[..], whole[at..at + data.len()], "at {offset}");
        next = offset + data.len() as u64;
        kept += data.len() as u64;
    }
    assert_eq!(next, whole.len() as u64, "the end is kept");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].0, 512 << 10, "the first half is kept");
    assert_eq!(ended.exit.stdout.dropped_bytes, gaps[0].1 - gaps[0].0, "what was dropped is counted");
    assert!((1 << 20..(1 << 20) + (128 << 10)).contains(&kept), "{kept}");
}

#[test]
fn output_below_the_limit_is_complete() {
    let mut host = Host::new();
    let ended = host.run(NUMBERS, json!({"output_max": "16MiB"}));
    let whole: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    assert!(ended.stdout() == whole);
    assert_eq!(ended.exit.stdout.dropped_bytes, 0);
}

#[test]
fn a_shim_holds_no_buffer_while_its_action_is_quiet() {
    const WAIT: &str = "sleep 0.02; done";
    let script = format!(
        "#!/bin/sh\necho begun; until [ -e go ]; do {WAIT}\ndd if=/dev/zero bs=65536 count=4; echo told\nuntil [ -e end ]; do {WAIT}\n"
    );
    let mut host = Host::new();
    host.action("it", &script, json!({}));
    let running = host.started(&host.request("it", json!({})));
    let shim = wait_for("the shim", || shim_of(host.launcher_pid()));
    running.wait_for_stdout("begun\n");
    let before = private_kb(shim);
    std::fs::write(host.version().join("go"), "").unwrap();
    running.wait_for_stdout("told\n");
    wait_for("the buffer to be freed", || (private_kb(shim) < before + 32).then_some(()));
    std::fs::write(host.version().join("end"), "").unwrap();
    assert_eq!(running.finished().exit.stdout.written_bytes, (4 << 16) + 11);
}

/// Returns the shim of the only execution.
fn shim_of(launcher: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    let is_shim =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "bolt-shim\n");
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_shim)
}

/// Returns the memory of a process that no other process has, in kilobytes.
fn private_kb(pid: u32) -> u32 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = smaps.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn frames_have_ascending_timestamps() {
    let mut host = Host::new();
    let ended = host.run("#!/bin/sh\necho 1; sleep 0.05; echo 2\n", json!({}));
    let log = std::fs::read(ended.dir.join("output.log")).unwrap();
    let at = |n: usize| u64::from_le_bytes(log[n + 8..n + 16].try_into().unwrap());
    let (first, second) = (at(8), at(8 + 24 + 2));
    assert!(second - first >= 40_000, "{first} {second}");
    assert!(first / 1000 >= ended.exit.started_at_ms);
}

#[test]
fn an_action_succeeds_when_its_output_cannot_be_written() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\nseq 1 50000\n", json!({}));
    let request = host.request("it", json!({}));
    // A directory at the path of the log, so that it cannot be written.
    std::fs::create_dir(host.execution(&request.execution).dir.join("output.log")).unwrap();
    assert_eq!(host.start(&request), packs_schema::agent::launch::Outcome::Done);
    let dir = host.execution(&request.execution).dir;
    let exit = crate::driver::wait_for("exit", || std::fs::read(dir.join("exit")).ok());
    let exit: packs_schema::agent::execution::Exit = serde_json::from_slice(&exit).unwrap();
    assert_eq!(exit.state, State::Succeeded);
    assert_eq!((exit.stdout.written_bytes, exit.stdout.dropped_bytes), (288_894, 288_894));
}

/// The api watches for the end of the execution, and is told of every file that is closed.
#[test]
fn nothing_but_the_record_of_the_start_is_closed_before_the_end_is_on_record() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho told\n", json!({}));
    let request = host.request("it", json!({}));
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
    changes.add_watch(&host.execution(&request.execution).dir, flags).unwrap();
    assert_eq!(host.started(&request).finished().stdout(), "told\n");
    let mut seen: Vec<String> = Vec::new();
    while let Ok(events) = changes.read_events() {
        let names = events.into_iter().filter_map(|event| Some(event.name?.into_string().unwrap()));
        seen.extend(names);
    }
    let before = seen.iter().position(|name| name == "exit").expect("the end is on record");
    assert_eq!(seen[..before], ["started"], "{seen:?}");
    assert!(seen[before..].iter().any(|name| name == "output.log"), "{seen:?}");
}
