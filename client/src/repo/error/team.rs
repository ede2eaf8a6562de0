//! Errors of delegations to teams.

use std::path::PathBuf;

use packs_schema::base::name::{PackName, TeamName};

/// Error about a delegation.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// The pack is not delegated to this team.
    #[error("pack {pack} is not delegated to team {team}: {owner} signs for it")]
    NotDelegated {
        /// The pack.
        pack: PackName,
        /// The team.
        team: TeamName,
        /// Role that signs for it.
        owner: String,
    },
    /// Another team has the pack.
    #[error("pack {pack} is delegated to team {team} already; `bolt repo undelegate {team} {pack}` takes it back")]
    Taken {
        /// The pack.
        pack: PackName,
        /// The team.
        team: TeamName,
    },
    /// There is no such team.
    #[error("there is no team {0} in this repository")]
    NoTeam(TeamName),
    /// The team has no key.
    #[error(
        "{0} has no key yet: give --new-key DIR, --team-keys DIR, or --public-key FILE with what `bolt repo team-key` wrote"
    )]
    NoTeamKey(String),
    /// The file is not the team's public key.
    #[error("{} is not the public key of {role} that `bolt repo team-key` writes", crate::show::path(path))]
    NotAPublicKey {
        /// The file.
        path: PathBuf,
        /// Role that it should belong to.
        role: String,
    },
    /// The team's name was used before.
    #[error(
        "{0} is there already, or was: give no key where its keys stay, its private key with --team-keys DIR, or choose another name for the team"
    )]
    TeamUsed(String),
    /// The published versions would move to the team, whose private key is needed to sign them.
    #[error(
        "{pack} is published already, so what is published moves to team {team}, which has to sign for it: give the team's \
         private key with --team-keys DIR, or make one with --new-key DIR"
    )]
    NeedsTeamKey {
        /// The team.
        team: TeamName,
        /// The pack.
        pack: PackName,
    },
    /// The team would have too many packs.
    #[error("{role} would have more than {most} packs")]
    TooManyPacks {
        /// The team's role.
        role: String,
        /// Maximum number of packs.
        most: usize,
    },
}
