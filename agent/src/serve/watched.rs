//! Everything that may change under a running agent, looked at once a second: grants, certificates, owners and modes of what
//! is trusted, `agent.toml`, what the launcher enforces, and the clock, by which certificates end.
//!
//! A problem is in health, in the metrics and in the log when it appears, not when somebody meets it: also one that only the
//! next start would refuse.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::config::Config;
use packs_schema::agent::rest::Enforcement;
use packs_schema::base::trust::Purpose;

use crate::access::Stamp;
use crate::api::App;
use crate::api::tls::now_s;
use crate::config_file;
use crate::log::chain;
use crate::registry::read_json;
use crate::trust;

/// Between two looks. What is revoked ends within this time and the time that closing takes.
const EACH: Duration = Duration::from_secs(1);
/// `agent.toml` would be refused by the next start.
const CONFIG: &str = "config_invalid";
/// Owner or mode of the trusted root are such that polls refuse it.
const ROOT: &str = "root_untrusted";
/// Limits are required, and the host does not offer them.
const LIMITS: &str = "limits_unavailable";

/// The files that nobody else watches.
pub(super) struct Files {
    /// `agent.toml`; absent in tests.
    pub(super) config: Option<PathBuf>,
    /// The trusted root of the repository.
    pub(super) root: PathBuf,
}

/// Looks until it is aborted.
pub(super) async fn watch(app: Arc<App>, files: Files) {
    let mut config = None;
    let mut enforcement = None;
    let mut tick = tokio::time::interval(EACH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        app.access.look();
        app.tls.look(now_s());
        // What is missing altogether is for the sync to say.
        let root = if files.root.exists() { trust::check(&files.root, Purpose::Anchor).err() } else { None };
        app.health.update(ROOT, root.map(|error| chain(&error)), false);
        if let Some(path) = &files.config {
            look_at_config(&app, path, &mut config);
        }
        look_at_enforcement(&app, &mut enforcement);
    }
}

fn look_at_config(app: &App, path: &Path, seen: &mut Option<(Option<Stamp>, Option<String>)>) {
    let stamp = Stamp::of(path);
    let parsed = match seen {
        Some((last, problem)) if *last == stamp => problem.clone(),
        _ => {
            let problem = parse_problem(path);
            *seen = Some((stamp, problem.clone()));
            problem
        }
    };
    let problem = trust::check(path, Purpose::Anchor).err().map(|error| chain(&error)).or(parsed);
    let problem =
        problem.map(|problem| format!("{problem}; the running agent is not affected, its next start is refused"));
    app.health.update(CONFIG, problem, false);
}

fn parse_problem(path: &Path) -> Option<String> {
    let text = match config_file::read_text(path) {
        Ok(text) => text,
        Err(error) => return Some(chain(&error)),
    };
    let error = Config::parse(&text).err()?;
    Some(format!("the configuration {} is wrong: {}", path.display(), chain(&error)))
}

fn look_at_enforcement(app: &App, seen: &mut Option<Stamp>) {
    let stamp = Stamp::of(&app.enforcement);
    if stamp == *seen {
        return;
    }
    *seen = stamp;
    // What cannot be read is an error of the requests that need it.
    let Ok(Some(enforcement)) = read_json::<Enforcement>(&app.enforcement) else { return };
    app.health.update(LIMITS, missing_limits(&enforcement), true);
}

/// The limits that are required of every execution, and that the host does not offer.
fn missing_limits(enforcement: &Enforcement) -> Option<String> {
    let limits = [("memory", enforcement.memory), ("cpu", enforcement.cpu), ("pids", enforcement.pids)];
    let missing: Vec<&str> = limits.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    (enforcement.required && !missing.is_empty()).then(|| {
        format!(
            "nothing can run: limits are required and the host has none for {} (as an ordinary user there are none): run \
             the agent as root, or set execution.require_limits = false",
            missing.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_required_and_missing_are_told() {
        let all = Enforcement { memory: true, cpu: true, pids: true, required: true, ..Enforcement::default() };
        assert_eq!(missing_limits(&all), None);
        let missing = Enforcement { cpu: false, pids: false, ..all.clone() };
        assert!(missing_limits(&missing).unwrap().contains("none for cpu, pids"));
        assert_eq!(missing_limits(&Enforcement { required: false, ..missing }), None);
    }
}
