//! Carries out the operations of Python.

use std::sync::Arc;

use bolt_client::config::Config;
use bolt_client::connection::ExecutionQuery;
use bolt_client::definitions::Definitions;
use bolt_client::fleet::{Before, Control, DEFAULT_PARALLEL, Run, across};
use bolt_client::runner::{self, Job, Prepared, Retried, Values, Work};
use bolt_client::runs::{RunStore, StoreError};
use bolt_client::show;
use bolt_client::tls::Identity;
use packs_schema::base::name::RunId;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::arguments::{Call, Kind, RunArguments, note};
use crate::choose::{Choice, choose, choose_explicitly, run_id, to_json};
use crate::fault::{Fault, of_instance};
use crate::outbox::{Outbox, Stage};
use crate::report::{self, Progress};

/// Name of the argument that gives the configuration file, for errors.
const CONFIG: &str = "Fleet(config)";

/// Configuration, store and channels that all operations share.
struct Context<'a> {
    config: Config,
    store: Option<Arc<dyn RunStore>>,
    record: bool,
    progress: bool,
    outbox: &'a Arc<Outbox>,
    control: &'a Control,
    stage: watch::Receiver<Stage>,
}

/// Carries out an operation.
pub(crate) async fn carry_out(
    call: Call,
    outbox: &Arc<Outbox>,
    control: &Control,
    stage: watch::Receiver<Stage>,
) -> Result<Value, Fault> {
    let Call { config, record, progress, operation } = call;
    let config = Config::open(config.as_deref(), CONFIG)?;
    let store = runner::store(&config)?;
    Context { config, store, record, progress, outbox, control, stage }.operate(operation).await
}

impl Context<'_> {
    async fn operate(&self, operation: Kind) -> Result<Value, Fault> {
        match operation {
            Kind::Instances { choice } => {
                let chosen = choose(&choice, &self.config, self.store.as_deref(), self.outbox);
                Ok(self.unless_stopped(chosen).await?.iter().map(to_json).collect())
            }
            Kind::Run(arguments) => self.run(*arguments).await,
            Kind::Resume { run, secrets, confirmed } => self.resume(&run, secrets, confirmed).await,
            Kind::Retry { run, secrets, unreachable, not_started, confirmed } => {
                let (run, identity) = (run_id("run", &run)?, self.config.identity()?);
                let mut values = Values { parameters: secrets, check: Map::new() };
                let (store, which) = (self.store()?, Retried { unreachable, not_started });
                let prepared = runner::retry(&*store, &run, which, &identity, &mut values);
                self.start(self.unless_stopped(prepared).await?, confirmed, &identity).await
            }
            Kind::Runs {} => {
                let listing = self.store()?.list(usize::MAX).await?;
                listing.problems.iter().for_each(|problem| self.warn(problem));
                serde_json::to_value(listing.heads).map_err(|_| Fault::panicked())
            }
            Kind::Kill { run, choice, note: text } => {
                let note = note(text.as_deref())?;
                self.unless_stopped(self.kill(&run, &choice, note.as_deref())).await
            }
        }
    }

    /// Carries out what starts nothing; ends at once when the caller stops the operation.
    async fn unless_stopped<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Fault>
    where
        Fault: From<E>,
    {
        tokio::select! {
            done = work => done.map_err(Fault::from),
            () = self.reached(Stage::Stopping) => Err(Fault::given_up()),
        }
    }

    /// Waits until the caller has come to a stage, or to a later one.
    async fn reached(&self, wanted: Stage) {
        if self.stage.clone().wait_for(|stage| *stage >= wanted).await.is_err() {
            // The handle was dropped, which says so before: the sender is gone and nothing more comes.
            std::future::pending::<()>().await;
        }
    }

    fn store(&self) -> Result<Arc<dyn RunStore>, Fault> {
        self.store.clone().ok_or_else(Fault::no_store)
    }

    fn warn(&self, problem: &StoreError) {
        self.outbox.send(&json!({ "warning": show::visible_lines(&problem.to_string()) }));
    }

    /// Returns what happens when the record of a run can no longer be written.
    fn on_store_failure(&self) -> impl FnOnce(&StoreError) + Send + 'static {
        let outbox = self.outbox.clone();
        move |problem| {
            let text = match problem {
                StoreError::Lost { .. } => format!("{problem}; nothing more is started from here"),
                _ => format!("{problem}; the run goes on, and its record may end here"),
            };
            outbox.send(&json!({ "warning": show::visible_lines(&text) }));
        }
    }

    async fn run(&self, arguments: RunArguments) -> Result<Value, Fault> {
        let order = arguments.order()?;
        let RunArguments { parameters, check_parameters, choice, everywhere, confirmed, .. } = arguments;
        let chosen = choose_explicitly(&choice, everywhere, &self.config, self.store.as_deref(), self.outbox);
        let targets = self.unless_stopped(chosen).await?;
        let identity = self.config.identity()?;
        let mut definitions = Definitions::open(&self.config);
        let mut values = Values { parameters, check: check_parameters };
        let prepared = runner::prepare(&order, targets, &identity, &mut definitions, &mut values);
        self.start(self.unless_stopped(prepared).await?, confirmed, &identity).await
    }

    /// Records a run and carries it out, if it is confirmed or may begin without that.
    async fn start(&self, prepared: Prepared, confirmed: bool, identity: &Identity) -> Result<Value, Fault> {
        if prepared.changes() && !confirmed {
            check_confirmed(&prepared.run, |_| true)?;
        }
        let store = self.store.clone().filter(|_| self.record);
        let job = Job::record(prepared, store, self.on_store_failure()).await?;
        self.carry_out(job, identity).await
    }

    async fn resume(&self, run: &str, secrets: Map<String, Value>, confirmed: bool) -> Result<Value, Fault> {
        let (run, identity) = (run_id("run", run)?, self.config.identity()?);
        let mut values = Values { parameters: secrets, check: Map::new() };
        let found = runner::resumable(self.store()?, &run, &identity, &mut values);
        let found = self.unless_stopped(found).await?;
        if found.changes() && !confirmed {
            check_confirmed(&found.run, |target| found.before.get(target) == Some(&Before::Untouched))?;
        }
        let job = self.unless_stopped(found.take_over(self.on_store_failure())).await?;
        self.carry_out(job, &identity).await
    }

    async fn carry_out(&self, job: Job, identity: &Identity) -> Result<Value, Fault> {
        let Job { run, mask, earlier, recorder, .. } = job;
        self.outbox.send(&json!({ "began": { "run_id": run.id, "is_recorded": recorder.is_some() } }));
        let ended = earlier.before.iter().filter(|before| matches!(before, Before::Ended(_))).count();
        let mut progress = Progress { run: &run, mask: &mask, outbox: self.outbox, is_wanted: self.progress, ended };
        let mut definitions = Definitions::open(&self.config);
        let work = Work { run: &run, mask: &mask, earlier, recorder };
        let given_up = self.reached(Stage::GivenUp);
        match runner::carry_out(work, identity, &mut definitions, self.control, &mut progress, given_up).await {
            Ok(report) => Ok(report::send(&run, report, self.outbox)),
            Err(()) => Err(Fault::given_up()),
        }
    }

    /// Kills the executions of a run that have not ended.
    async fn kill(&self, run: &str, choice: &Choice, note: Option<&str>) -> Result<Value, Fault> {
        let run: RunId = run_id("run", run)?;
        let targets = choose(choice, &self.config, self.store.as_deref(), self.outbox).await?;
        let identity = self.config.identity()?;
        let query = ExecutionQuery { run: Some(run), ..ExecutionQuery::default() };
        let answers = across(&targets, &identity, DEFAULT_PARALLEL, async |agent| {
            let mut killed = Vec::new();
            for execution in runner::unended(agent, &query).await? {
                killed.push(runner::kill(agent, &execution.id, note).await?.0);
            }
            Ok(killed)
        })
        .await;
        let (mut killed, mut failed) = (Vec::new(), Vec::new());
        for (_, answer) in answers {
            match answer {
                Ok(executions) => killed.extend(executions.iter().map(report::execution_json)),
                Err(error) => failed.push(of_instance(&error)),
            }
        }
        Ok(json!({ "killed": killed, "failed": failed }))
    }
}

/// Fails if a run that was not confirmed would start on more than one instance, of those that `is_left` names.
fn check_confirmed(run: &Run, is_left: impl Fn(usize) -> bool) -> Result<(), Fault> {
    let batches: Vec<(&str, Vec<usize>)> = run
        .plan
        .batches()
        .iter()
        .map(|batch| (batch.name.as_str(), batch.targets.iter().copied().filter(|target| is_left(*target)).collect()))
        .collect();
    let count = batches.iter().map(|(_, targets)| targets.len()).sum();
    if count < 2 {
        return Ok(());
    }
    let batch = |(name, targets): &(&str, Vec<usize>)| {
        let ids: Vec<_> = targets.iter().map(|target| run.targets[*target].id()).collect();
        json!({ "name": show::visible(name), "instances": ids })
    };
    let plan = batches.iter().filter(|(_, targets)| !targets.is_empty()).map(batch).collect();
    let what = format!("{} changes {}", run.request.action, show::counted(count, "instance"));
    Err(Fault::not_confirmed(what, plan))
}
