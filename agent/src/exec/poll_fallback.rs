//! Polling of execution directories that cannot be watched because the account has no inotify instance or watch left: each is
//! reconciled ten times a second while they are few, else once, and its watch is tried again. States are seen later, and no end
//! is lost.
//!
//! The api needs one inotify instance; the shim of each running execution has one of the account that it runs as. So more than
//! `fs.inotify.max_user_instances` (128) agents of one account leave none.

use std::io;
use std::sync::Weak;
use std::time::{Duration, Instant};

use nix::libc;
use packs_schema::base::name::ExecutionId;
use tokio::sync::Notify;

use super::Exec;
use super::live::LiveExecution;
use super::watch::WatchLevel;
use crate::health::Health;

/// Interval between two polls of many directories, and between attempts to watch again.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval between two polls of few directories.
const SHORT_INTERVAL: Duration = Duration::from_millis(100);
/// Number of directories that are few.
const FEW: usize = 16;
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
        self.engaged.notify_one();
        let is_known = health.has(NOT_WATCHED);
        if is_known && error.kind() == io::ErrorKind::Unsupported {
            // The reason why there is no descriptor is reported already.
            return;
        }
        if !is_known {
            tracing::error!(%error, "cannot watch execution directories; polling them");
        }
        let why = match error.raw_os_error() {
            Some(libc::EMFILE) => "this account has no inotify instance left: raise fs.inotify.max_user_instances",
            Some(libc::ENOSPC) => "this account has no inotify watch left: raise fs.inotify.max_user_watches",
            _ => "see fs.inotify.max_user_instances and max_user_watches",
        };
        let message = format!(
            "execution directories are polled, not watched ({error}): states and output are seen up to a second late; {why}"
        );
        health.set(NOT_WATCHED, message);
    }
}

/// Polls until the handle is dropped.
pub(super) async fn run(exec: Weak<Exec>) {
    let mut tried = Instant::now();
    loop {
        {
            let Some(exec) = exec.upgrade() else { return };
            if !exec.health.has(NOT_WATCHED) {
                exec.poll_fallback.engaged.notified().await;
            }
        }
        {
            let Some(exec) = exec.upgrade() else { return };
            match exec.unwatched().len() {
                // Until the next that cannot be watched.
                0 => drop(tokio::time::timeout(INTERVAL, exec.poll_fallback.engaged.notified()).await),
                1..=FEW => tokio::time::sleep(SHORT_INTERVAL).await,
                _ => tokio::time::sleep(INTERVAL).await,
            }
        }
        let Some(exec) = exec.upgrade() else { return };
        if !exec.watcher.is_available() && tried.elapsed() >= INTERVAL {
            tried = Instant::now();
            if let Ok(inotify) = exec.watcher.enable() {
                exec.dispatch_events(inotify);
            }
        }
        let unwatched = exec.unwatched();
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
        if exec.watcher.is_available() && exec.unwatched().is_empty() {
            tracing::info!("execution directories are watched again");
            exec.health.clear(NOT_WATCHED);
        }
    }
}

impl Exec {
    /// Ids of live executions whose directories are not watched, without those whose end is known.
    fn unwatched(&self) -> Vec<ExecutionId> {
        let is_unwatched = |live: &LiveExecution| live.watch.is_none() && !live.ending;
        self.lock().live.iter().filter(|(_, live)| is_unwatched(live)).map(|(id, _)| id.clone()).collect()
    }
}
