//! Checks that an answer is about the peer and about the request.
//!
//! The certificate proves which instance is at the other end. An answer names instances, executions, actions and
//! packs as well, and a hostile instance can write anything there. Only a type that implements [`Answer`] can be read
//! from the wire, and its check runs before the value is returned: a field that names the peer must equal the peer, and a
//! field that repeats the request must equal the request. Other statements of an instance about itself are not checked.

use std::collections::HashSet;
use std::fmt;

use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::{
    AccessReview, AccessTarget, ActionView, CreateExecution, Execution, Health, Info, OutputChunk, PackList, PackView,
    Page, Pushed, StateChange, Unpushed,
};
use packs_schema::base::name::{ActionRef, Digest, ExecutionId, InstanceId, PackName, PackVersion};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::mismatch::Mismatch;

/// Value that an instance sends, with a check that it belongs to the instance and to the request.
pub trait Answer: DeserializeOwned {
    /// Part of the request that the answer must repeat.
    type Asked<'a>: Copy;

    /// Fails if the answer names another instance than `peer`, or is about something other than `asked`.
    fn check(&self, peer: &InstanceId, asked: Self::Asked<'_>) -> Result<(), Mismatch>;
}

fn same_instance(peer: &InstanceId, claimed: &InstanceId) -> Result<(), Mismatch> {
    match peer == claimed {
        true => Ok(()),
        false => Err(Mismatch::Instance { peer: peer.clone(), claimed: claimed.clone() }),
    }
}

fn same<T: PartialEq + fmt::Display>(what: &'static str, asked: &T, given: &T) -> Result<(), Mismatch> {
    match asked == given {
        true => Ok(()),
        false => Err(Mismatch::Subject { what, asked: asked.to_string(), given: given.to_string() }),
    }
}

/// Fails at the first duplicate name: one instance must not count as several.
pub(super) fn unique<T: fmt::Display>(what: &'static str, names: impl Iterator<Item = T>) -> Result<(), Mismatch> {
    let mut seen = HashSet::new();
    for name in names {
        let name = name.to_string();
        if seen.contains(&name) {
            return Err(Mismatch::Twice { what, name });
        }
        seen.insert(name);
    }
    Ok(())
}

/// Request to which an answer with one execution belongs.
#[derive(Clone, Copy)]
pub enum AskedExecution<'a> {
    /// Request for an execution by id.
    Id(&'a ExecutionId),
    /// Request that creates the execution.
    Create(&'a CreateExecution),
}

impl Answer for Execution {
    type Asked<'a> = AskedExecution<'a>;

    fn check(&self, peer: &InstanceId, asked: AskedExecution<'_>) -> Result<(), Mismatch> {
        same_instance(peer, &self.instance)?;
        match asked {
            AskedExecution::Id(id) => same("execution", id, &self.id),
            AskedExecution::Create(create) => {
                same("action", &create.action, &self.action)?;
                same("version", create.version.as_ref().unwrap_or(&self.version), &self.version)?;
                let run =
                    |run: Option<&packs_schema::base::name::RunId>| run.map_or("none".to_owned(), ToString::to_string);
                same("run", &run(create.run.as_ref()), &run(self.run.as_ref()))?;
                let noop = |noop: bool| if noop { "dry run" } else { "real run" };
                same("an execution as", &noop(create.noop), &noop(self.noop))
            }
        }
    }
}

impl Answer for Page<Execution> {
    type Asked<'a> = ();

    fn check(&self, peer: &InstanceId, (): ()) -> Result<(), Mismatch> {
        self.items.iter().try_for_each(|execution| same_instance(peer, &execution.instance))?;
        unique("execution", self.items.iter().map(|execution| &execution.id))
    }
}

impl Answer for Health {
    type Asked<'a> = ();

    fn check(&self, peer: &InstanceId, (): ()) -> Result<(), Mismatch> {
        same_instance(peer, &self.instance)
    }
}

impl Answer for Info {
    type Asked<'a> = ();

    fn check(&self, peer: &InstanceId, (): ()) -> Result<(), Mismatch> {
        same_instance(peer, &self.instance.id)
    }
}

impl Answer for PackList {
    type Asked<'a> = ();

    fn check(&self, _: &InstanceId, (): ()) -> Result<(), Mismatch> {
        unique("pack", self.items.iter().map(|pack| &pack.name))
    }
}

impl Answer for PackView {
    type Asked<'a> = &'a PackName;

    fn check(&self, _: &InstanceId, asked: &PackName) -> Result<(), Mismatch> {
        same("pack", asked, &self.name)
    }
}

impl Answer for Page<ActionView> {
    type Asked<'a> = ();

    fn check(&self, _: &InstanceId, (): ()) -> Result<(), Mismatch> {
        unique("action", self.items.iter().map(|view| view.action.reference()))
    }
}

impl Answer for ActionView {
    type Asked<'a> = &'a ActionRef;

    fn check(&self, _: &InstanceId, asked: &ActionRef) -> Result<(), Mismatch> {
        same("action", asked, &self.action.reference())
    }
}

impl Answer for AccessReview {
    type Asked<'a> = (Verb, Option<&'a AccessTarget>);

    fn check(&self, peer: &InstanceId, (verb, target): (Verb, Option<&AccessTarget>)) -> Result<(), Mismatch> {
        same_instance(peer, &self.instance)?;
        same("verb", &verb, &self.verb)?;
        let text = |target: Option<&AccessTarget>| target.map_or("anything".to_owned(), ToString::to_string);
        same("action", &text(target), &text(self.action.as_ref()))
    }
}

/// Pack version with its digest.
pub(super) type AskedVersion<'a> = (&'a PackName, &'a PackVersion, &'a Digest);

impl Answer for Pushed {
    type Asked<'a> = AskedVersion<'a>;

    fn check(&self, _: &InstanceId, (pack, version, digest): AskedVersion<'_>) -> Result<(), Mismatch> {
        same("pack", pack, &self.pack)?;
        same("version", version, &self.version)?;
        same("digest", digest, &self.digest)
    }
}

impl Answer for Unpushed {
    type Asked<'a> = &'a PackName;

    fn check(&self, _: &InstanceId, asked: &PackName) -> Result<(), Mismatch> {
        same("pack", asked, &self.pack)
    }
}

/// A line of output. The path names the execution; the line itself names nothing that could be checked.
impl Answer for OutputChunk {
    type Asked<'a> = ();

    fn check(&self, _: &InstanceId, (): ()) -> Result<(), Mismatch> {
        Ok(())
    }
}

/// An event. Its executions and actions belong to the peer, so there is nothing to compare with the request.
impl Answer for StateChange {
    type Asked<'a> = ();

    fn check(&self, _: &InstanceId, (): ()) -> Result<(), Mismatch> {
        Ok(())
    }
}

/// The OpenAPI document, which names no instance.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct OpenApi(pub(super) Value);

impl Answer for OpenApi {
    type Asked<'a> = ();

    fn check(&self, _: &InstanceId, (): ()) -> Result<(), Mismatch> {
        Ok(())
    }
}
