//! Accounts of executions: isolation of concurrent executions from each other.

use std::fs;

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Operation, Outcome, Refusal};
use serde_json::json;

use crate::driver::{Execution, Host, is_root, skipped, wait_for};

const SHARED: &str = "require_limits = false\ndefault_run_as = \"64100\"";

/// Runs until the gate file exists, with a secret on standard input that it has not read.
const VICTIM: &str = "#!/bin/sh\necho '{\"of\":\"victim\"}' >\"$BOLT_RESULT\"\n\
    echo \"$$ $BOLT_RESULT $(id -u) ready\"\nwhile [ ! -e \"$1\" ]; do sleep 0.01; done\n";

/// Prints which of its attacks on the process `$1` with the result file `$2` succeeded.
const ATTACKER: &str = "#!/bin/sh
tr '\\0' '\\n' 2>/dev/null </proc/$1/environ | grep -q BOLT_EXECUTION_ID && echo LEAK environ
timeout 2 head -c 1 2>/dev/null </proc/$1/fd/0 | grep -q . && echo LEAK opened stdin
/usr/bin/python3 -c \"$STEAL\" $1 2>/dev/null | grep -q canary && echo LEAK stolen stdin
[ -n \"$(ls /proc/$1/fd 2>/dev/null)\" ] && echo LEAK descriptors
cat \"$2\" 2>/dev/null | grep -q victim && echo LEAK result
(echo '{\"of\":\"attacker\"}' >>\"$2\") 2>/dev/null && echo LEAK forged
(echo '{\"of\":\"attacker\"}' >/proc/$1/fd/59) 2>/dev/null && echo LEAK forged by number
kill -0 $1 2>/dev/null && echo LEAK signal
id -u
";

/// Duplicates descriptor 0 of a process, like a debugger, and reads from it (pidfd_open, pidfd_getfd).
const STEAL: &str = "import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.write(1, os.read(libc.syscall(438, libc.syscall(434, int(sys.argv[1]), 0), 0, 0), 4096))
";

/// Runs both at once; returns the output of the attacker and the exit record of the victim.
fn attack(host: &mut Host) -> (Vec<String>, packs_schema::agent::execution::Exit) {
    let gate = host.path("gate");
    let position = |at| json!({"type": "string", "position": at});
    host.action(
        "victim",
        VICTIM,
        json!({"parameters": {"gate": position(0), "token": {"type": "string", "secret": true}}}),
    );
    let attacker = ATTACKER.replacen('\n', &format!("\nSTEAL='{STEAL}'\n"), 1);
    host.action("attacker", &attacker, json!({"parameters": {"pid": position(0), "result": position(1)}}));
    let victim = host.request("victim", json!({"gate": gate, "token": "canary"}));
    let victim = host.started(&victim);
    let said = victim.wait_for_stdout("ready");
    let mut words = said.split_whitespace();
    let (pid, result) = (words.next().unwrap(), words.next().unwrap());
    let attacker = host.request("attacker", json!({"pid": pid, "result": result}));
    let attacker = host.started(&attacker).finished();
    assert_eq!(attacker.exit.state, State::Succeeded, "{}", attacker.stderr());
    fs::write(&gate, "").unwrap();
    let lines = attacker.stdout().lines().map(str::to_owned).collect();
    (lines, victim.finished().exit)
}

#[test]
fn executions_with_accounts_of_their_own_are_isolated_from_each_other() {
    if !is_root() {
        return skipped("executions_with_accounts_of_their_own_are_isolated_from_each_other", "only root has accounts");
    }
    // With a shared account all attacks succeed, which shows that they work.
    let (said, _) = attack(&mut Host::with(SHARED, ""));
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|scope| scope.trim() != "0");
    let stolen = (!yama).then_some("stolen stdin");
    for attempt in
        ["environ", "descriptors", "result", "forged", "forged by number", "signal"].into_iter().chain(stolen)
    {
        assert!(said.contains(&format!("LEAK {attempt}")), "{attempt} is no attempt: {said:?}");
    }
    let (said, victim) = attack(&mut Host::new());
    let [uid] = &said[..] else { panic!("{said:?}") };
    let range = packs_schema::agent::config::UidRange::default();
    assert!(range.contains(uid.parse().unwrap()), "{uid}");
    assert_eq!(victim.result.unwrap()["of"], "victim");
}

fn running(host: &mut Host) -> (Execution, u32) {
    host.action("it", "#!/bin/sh\necho \"$(id -u) $(id -g) $(id -G) $USER ready\"\nsleep 600\n", json!({}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let said = running.wait_for_stdout("ready");
    let ids: Vec<u32> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(ids.len() == 4 && ids.iter().all(|id| *id == ids[0]), "{said}");
    (running, ids[0])
}

fn records(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.path("run/accounts")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "last");
    names.sort();
    names
}

/// A restarted launcher leases neither the ids that the shims of the previous one hold nor those that they have released.
#[test]
fn a_user_id_is_reused_last() {
    if !is_root() {
        return skipped("a_user_id_is_reused_last", "only root has accounts");
    }
    let mut host = Host::with("require_limits = false\nuid_range = \"1990001000-1990001015\"", "");
    let mut held: Vec<(Execution, u32)> = (0..3).map(|_| running(&mut host)).collect();
    let (ended, gone) = held.remove(1);
    assert_eq!(host.ask(Operation::Kill { execution: ended.id.clone() }), Outcome::Done);
    ended.finished();
    host.kill_launcher();
    host.restart_launcher();
    let before: Vec<u32> = held.iter().map(|(_, uid)| *uid).collect();
    assert_eq!(records(&host).len(), 2);
    let mut seen = before.clone();
    for _ in 0..13 {
        let (execution, uid) = running(&mut host);
        assert!(!seen.contains(&uid) && uid != gone, "{uid} was handed out again");
        seen.push(uid);
        assert_eq!(host.ask(Operation::Kill { execution: execution.id.clone() }), Outcome::Done);
        execution.finished();
    }
    let (last, uid) = running(&mut host);
    assert_eq!(uid, gone, "the last that is free");
    held.push((last, uid));
    for (execution, _) in held {
        fs::write(execution.dir.join("kill"), "").unwrap();
        execution.finished();
    }
    wait_for("no account in use", || records(&host).is_empty().then_some(()));
}

#[test]
fn run_as_cannot_name_an_account_of_the_range() {
    if !is_root() {
        return skipped("run_as_cannot_name_an_account_of_the_range", "only root has accounts");
    }
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\n", json!({"run_as": "2105540700"}));
    let request = host.request("it", json!({}));
    let (code, message) = host.refused(&request);
    assert!(code == Refusal::UnknownUser && message.contains("reserved for executions"), "{code:?}: {message}");
}

#[test]
fn ipc_objects_are_removed_with_the_execution() {
    if !is_root() {
        return skipped("ipc_objects_are_removed_with_the_execution", "only root has accounts");
    }
    let mut host = Host::new();
    let script = "#!/bin/sh\nid -u\nipcmk -M 4096 >/dev/null && ipcmk -Q >/dev/null && ipcmk -S 1 >/dev/null || exit 9\n\
        mkdir /dev/shm/of-$BOLT_EXECUTION_ID && echo x >/dev/shm/of-$BOLT_EXECUTION_ID/file || exit 8\n\
        cat /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | grep -c \" $(id -u) \"\n";
    let ended = host.run(script, json!({}));
    assert_eq!(ended.exit.exit_status, Some(0), "{}", ended.stderr());
    let said = ended.stdout();
    let (uid, made) = said.trim().split_once('\n').unwrap();
    assert_eq!(made, "3");
    for kind in ["shm", "msg", "sem"] {
        let left = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap();
        assert!(!left.contains(&format!(" {uid} ")), "{left}");
    }
    assert!(!fs::exists(format!("/dev/shm/of-{}", ended.exit.id)).unwrap());
}

/// Ways in which scripts write a result, including a program that inherits no descriptor.
#[test]
fn a_result_is_written_like_any_file() {
    let mut host = Host::new();
    for script in [
        "#!/bin/sh\necho '{\"n\": 1, \"long\": 23}' >\"$BOLT_RESULT\"\necho '{\"n\": 7}' >\"$BOLT_RESULT\"\n",
        "#!/bin/sh\nprintf '{\"n\"' >>\"$BOLT_RESULT\"\nprintf ': 7}' >>\"$BOLT_RESULT\"\n",
        "#!/bin/sh\necho '{\"n\": 7}' | tee \"$BOLT_RESULT\" >/dev/null\n[ -s \"$BOLT_RESULT\" ] && grep -q 7 \"$BOLT_RESULT\"\n",
        "#!/bin/sh\nf=$(mktemp) && echo '{\"n\": 7}' >$f && cp $f \"$BOLT_RESULT\" && rm $f\n",
        "#!/bin/sh\nexec 59>&-\nfalse\n",
        "#!/usr/bin/python3\nimport os\nopen(os.environ['BOLT_RESULT'], 'w').write('{\"n\": 7}')\n",
        "#!/usr/bin/python3\nimport os, pathlib\npathlib.Path(os.environ['BOLT_RESULT']).write_text('{\"n\": 7}')\n",
        "#!/usr/bin/python3\nimport subprocess\n\
            subprocess.run(['sh', '-c', 'echo \"{\\\\\"n\\\\\": 7}\" >\"$BOLT_RESULT\"'], check=True, close_fds=True)\n",
    ] {
        let ended = host.run(script, json!({}));
        if script.contains("false") {
            assert_eq!((ended.exit.state, ended.exit.result), (State::Failed, None), "who closes it has no result");
            continue;
        }
        assert_eq!(
            (ended.exit.state, &ended.exit.result_error),
            (State::Succeeded, &None),
            "{script}{}",
            ended.stderr()
        );
        assert_eq!(ended.exit.result.unwrap()["n"], 7, "{script}");
    }
}

/// The result is charged to the memory of the action, and its descriptors do not let it write elsewhere.
#[test]
fn an_action_cannot_fill_the_runtime_directory() {
    let mut host = Host::new();
    let script = "#!/bin/sh\ncase $BOLT_RESULT in $1*) echo in the runtime directory; exit 9;; esac\n\
        for d in \"$1\" \"$1/$BOLT_EXECUTION_ID\" \"$1/accounts\"; do (echo x >\"$d/more\") 2>/dev/null && echo \"wrote into $d\"; done\n\
        head -c 200M /dev/zero >\"$BOLT_RESULT\"\n";
    let parameters = json!({"dir": {"type": "string", "position": 0}});
    let limits = json!({"memory": "64MiB", "cpu": "100%", "pids": 64, "open_files": 256});
    host.action("it", script, json!({"parameters": parameters, "limits": limits}));
    let request = host.request("it", json!({"dir": host.path("run")}));
    let ended = host.started(&request).finished();
    if is_root() {
        assert_eq!(ended.stdout(), "");
    }
    if host.enforcement().memory {
        assert_eq!(ended.exit.state, State::OutOfMemory, "{:?}", ended.exit);
        assert!(ended.exit.usage.peak_memory_bytes.is_none_or(|peak| peak <= 65 << 20), "{:?}", ended.exit.usage);
    } else {
        skipped("an_action_cannot_fill_the_runtime_directory (its memory)", "no memory controller");
    }
    assert_eq!(ended.exit.result, None);
}
