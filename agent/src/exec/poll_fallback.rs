//! Polling of execution directories that cannot be watched because the host has no inotify instance or watch left: each is
//! reconciled once a second, and its watch is tried again. States are seen later, and no end is lost.

use std::io;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::Notify;

use super::Exec;
use super::watch::WatchLevel;
use crate::health::Health;

/// Interval between two polls.
const INTERVAL: Duration = Duration::from_secs(1);
/// Health code: some directories are polled because they cannot be watched.
const NOT_WATCHED: &str = "not_watched";

/// Wakes the polling task when a directory cannot be watched.
#[derive(Debug, Default)]
pub(super) struct PollFallback {
    engaged: Notify,
}

impl PollFallback {
    /// Starts polling, and reports why in health.
    pub(super) fn engage(&self, health: &Health, error: &io::Error) {
        if !health.has(NOT_WATCHED) {
            tracing::error!(%error, "cannot watch execution directories; polling them every second");
        }
        let message = format!(
            "execution directories cannot be watched ({error}): states and output are seen up to a second late; \
             see fs.inotify.max_user_watches and max_user_instances"
        );
        health.set(NOT_WATCHED, message);
        self.engaged.notify_one();
    }
}

/// Polls until the handle is dropped.
pub(super) async fn run(exec: Weak<Exec>) {
    loop {
        {
            let Some(exec) = exec.upgrade() else { return };
            if !exec.health.has(NOT_WATCHED) {
                exec.poll_fallback.engaged.notified().await;
            }
        }
        tokio::time::sleep(INTERVAL).await;
        let Some(exec) = exec.upgrade() else { return };
        let unwatched: Vec<_> =
            exec.lock().live.iter().filter(|(_, live)| live.watch.is_none()).map(|(id, _)| id.clone()).collect();
        for id in &unwatched {
            if let Ok(watch) = exec.watcher.watch(&exec.directory(id), id, WatchLevel::States)
                && let Some(live) = exec.lock().live.get_mut(id)
            {
                live.watch = Some(watch);
            }
            // Also when the watch succeeded: something may have changed before it.
            exec.notify_followers(id);
            exec.reconcile(id);
        }
        if exec.watcher.is_available() && exec.lock().live.values().all(|live| live.watch.is_some()) {
            tracing::info!("execution directories are watched again");
            exec.health.clear(NOT_WATCHED);
        }
    }
}
