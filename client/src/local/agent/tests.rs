//! The end of executions whose directory another account can change.

use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

fn locked(execution: &Path) -> Flock<fs::File> {
    fs::create_dir_all(execution).unwrap();
    let lock = fs::File::create(execution.join(execution::file::LOCK)).unwrap();
    Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap()
}

/// Ends the executions of `agent` on a thread of its own, which must not be held up.
fn end(agent: &Path) {
    let (agent, (done, over)) = (agent.to_owned(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        end_executions_within(&agent, Duration::from_millis(50));
        done.send(())
    });
    over.recv_timeout(Duration::from_secs(30)).expect("it waits for something that the api's account has put there");
}

#[test]
fn what_lies_in_the_state_directory_leads_nowhere() {
    let temp = tempfile::tempdir().unwrap();
    let (agent, outside) = (temp.path().join("agent"), temp.path().join("outside"));
    let executions = agent.join("state/exec");
    let ours = locked(&executions.join("ours"));
    // A link in place of the request, of the execution, and a pipe in place of the lock.
    let linked = locked(&executions.join("linked"));
    symlink(outside.join("canary"), executions.join("linked").join(execution::file::KILL)).unwrap();
    let foreign = locked(&outside.join("exec/foreign"));
    symlink(outside.join("exec/foreign"), executions.join("foreign")).unwrap();
    fs::create_dir_all(executions.join("pipe")).unwrap();
    mkfifo(&executions.join("pipe").join(execution::file::LOCK), Mode::from_bits_truncate(0o644)).unwrap();
    end(&agent);
    assert_eq!(fs::read(executions.join("ours").join(execution::file::KILL)).unwrap(), b"{}");
    assert!(!outside.join("canary").exists() && !outside.join("exec/foreign").join(execution::file::KILL).exists());

    // A link in place of the state directory itself.
    fs::remove_dir_all(agent.join("state")).unwrap();
    symlink(&outside, agent.join("state")).unwrap();
    end(&agent);
    assert!(!outside.join("exec/foreign").join(execution::file::KILL).exists());
    drop((ours, linked, foreign));
}
