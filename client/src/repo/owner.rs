//! Owners of targets: the targets role, or the role of a team.

use std::collections::HashMap;

use packs_schema::base::name::TeamName;
use tough::schema::{DelegatedRole, Delegations};

/// Role that signs for a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owner {
    /// The targets role.
    Top,
    /// A team's role.
    Team(TeamName),
}

impl Owner {
    /// Returns the name of the role and of its key files.
    pub(super) fn role(&self) -> String {
        match self {
            Owner::Top => "targets".to_owned(),
            Owner::Team(team) => format!("team-{team}"),
        }
    }

    /// Returns the owner for a role that `bolt repo delegate` made.
    pub(super) fn of_role(role: &str) -> Option<Owner> {
        Some(Owner::Team(TeamName::new(role.strip_prefix("team-")?).ok()?))
    }

    pub(super) fn team(&self) -> Option<&TeamName> {
        match self {
            Owner::Top => None,
            Owner::Team(team) => Some(team),
        }
    }
}

/// Returns delegations with this role alone, to ask what it may list.
pub(super) fn alone(role: &DelegatedRole) -> Delegations {
    let role = DelegatedRole { targets: None, ..role.clone() };
    Delegations { keys: HashMap::new(), roles: vec![role] }
}
