//! Who signs for a target. The top-level targets sign for all but what they delegate; a pack that is delegated to a team
//! comes from that team's role and from nowhere else.
//!
//! The search is TUF's own, made narrower: of the delegated roles the first whose paths match decides, whatever it says of
//! others; what such a role delegates further is not looked at; and a target that both the top level and a team list is
//! taken from neither. What a role lists outside its paths is as if it were not there.

use std::collections::{BTreeMap, HashMap};

use tough::schema::{DelegatedRole, Delegations, Target, Targets};
use tough::{Repository, TargetName};

/// What is signed of a target, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) target: &'a Target,
    /// The delegated role; `None` for the top-level targets.
    pub(super) role: Option<&'a DelegatedRole>,
}

/// What can be asked of a repository's targets.
pub(super) struct Lookup<'a> {
    top: &'a Targets,
    /// The delegated roles in their order, and each alone as the library wants it for a match.
    roles: Vec<(&'a DelegatedRole, Delegations)>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(repository: &'a Repository) -> Lookup<'a> {
        let top = &repository.targets().signed;
        Lookup { top, roles: roles(top).map(|role| (role, alone(role))).collect() }
    }

    /// Finds what is signed of `name`. An error says why nothing can be taken.
    pub(super) fn find(&self, name: &TargetName) -> Result<Option<Found<'a>>, String> {
        let by_top = self.top.targets.get(name);
        let Some(role) = self.delegated(name) else {
            return Ok(by_top.map(|target| Found { target, role: None }));
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
        // The library fetches what its own search finds: both must mean the same.
        match self.top.find_target(name, false) {
            Ok(other) if std::ptr::eq(other, target) => Ok(Some(Found { target, role: Some(role) })),
            _ => Err(format!("{} is listed by more than one role", name.raw())),
        }
    }

    /// The names of all targets that [`Lookup::find`] looks at, each once, sorted.
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

    /// The first delegated role whose paths match.
    fn delegated(&self, name: &TargetName) -> Option<&'a DelegatedRole> {
        self.roles.iter().find(|(_, alone)| alone.target_is_delegated(name)).map(|(role, _)| *role)
    }
}

/// The roles to which the top level delegates.
pub(super) fn roles(top: &Targets) -> impl Iterator<Item = &DelegatedRole> {
    top.delegations.iter().flat_map(|delegations| &delegations.roles)
}

/// Names that mean what they say, without `..` and the like.
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
