//! Ctrl-C: the first stops further starts and waits for what runs; the second detaches from it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Output, Stdio};

use bolt_client::local::LocalAgent;
use bolt_tests::{Bolt, PackSource, World, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts two agents whose action prints `waiting` and ends when the gate exists.
struct Gated {
    world: World,
    bolt: Bolt,
    _agents: [LocalAgent; 2],
}

impl Gated {
    fn new() -> Gated {
        let world = World::empty();
        let script =
            "#!/bin/sh\necho waiting\nwhile [ ! -e \"$BOLT_PARAM_GATE\" ]; do sleep 0.05; done\necho through\n";
        let yaml = "parameters: {gate: {type: string, required: true}}\nbolt: {class: diagnostic}";
        world.publish(&PackSource::new("probe", "1.0.0").action("gated", yaml, script));
        let agents = [world.start(&spec("i-1")), world.start(&spec("i-2"))];
        let bolt = world.bolt(&[&agents[0], &agents[1]]);
        Gated { world, bolt, _agents: agents }
    }

    /// Starts a serial run, and waits until its first execution runs: gives it and that execution's id.
    fn run(&self) -> (Child, String) {
        let gate = format!("gate={}", self.gate().display());
        let mut command = self.bolt.command(["run", "probe.gated", &gate, "--everywhere", "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        (child, self.running())
    }

    /// Waits until something runs, and gives its id.
    fn running(&self) -> String {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let (_, listed) = self.bolt.json(["ps", "--state", "running"]);
            if let Some(id) = listed["executions"][0]["id"].as_str() {
                return id.to_owned();
            }
            assert!(std::time::Instant::now() < deadline, "it does not start");
        }
    }

    fn gate(&self) -> std::path::PathBuf {
        self.world.scratch("gates").join("open")
    }
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
}

/// Reads standard error until a line has `words`.
fn until_said(child: &mut Child, words: &str) {
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(words)), "{words:?} was not said");
}

#[test]
fn an_interrupt_starts_nothing_more_and_waits() {
    let gated = Gated::new();
    let (mut child, _) = gated.run();
    interrupt(&child);
    until_said(&mut child, "no further instance starts; waiting for executions on 1 instance");
    std::fs::write(gated.gate(), "").unwrap();
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    let run: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((status.code(), run["stopped"].as_str()), (Some(130), Some("interrupted")), "{run}");
    assert_eq!(
        (&run["instances"][0]["state"], &run["instances"][1]["state"]),
        (&"succeeded".into(), &"not_started".into())
    );
}

#[test]
fn a_second_interrupt_leaves_it_running() {
    let gated = Gated::new();
    let (mut child, id) = gated.run();
    interrupt(&child);
    until_said(&mut child, "no further instance starts");
    interrupt(&child);
    let Output { status, .. } = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(130));
    let (_, now) = gated.bolt.json(["show", &id]);
    assert_eq!(now["state"], "running", "{now}");
    // Interrupting `bolt logs -f` does not end the execution either.
    let mut logs = gated.bolt.command(["logs", "-f", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(logs.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "waiting\n");
    interrupt(&logs);
    assert_eq!(logs.wait().unwrap().code(), Some(130));
    std::fs::write(gated.gate(), "").unwrap();
    let followed = gated.bolt.run(["logs", "-f", &id]);
    assert_eq!((followed.code, followed.stdout.as_str()), (0, "waiting\nthrough\n"));
}
