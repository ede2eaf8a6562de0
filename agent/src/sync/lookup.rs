//! Lookup of the role that signs a target. The top-level targets sign everything that they do not delegate; a pack that is
//! delegated to a team is accepted from that team's role only.
//!
//! The search is that of TUF with restrictions: of the delegated roles, the first whose paths match decides; further
//! delegations of such a role are ignored; a target that both the top level and a team list is accepted from neither. Targets
//! that a role lists outside its paths are ignored.

use std::collections::{BTreeMap, HashMap};

use tough::schema::{DelegatedRole, Delegations, Target, Targets};
use tough::{Repository, TargetName};

/// Target with the role that signed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignedTarget<'a> {
    pub(super) target: &'a Target,
    /// Delegated role; `None` for the top-level targets.
    pub(super) role: Option<&'a DelegatedRole>,
}

/// Lookup in a repository's targets.
pub(super) struct Lookup<'a> {
    top: &'a Targets,
    /// Delegated roles in their order, each also as a delegation of its own, as the library needs it for a match.
    roles: Vec<(&'a DelegatedRole, Delegations)>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(repository: &'a Repository) -> Lookup<'a> {
        let top = &repository.targets().signed;
        Lookup { top, roles: roles(top).map(|role| (role, alone(role))).collect() }
    }

    /// Finds the target `name`. The error is the reason why it cannot be accepted.
    pub(super) fn find(&self, name: &TargetName) -> Result<Option<SignedTarget<'a>>, String> {
        let by_top = self.top.targets.get(name);
        let Some(role) = self.delegated(name) else {
            return Ok(by_top.map(|target| SignedTarget { target, role: None }));
        };
        if by_top.is_some() {
            return Err(format!(
                "{} is delegated to {}, but listed by the targets role as well",
                name.raw(),
                role.name
            ));
        }
        let Some(target) = role.targets.as_ref().and_then(|metadata| metadata.signed.targets.get(name)) else {
            return Ok(None);
        };
        // The library fetches what its own search finds: both must find the same target.
        match self.top.find_target(name, false) {
            Ok(other) if std::ptr::eq(other, target) => Ok(Some(SignedTarget { target, role: Some(role) })),
            _ => Err(format!("{} is listed by more than one role", name.raw())),
        }
    }

    /// Returns the names of all targets that [`Lookup::find`] considers, each once, sorted.
    pub(super) fn names(&self) -> Vec<&'a TargetName> {
        let mut names: BTreeMap<&str, &TargetName> = plain(self.top).collect();
        for (role, _) in &self.roles {
            let listed = role.targets.iter().flat_map(|metadata| plain(&metadata.signed));
            for (raw, name) in listed {
                if self.delegated(name).is_some_and(|first| first.name == role.name) {
                    names.insert(raw, name);
                } else {
                    tracing::warn!(role = %role.name, target = raw, "a target outside the delegation is ignored");
                }
            }
        }
        names.into_values().collect()
    }

    /// Returns the first delegated role whose paths match.
    fn delegated(&self, name: &TargetName) -> Option<&'a DelegatedRole> {
        self.roles.iter().find(|(_, alone)| alone.target_is_delegated(name)).map(|(role, _)| *role)
    }
}

/// Returns the roles to which the top level delegates.
pub(super) fn roles(top: &Targets) -> impl Iterator<Item = &DelegatedRole> {
    top.delegations.iter().flat_map(|delegations| &delegations.roles)
}

/// Returns targets with plain names, without `..` and the like.
fn plain(targets: &Targets) -> impl Iterator<Item = (&str, &TargetName)> {
    targets.targets.keys().filter(|name| name.raw() == name.resolved()).map(|name| (name.raw(), name))
}

fn alone(role: &DelegatedRole) -> Delegations {
    let DelegatedRole { name, keyids, threshold, paths, terminating, targets: _ } = role;
    let (name, keyids, threshold) = (name.clone(), keyids.clone(), *threshold);
    let role =
        DelegatedRole { name, keyids, threshold, paths: paths.clone(), terminating: *terminating, targets: None };
    Delegations { keys: HashMap::new(), roles: vec![role] }
}
