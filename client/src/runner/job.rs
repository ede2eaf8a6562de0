//! A run that is recorded, and carrying it out.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;

use packs_schema::base::name::ActionRef;
use packs_schema::pack::action::Class;

use super::mask::{mask_execution, mask_report};
use super::{Prepared, RunError, definition};
use crate::definitions::Definitions;
use crate::fleet::{self, Control, Earlier, Ending, Event, Fence, Observer, Report, Run, Stopped};
use crate::parameters;
use crate::runs::{Entry, Head, Recorder, RunStore, StoreError, StoredPlan};
use crate::show::Mask;
use crate::show::when::now_ms;
use crate::tls::Identity;

/// Run that is recorded and may start.
pub struct Job {
    /// The run.
    pub run: Run,
    /// Class of its action.
    pub class: Class,
    /// Masks the secret parameters.
    pub mask: Mask,
    /// Part of it that an earlier client has done.
    pub earlier: Earlier,
    /// Record of the run; `None` if it is not recorded.
    pub recorder: Option<Recorder>,
}

/// Part of a [`Job`] that [`carry_out`] takes.
pub struct Work<'a> {
    /// The run.
    pub run: &'a Run,
    /// Masks the secret parameters.
    pub mask: &'a Mask,
    /// Part of the run that an earlier client has done.
    pub earlier: Earlier,
    /// Record of the run.
    pub recorder: Option<Recorder>,
}

/// Shows the progress of a run.
pub trait View: Observer {
    /// All instances have ended; the record is completed next.
    fn finished(&mut self) {}

    /// Another version of the pack marks more parameters as secret: what was stored elsewhere is masked as well.
    fn masked(&mut self, _mask: &Mask) {}

    /// Another client has taken over the run: nothing more starts here. Called in place of [`Event::Stopping`]; the error was
    /// given to `on_failure` before.
    fn lost(&mut self) {}
}

impl Job {
    /// Records a new run in `store`; with `None` it is not recorded. `on_failure` is called once if the record cannot be written
    /// later: the run goes on, unless another client has taken it over ([`StoreError::Lost`]).
    pub async fn record(
        prepared: Prepared,
        store: Option<Arc<dyn RunStore>>,
        on_failure: impl FnOnce(&StoreError) + Send + 'static,
    ) -> Result<Job, RunError> {
        let Prepared { run, view, mask, principal } = prepared;
        let action = &view.action;
        let recorder = match store {
            None => None,
            Some(store) => {
                let secrets = parameters::secret_names(&action.parameters, &run.request.parameters);
                let is_secret =
                    |of: &ActionRef, name: &str| *of == run.request.action && secrets.iter().any(|s| s == name);
                let head = Head::new(&run, action.class, principal.as_deref(), now_ms());
                let lease =
                    store.create(&head, &StoredPlan::new(&run, is_secret)).await.map_err(|error| match error {
                        StoreError::Exists(_) => RunError::Store(error),
                        _ => RunError::Unrecordable(error),
                    })?;
                Some(Recorder::new(lease, on_failure))
            }
        };
        Ok(Job { run, class: action.class, mask, earlier: Earlier::default(), recorder })
    }
}

/// Passes the progress on to the view and the record.
struct Observing<'a, V> {
    view: &'a mut V,
    recorder: Option<&'a Recorder>,
    mask: &'a Mask,
    is_lost: &'a Cell<bool>,
}

impl<V: View> Observer for Observing<'_, V> {
    fn event(&mut self, event: Event) {
        if let Some(recorder) = self.recorder {
            recorder.event(&event);
        }
        let is_lost = self.is_lost.get() || self.recorder.is_some_and(Recorder::is_lost);
        if is_lost && matches!(event, Event::Stopping { .. }) {
            return self.view.lost();
        }
        self.view.event(event);
    }

    fn fence(&self) -> Option<Arc<dyn Fence>> {
        self.recorder.and_then(Recorder::fence)
    }

    fn ended(&mut self, target: usize, ending: &Ending) {
        if let Some(recorder) = self.recorder {
            recorder.ended(
                target,
                ending,
                |execution| mask_execution(execution, self.mask),
                |text| self.mask.text(text),
            );
        }
        self.view.ended(target, ending);
    }

    fn keep(&mut self, target: usize, ending: Ending) -> Ending {
        self.view.keep(target, ending)
    }
}

/// Carries out a run and completes its record. The report holds no secret value that was given.
///
/// When `given_up` completes first, its result is returned as the error: what was started goes on, and the record says that the
/// run has not ended.
pub async fn carry_out<T>(
    work: Work<'_>,
    identity: &Identity,
    definitions: &mut Definitions,
    control: &Control,
    view: &mut impl View,
    given_up: impl Future<Output = T>,
) -> Result<Report, T> {
    let Work { run, mask, earlier, recorder } = work;
    let is_lost = Cell::new(false);
    let observing = Observing { view, recorder: recorder.as_ref(), mask, is_lost: &is_lost };
    let running = Box::pin(fleet::resume(run, earlier, identity, control, observing));
    let given_up = pin!(given_up);
    let ended = {
        let stopping = pin!(stop_when_lost(recorder.as_ref(), control, &is_lost));
        tokio::select! {
            report = running => Ok(report),
            why = given_up => Err(why),
            () = stopping => unreachable!("it never completes"),
        }
    };
    let mut report = match ended {
        Ok(report) => report,
        Err(why) => {
            close(recorder, None).await;
            return Err(why);
        }
    };
    view.finished();
    close(recorder, Some(report.stopped)).await;
    mask_report(&mut report, mask);
    // Another version may mark other parameters as secret.
    for other in definition::learn(run, &report, identity, definitions).await {
        let more = Mask::of_parameters(&other.action.parameters, &run.request.parameters);
        mask_report(&mut report, &more);
        view.masked(&more);
    }
    Ok(report)
}

/// Stops the run once another client has taken it over. Never completes.
async fn stop_when_lost(recorder: Option<&Recorder>, control: &Control, is_lost: &Cell<bool>) {
    if let Some(recorder) = recorder {
        recorder.lost().await;
        is_lost.set(true);
        control.stop();
    }
    std::future::pending().await
}

/// Writes the rest of the record, with the end of the run: `Some(why it was stopped)`. An error of the record was reported when it
/// happened.
pub async fn close(recorder: Option<Recorder>, end: Option<Option<Stopped>>) {
    let Some(recorder) = recorder else { return };
    if let Some(stopped) = end {
        recorder.add(Entry::Done { at_ms: now_ms(), stopped });
    }
    let _ = recorder.finish().await;
}
