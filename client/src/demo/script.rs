//! The story of the demo: what is shown, in which order.

use std::process::Command;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{CreateExecution, Execution};
use packs_schema::base::name::{ActionRef, ExecutionId};

use super::fleet::Fleet;
use super::interrupt::Interrupt;
use super::say::say;
use crate::connection::Agent;
use crate::failure::{Exit, Failure};
use crate::inventory::Inventory;
use crate::tls::Identity;

/// Time in which an execution must start.
const START_WITHIN: Duration = Duration::from_secs(20);

/// Commands to try on a fleet that stays up.
pub(super) const TO_TRY: [&str; 7] = [
    "bolt actions",
    "bolt actions cassandra.clear_snapshots",
    "bolt run linux.disk_usage --where 'zone == \"us-east-1a\"'",
    "bolt run linux.top_processes --everywhere --at-once --json",
    "bolt run cassandra.clear_snapshots --everywhere --by zone --noop",
    "bolt pack new mypack && bolt pack test mypack uptime",
    "bolt --help",
];

/// Shows everything; each step must end as the story says.
pub(super) fn play(fleet: &Fleet, interrupt: &Interrupt) -> Result<(), Failure> {
    let stage = Stage { fleet, interrupt };
    let first = fleet.agents[0].facts().id.to_string();
    let last = fleet.agents[fleet.agents.len() - 1].facts().id.to_string();

    title("What can be run, and where");
    stage.bolt(Exit::Success, &["instances", "--check"])?;
    stage.bolt(Exit::Success, &["actions"])?;

    title("A diagnostic on all six at once; identical answers are grouped");
    let certificates = format!("paths={}", fleet.site.directory().join("pki").display());
    stage.bolt(Exit::Success, &["run", "linux.certificate_expiry", &certificates, "--everywhere", "--at-once"])?;

    title("A remediation, one zone after the other; first as a dry run on one instance");
    stage.bolt(Exit::Success, &["run", "cassandra.clear_snapshots", "older_than_days=7", "--noop", "--on", &first])?;
    let repair = ["run", "cassandra.clear_snapshots", "older_than_days=7", "--everywhere", "--by", "zone", "--yes"];
    stage.bolt(Exit::Success, &[&repair[..], &["--select", ".bytes_reclaimed"]].concat())?;

    title("A live log, followed from another terminal while the action runs");
    let counting = stage.start("demo.count", &serde_json::json!({ "seconds": 3 }))?;
    stage.bolt(Exit::Success, &["logs", "-f", counting.as_str(), "--on", &first])?;

    title("A kill: this action ignores TERM and hides a child in another session");
    let stubborn = stage.start("demo.stubborn", &serde_json::json!({}))?;
    stage.bolt(Exit::Success, &["kill", stubborn.as_str(), "--on", &first])?;
    stage.wait_end(&stubborn, State::Killed)?;
    stage.bolt(Exit::Success, &["show", stubborn.as_str(), "--on", &first])?;

    title("A time-out: the same action, with a second to live");
    stage.bolt(Exit::Failed, &["run", "demo.stubborn", "--timeout", "1s", "--on", &last])?;

    title("A refused call: a principal without a grant");
    let guest = [fleet.guest.certificate.display().to_string(), fleet.guest.key.display().to_string()];
    stage.bolt(Exit::Refused, &["--cert", &guest[0], "--key", &guest[1], "run", "demo.count", "--on", &first])?;

    title("What ran, as whom, with what result");
    stage.bolt(Exit::Success, &["ps"])?;
    summary(fleet);
    Ok(())
}

struct Stage<'a> {
    fleet: &'a Fleet,
    interrupt: &'a Interrupt,
}

impl Stage<'_> {
    /// Runs `bolt` with `arguments` and shows it; it must end with `wanted`.
    fn bolt(&self, wanted: Exit, arguments: &[&str]) -> Result<(), Failure> {
        self.interrupt.check()?;
        say(&format!("\n$ bolt {}", arguments.join(" ")));
        let program = std::env::current_exe()
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot find this program: {e}")))?;
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&self.fleet.client)
            .args(arguments)
            .spawn()
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot run bolt: {e}")))?;
        let status = self.interrupt.wait(&mut child)?;
        if status.code() == Some(wanted as i32) {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Failed,
            format!("bolt {} ended with {status}, and should have ended with {}", arguments.join(" "), wanted as i32),
        ))
    }

    /// Starts an action on the first instance, and waits until it runs.
    fn start(&self, action: &str, parameters: &serde_json::Value) -> Result<ExecutionId, Failure> {
        let create = CreateExecution {
            action: ActionRef::new(action).expect("an action of the demo"),
            version: None,
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            noop: false,
            instance: Some(self.fleet.agents[0].facts().id.clone()),
            run: None,
            timeout_ms: None,
            note: Some("bolt demo".to_owned()),
        };
        let execution = self.ask(async |agent| agent.create(&create, None, None).await)?;
        self.wait(&execution.id, |state| state != State::Queued)?;
        say(&format!("\n  started {action} in the background: {}", execution.id));
        Ok(execution.id)
    }

    fn wait_end(&self, id: &ExecutionId, wanted: State) -> Result<(), Failure> {
        self.wait(id, |state| state == wanted)
    }

    fn wait(&self, id: &ExecutionId, enough: impl Fn(State) -> bool) -> Result<(), Failure> {
        let deadline = std::time::Instant::now() + START_WITHIN;
        loop {
            self.interrupt.check()?;
            let now = self.ask(async |agent| agent.execution(id, None).await)?;
            if enough(now.state) {
                return Ok(());
            }
            if std::time::Instant::now() > deadline {
                return Err(Failure::new(Exit::Failed, format!("execution {id} stays {}", now.state)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the first instance's agent through the client library.
    fn ask(
        &self,
        question: impl AsyncFn(&Agent) -> Result<Execution, crate::error::Error>,
    ) -> Result<Execution, Failure> {
        let inventory = self.fleet.site.directory().join("inventory.toml");
        let inventory = Inventory::load(&inventory).map_err(|e| Failure::from_error(Exit::Failed, &e))?;
        let operator = self.fleet.site.operator();
        let identity = Identity::load(&operator.certificate, &operator.key, &self.fleet.site.ca())
            .map_err(|e| Failure::from_error(Exit::Failed, &e))?;
        let agent = Agent::new(&inventory.instances()[0], &identity);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new(Exit::Failed, format!("cannot start: {e}")))?;
        runtime.block_on(question(&agent)).map_err(|e| Failure::from_error(Exit::Failed, &e))
    }
}

fn title(text: &str) {
    say(&format!("\n== {text}"));
}

fn summary(fleet: &Fleet) {
    let capped = if fleet.site.accounts().is_some() {
        "Each action ran in cgroups of its own, as an unprivileged account; so does the api."
    } else {
        "Without root no limits could be set and no account changed: each execution says so under \"unenforced\"."
    };
    say(&format!(
        "\n== Done\n\nSix agents synced signed packs and ran what was asked, over mutual TLS, with nothing in between.\n{capped}"
    ));
}
