//! Looking after executions whose directories cannot be watched, because the host has no inotify instance or watch left:
//! each is looked at once a second, and its watch is tried again. Slower, and no end is lost.

use std::io;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::Notify;

use super::Exec;
use super::watch::Care;
use crate::health::Health;

/// How often those are looked at that are not watched.
const EVERY: Duration = Duration::from_secs(1);
/// The code of health.
pub(super) const NOT_WATCHED: &str = "not_watched";

/// Whether there are any.
#[derive(Debug, Default)]
pub(super) struct Blind {
    some: Notify,
}

impl Blind {
    /// From now on there is at least one.
    pub(super) fn begin(&self, health: &Health, error: &io::Error) {
        if !health.has(NOT_WATCHED) {
            tracing::error!(%error, "cannot watch execution directories; they are looked at every second");
        }
        let message = format!(
            "execution directories cannot be watched ({error}): states and output are seen up to a second late; \
             see fs.inotify.max_user_watches and max_user_instances"
        );
        health.set(NOT_WATCHED, message);
        self.some.notify_one();
    }
}

/// Runs as long as the executions are looked after.
pub(super) async fn run(exec: Weak<Exec>) {
    loop {
        {
            let Some(exec) = exec.upgrade() else { return };
            if !exec.health.has(NOT_WATCHED) {
                exec.blind.some.notified().await;
            }
        }
        tokio::time::sleep(EVERY).await;
        let Some(exec) = exec.upgrade() else { return };
        let blind: Vec<_> =
            exec.lock().live.iter().filter(|(_, live)| live.watch.is_none()).map(|(id, _)| id.clone()).collect();
        for id in &blind {
            if let Ok(watch) = exec.watcher.watch(&exec.directory(id), id, Care::States)
                && let Some(live) = exec.lock().live.get_mut(id)
            {
                live.watch = Some(watch);
            }
            // Also when it is watched now: something may have come before.
            exec.stir(id);
            exec.reconcile(id);
        }
        if exec.watcher.works() && exec.lock().live.values().all(|live| live.watch.is_some()) {
            tracing::info!("execution directories are watched again");
            exec.health.clear(NOT_WATCHED);
        }
    }
}
