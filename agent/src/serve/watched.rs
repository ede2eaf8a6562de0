//! Watcher of everything that may change under a running agent, checked once a second: grants, certificates, owners and modes
//! of trusted files, `agent.toml`, the limits that the launcher enforces, and the clock, by which certificates expire.
//!
//! A problem is in health, metrics and log when it appears, not when a request fails because of it; also a problem that only
//! the next start would refuse.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use packs_schema::agent::config::Config;
use packs_schema::agent::rest::Enforcement;
use packs_schema::base::trust::Purpose;

use super::at_rest::Rest;
use super::config_events::ConfigEvents;
use crate::api::App;
use crate::api::tls::now_s;
use crate::config_file;
use crate::log::chain;
use crate::registry::read_json;
use crate::site_file::Stamp;
use crate::trust;

/// Interval of the checks. Revoked access ends within this time, plus the time that closing takes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Health code while the next start would refuse `agent.toml`.
const CONFIG: &str = "config_invalid";
/// Health code while polls refuse the repository's root because of its owner or mode.
const ROOT: &str = "root_untrusted";
/// Health code while limits are required that the host does not offer.
const LIMITS: &str = "limits_unavailable";

/// Health code while the interface answers no caller.
const CLOSED: &str = "interface_closed";

/// Files without a watcher of their own.
pub(super) struct Files {
    /// `agent.toml`; absent in tests.
    pub(super) config: Option<PathBuf>,
    /// Pinned root of the repository.
    pub(super) root: PathBuf,
}

/// Checks until it is aborted.
pub(super) async fn watch(app: Arc<App>, files: Files, mut events: ConfigEvents) {
    let mut config = None;
    let mut enforcement = None;
    let mut rest = Rest::default();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        events.look();
        app.access.check_for_changes();
        if app.access.depends_on_situation() {
            app.access.set_facts(app.instance.known_facts());
        }
        app.tls.check_for_changes(now_s());
        report_closed(&app);
        // A missing file is reported by the sync.
        let root = if files.root.exists() { trust::check(&files.root, Purpose::Anchor).err() } else { None };
        app.health.update(ROOT, root.map(|error| chain(&error)), false);
        if let Some(path) = &files.config {
            check_config(&app, path, &mut config);
        }
        check_enforcement(&app, &mut enforcement);
        events.record_changes(&app).await;
        rest.tick(&app).await;
    }
}

/// Reports whether the interface answers callers.
pub(super) fn report_closed(app: &App) {
    let problem = app.closed_because().map(|reason| {
        format!("the REST interface answers no caller: {reason}; they are read again each second, `bolt agent check` has the details")
    });
    app.health.update(CLOSED, problem, true);
}

fn check_config(app: &App, path: &Path, seen: &mut Option<(Option<Stamp>, Option<String>)>) {
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

fn check_enforcement(app: &App, seen: &mut Option<Stamp>) {
    let stamp = Stamp::of(&app.enforcement);
    if stamp == *seen {
        return;
    }
    *seen = stamp;
    // A file that cannot be read is an error of the requests that need it.
    let Ok(Some(enforcement)) = read_json::<Enforcement>(&app.enforcement) else { return };
    app.health.update(LIMITS, missing_limits(&enforcement), true);
}

/// Describes the limits that are required of every execution and that the host does not offer.
fn missing_limits(enforcement: &Enforcement) -> Option<String> {
    let limits = [("memory", enforcement.memory), ("cpu", enforcement.cpu), ("pids", enforcement.pids)];
    let missing: Vec<&str> = limits.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    (enforcement.required && !missing.is_empty()).then(|| {
        format!(
            "no execution can run: limits are required, and the host offers none for {} (an ordinary user has none): run \
             the agent as root, or set execution.require_limits = false",
            missing.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_limits_that_are_missing_are_reported() {
        let all = Enforcement { memory: true, cpu: true, pids: true, required: true, ..Enforcement::default() };
        assert_eq!(missing_limits(&all), None);
        let missing = Enforcement { cpu: false, pids: false, ..all.clone() };
        assert!(missing_limits(&missing).unwrap().contains("none for cpu, pids"));
        assert_eq!(missing_limits(&Enforcement { required: false, ..missing }), None);
    }
}
