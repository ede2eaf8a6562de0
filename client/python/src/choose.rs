//! Which instances a call is for.

use bolt_client::config::Config;
use bolt_client::inventory::{GatherOptions, Gathered, IdPattern, Instance, Sample, Selection};
use bolt_client::runner;
use bolt_client::runs::{Fate, RunStore};
use packs_schema::base::name::RunId;
use packs_schema::delivery::filter::Filter;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::outbox::Outbox;

/// Conditions on instances; all of them must hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    /// Expression.
    r#where: Option<String>,
    /// Ids, globs, and `@failed` … of `from_run`.
    on: Vec<String>,
    region: Vec<String>,
    zone: Vec<String>,
    exclude: Vec<String>,
    sample: Option<usize>,
    seed: u64,
    from_run: Option<String>,
    partial: bool,
    refresh: bool,
}

impl Choice {
    /// True if nothing names instances; `exclude` and `sample` only reduce them.
    fn is_empty(&self) -> bool {
        self.r#where.is_none()
            && self.on.is_empty()
            && self.region.is_empty()
            && self.zone.is_empty()
            && self.from_run.is_none()
    }
}

/// Returns the chosen instances: at least one. Sends warnings of the inventory.
pub(crate) async fn choose(
    choice: &Choice,
    config: &Config,
    store: Option<&dyn RunStore>,
    outbox: &Outbox,
) -> Result<Vec<Instance>, Fault> {
    gather(choice, config, store, outbox).await.map(|(chosen, _)| chosen)
}

/// Returns the chosen instances; fails if nothing was chosen, unless `everywhere` says so or there is one instance only.
pub(crate) async fn choose_explicitly(
    choice: &Choice,
    everywhere: bool,
    config: &Config,
    store: Option<&dyn RunStore>,
    outbox: &Outbox,
) -> Result<Vec<Instance>, Fault> {
    if everywhere && !choice.is_empty() {
        return Err(Fault::argument("everywhere", "it excludes where, on, region, zone and from_run"));
    }
    let (chosen, known) = gather(choice, config, store, outbox).await?;
    if choice.is_empty() && !everywhere && known != 1 {
        return Err(Fault::not_chosen(known));
    }
    Ok(chosen)
}

async fn gather(
    choice: &Choice,
    config: &Config,
    store: Option<&dyn RunStore>,
    outbox: &Outbox,
) -> Result<(Vec<Instance>, usize), Fault> {
    let mut selection = selection(choice)?;
    let options = GatherOptions { partial: choice.partial, refresh: choice.refresh };
    let Gathered { inventory, missing, warnings, .. } = config.inventory(options).await?;
    for text in missing.iter().map(ToString::to_string).chain(warnings) {
        outbox.send(&json!({ "warning": bolt_client::show::visible_lines(&text) }));
    }
    if let Some(run) = &choice.from_run {
        let wanted = fates(&choice.on)?;
        let ids = runner::of_run(store.ok_or_else(Fault::no_store)?, &run_id("from_run", run)?, &wanted).await?;
        let (there, _) = runner::still_there(ids, &inventory);
        if there.is_empty() {
            return Err(Fault::gone(run));
        }
        selection.ids.extend(there.into_iter().map(IdPattern::from));
    }
    Ok((inventory.select(&selection)?, inventory.instances().len()))
}

fn selection(choice: &Choice) -> Result<Selection, Fault> {
    let filter = choice.r#where.as_deref().map(Filter::new).transpose();
    let patterns = |argument: &'static str, texts: &[String]| -> Result<Vec<IdPattern>, Fault> {
        let ids = texts.iter().filter(|text| !text.starts_with('@'));
        ids.map(|text| text.parse().map_err(|error| Fault::argument(argument, error))).collect()
    };
    if choice.from_run.is_none() && choice.on.iter().any(|text| text.starts_with('@')) {
        return Err(Fault::argument("on", "@… chooses instances of a recorded run: name it with from_run"));
    }
    if choice.sample == Some(0) {
        return Err(Fault::argument("sample", "it is at least 1"));
    }
    Ok(Selection {
        filter: filter.map_err(|error| Fault::argument("where", error))?,
        ids: patterns("on", &choice.on)?,
        regions: choice.region.clone(),
        zones: choice.zone.clone(),
        exclude: patterns("exclude", &choice.exclude)?,
        sample: choice.sample.map(|count| Sample { count, seed: choice.seed }),
    })
}

/// Returns in which ways an instance of a recorded run ended that is meant: all, without any id or `@…`.
fn fates(on: &[String]) -> Result<Vec<Fate>, Fault> {
    if on.is_empty() {
        return Ok(Fate::ALL.to_vec());
    }
    let fate = |text: &String| match text.as_str() {
        "@failed" => Ok(Fate::Failed),
        "@unreachable" => Ok(Fate::Unreachable),
        "@not_started" => Ok(Fate::NotStarted),
        "@succeeded" => Ok(Fate::Succeeded),
        _ => Err(Fault::argument("on", "use @failed, @unreachable, @not_started or @succeeded")),
    };
    on.iter().filter(|text| text.starts_with('@')).map(fate).collect()
}

/// Reads the id of a run.
pub(crate) fn run_id(argument: &str, text: &str) -> Result<RunId, Fault> {
    RunId::new(text).map_err(|error| Fault::argument(argument, error))
}

/// Returns an instance as Python gets it.
pub(crate) fn to_json(instance: &Instance) -> Value {
    let facts = &instance.facts;
    json!({
        "id": facts.id, "address": instance.address, "region": facts.region, "zone": facts.zone, "app": facts.app,
        "cluster": facts.cluster, "group": facts.group, "tags": facts.tags,
    })
}
