//! The one check that an answer is about the peer and about what was asked.
//!
//! The certificate proves which instance is at the other end. An answer names instances, executions, actions and
//! packs as well, and a hostile instance writes what it likes there. Only a type with [`Answer`] can be read from the
//! wire, and its check runs before anybody sees the value: a field that names the peer equals the peer, and a field
//! that repeats the request equals the request. What an instance says about itself is left to it.

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

/// A value that an instance sends, with the check that attributes it to the instance and to the request.
pub trait Answer: DeserializeOwned {
    /// What the request named and the answer must repeat.
    type Asked<'a>: Copy;

    /// Fails if the answer speaks for another instance than `peer`, or about something else than what was asked.
    fn check(&self, peer: &InstanceId, asked: Self::Asked<'_>) -> Result<(), Mismatch>;
}

/// An answer that speaks for another instance, or about something that was not asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It names another instance than the certificate does.
    #[error("its certificate is that of {peer}, but it answers as {claimed}")]
    Instance {
        /// The instance that the certificate names.
        peer: InstanceId,
        /// The instance that the answer names.
        claimed: InstanceId,
    },
    /// It is about something else.
    #[error("it was asked about {what} {asked} and answers about {given}")]
    Subject {
        /// What kind of thing: `execution`, `action`.
        what: &'static str,
        /// What was asked about.
        asked: String,
        /// What the answer is about.
        given: String,
    },
    /// It lists the same thing twice.
    #[error("it lists {what} {name} twice")]
    Twice {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
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

/// Fails at the first name that comes twice: one instance must not count as several.
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

/// How the one execution of an answer was asked for.
#[derive(Clone, Copy)]
pub enum AskedExecution<'a> {
    /// By its id.
    Id(&'a ExecutionId),
    /// By this request, which creates it.
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

/// A version of a pack, named by its digest.
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

/// A line of the output of the execution that the path names; it names nothing itself.
impl Answer for OutputChunk {
    type Asked<'a> = ();

    fn check(&self, _: &InstanceId, (): ()) -> Result<(), Mismatch> {
        Ok(())
    }
}

/// An event of the peer; its executions and actions are the peer's own.
impl Answer for StateChange {
    type Asked<'a> = ();

    fn check(&self, _: &InstanceId, (): ()) -> Result<(), Mismatch> {
        Ok(())
    }
}

/// The OpenAPI document, which names nothing of the instance.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct OpenApi(pub(super) Value);

impl Answer for OpenApi {
    type Asked<'a> = ();

    fn check(&self, _: &InstanceId, (): ()) -> Result<(), Mismatch> {
        Ok(())
    }
}
