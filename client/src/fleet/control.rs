//! The caller's handle on a run that is being carried out.

use tokio::sync::watch;

/// Stops a run, and confirms its batches. Clones refer to the same run.
#[derive(Debug, Clone)]
pub struct Control {
    is_stopped: watch::Sender<bool>,
    answer: watch::Sender<Option<bool>>,
}

impl Default for Control {
    fn default() -> Control {
        Control { is_stopped: watch::Sender::new(false), answer: watch::Sender::new(None) }
    }
}

impl Control {
    /// Stops further starts; executions that were started go on.
    pub fn stop(&self) {
        self.is_stopped.send_replace(true);
    }

    /// Answers [`Event::Confirm`](super::Event::Confirm): the next batch begins, or nothing more starts.
    pub fn confirm(&self, may_begin: bool) {
        self.answer.send_replace(Some(may_begin));
    }

    pub(super) fn listen(&self) -> Listener {
        Listener {
            is_stopped: self.is_stopped.subscribe(),
            answer: self.answer.clone(),
            answered: self.answer.subscribe(),
        }
    }
}

/// The run's end of a [`Control`].
pub(super) struct Listener {
    is_stopped: watch::Receiver<bool>,
    answer: watch::Sender<Option<bool>>,
    answered: watch::Receiver<Option<bool>>,
}

impl Listener {
    pub(super) fn is_stopped(&mut self) -> bool {
        *self.is_stopped.borrow_and_update()
    }

    /// Takes the answer to the last question, if it was given.
    pub(super) fn take_answer(&mut self) -> Option<bool> {
        let answer = *self.answered.borrow_and_update();
        if answer.is_some() {
            self.answer.send_replace(None);
        }
        answer
    }

    /// Forgets answers that no question had asked for.
    pub(super) fn forget_answers(&mut self) {
        self.answer.send_replace(None);
        self.answered.mark_unchanged();
    }

    /// Waits until the caller has stopped or answered something. Cancel safe.
    pub(super) async fn changed(&mut self) {
        // The senders live in this value and in `Control`, of which the caller keeps one.
        tokio::select! {
            Ok(()) = self.is_stopped.changed() => {}
            Ok(()) = self.answered.changed() => {}
            else => std::future::pending().await,
        }
    }
}
