//! Warnings before the repository's signatures end: after that, nothing new is activated.

use packs_schema::agent::rest::{Reason, SyncStatus};

use super::reason;
use crate::expiry::{End, Stage};

/// Health code while signatures end soon.
const EXPIRING: &str = "metadata_expiring";

/// Returns the ends of the signatures that the last complete verification found.
pub(crate) fn ends(status: &SyncStatus) -> Vec<End> {
    let end = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let roles = status.expires.iter();
    roles
        .map(|one| End { kind: "signature", name: one.role.clone(), begin_s: None, end_s: end(one.expires_at_ms) })
        .collect()
}

/// Describes the signatures that end soon: as a problem, or as a note while there is much time left.
pub(super) fn warning(status: &SyncStatus, now_s: i64) -> Option<(Stage, Reason)> {
    let soon: Vec<(Stage, String)> = ends(status)
        .iter()
        .filter_map(|end| {
            // The poll that finds an end reports it.
            let stage = end.stage(now_s).filter(|stage| *stage != Stage::Ended)?;
            Some((
                stage,
                format!("the signature of the repository's {} metadata {}", end.name, stage.describe(end.end_s)),
            ))
        })
        .collect();
    let stage = soon.iter().map(|(stage, _)| *stage).max()?;
    let messages: Vec<String> = soon.into_iter().map(|(_, message)| message).collect();
    Some((
        stage,
        reason(
            EXPIRING,
            format!("{}: run `bolt repo refresh`, or `bolt repo rotate-root` for the root", messages.join("; ")),
        ),
    ))
}

#[cfg(test)]
mod tests {
    use packs_schema::agent::rest::SignatureEnd;

    use super::*;

    #[test]
    fn signatures_that_end_soon_are_reported_with_their_role() {
        const DAY_S: i64 = 86_400;
        let status = |role: &str| SyncStatus {
            expires: vec![SignatureEnd { role: role.to_owned(), expires_at_ms: 100 * 86_400_000 }],
            ..SyncStatus::default()
        };
        let stage = |role: &str, left_s: i64| warning(&status(role), 100 * DAY_S - left_s).map(|(stage, _)| stage);
        assert_eq!(stage("root", 30 * DAY_S), None);
        assert_eq!(stage("root", 29 * DAY_S), Some(Stage::Month));
        assert_eq!(stage("team-a", 6 * DAY_S), Some(Stage::Week));
        assert_eq!(stage("targets", DAY_S / 2), Some(Stage::Day));
        assert_eq!(stage("targets", -1), None, "the poll reports it");
        // These are signed again every few days.
        assert_eq!(stage("timestamp", 29 * DAY_S), None);
        assert_eq!(stage("timestamp", 6 * DAY_S), Some(Stage::Month));
        assert_eq!(stage("snapshot", DAY_S / 2), Some(Stage::Week));
        let (_, reason) = warning(&status("targets"), 99 * DAY_S + 1).unwrap();
        assert_eq!(reason.code, "metadata_expiring");
        assert!(reason.message.contains("targets metadata expires at 1970-04-11T00:00:00Z"), "{}", reason.message);
    }
}
