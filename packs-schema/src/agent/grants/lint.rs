//! Findings about grants that are valid, and probably not meant: shadowed, unused or too wide.

use super::grant::Grant;
use super::pattern::{ActionPattern, glob};
use super::{Grants, PrincipalPattern, Verb};
use crate::base::finding::Finding;
use crate::base::name::ActionRef;
use crate::pack::action::Class;

/// Surroundings that grants are compared with.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Principals that the authorities of callers may vouch for; `None`: all, or unknown.
    pub principals: Option<Vec<PrincipalPattern>>,
    /// Actions that instances have; `None`: unknown.
    pub actions: Option<Vec<ActionRef>>,
}

impl Grants {
    /// Returns what is shadowed, unused or too wide, in the order of the file.
    pub fn lint(&self, around: &Surroundings) -> Vec<Finding> {
        let mut found = Vec::new();
        for (index, grant) in self.grants.iter().enumerate() {
            let at = self.place(index).to_string();
            if let Some(other) = self.grants.iter().enumerate().position(|(before, other)| {
                // Of two that give the same, the first is kept.
                before != index && other.covers(grant) && (before < index || !grant.covers(other))
            }) {
                let message = format!("{} gives all that it gives: remove it", self.place(other));
                found.push(Finding::warning("shadowed", &at, message));
            }
            found.extend(local(&grant.principal, &at));
            if let Some(principals) = &around.principals
                && !grant.principal.is_local()
                && !principals.iter().any(|principal| principal.overlaps(&grant.principal))
            {
                let message = format!(
                    "no authority of callers may vouch for {}: it is never used; see [[tls.client_authority]]",
                    grant.principal
                );
                found.push(Finding::warning("unused_principal", &at, message));
            }
            for pattern in &grant.actions {
                if let Some(actions) = &around.actions
                    && !actions.iter().any(|action| glob(&pattern.0, action.as_str()))
                {
                    let message = format!("{} matches no action of the given packs", pattern.0);
                    found.push(Finding::warning("unused_action", &at, message));
                }
            }
            let needs_actions = |verb: &&Verb| !matches!(verb, Verb::Sync | Verb::Metrics | Verb::Read);
            if let (true, Some(verb)) = (grant.actions.is_empty(), grant.verbs.iter().find(needs_actions)) {
                let message = format!("it gives {verb} on no action: name actions, or remove the verb");
                found.push(Finding::warning("no_actions", &at, message));
            }
            if grant.verbs.contains(&Verb::Metrics) && !grant.is_of_every_action() {
                let message = "it gives metrics of some actions only, so that a scraper misses the others: write \
                               actions = [\"*\"], without classes";
                found.push(Finding::warning("partial_metrics", &at, message));
            }
            if grant.verbs.is_empty() {
                found.push(Finding::warning("no_verbs", &at, "it gives no verb: remove it"));
            }
            let too_wide = grant.too_wide().filter(|_| !grant.principal.is_local());
            found.extend(too_wide.map(|message| Finding::warning("too_wide", &at, message)));
        }
        for (index, limit) in self.limits.iter().enumerate() {
            let (at, principal) = (format!("limit {} of grants.toml", index + 1), &limit.principal);
            if principal.is_local() {
                found.extend(local(principal, &at));
            } else if !self.grants.iter().any(|grant| grant.principal.overlaps(principal)) {
                let message =
                    format!("no grant is for {principal}: it limits no caller; compare the spelling with the grants");
                found.push(Finding::warning("unused_limit", &at, message));
            }
        }
        found
    }
}

/// Returns the finding about a principal with the scheme of local access.
fn local(principal: &PrincipalPattern, at: &str) -> Option<Finding> {
    let message = || {
        format!(
            "no certificate may have the name {principal}: it never matches; root of the instance reads and kills without a \
             grant (`bolt local`), and nothing gives it more"
        )
    };
    principal.is_local().then(|| Finding::warning("local_principal", at, message()))
}

impl Grant {
    /// True if it gives all that the other one gives, wherever and whenever that does.
    fn covers(&self, other: &Grant) -> bool {
        let has_classes = match (&self.classes, &other.classes) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|class| own.contains(class)),
        };
        self.principal.covers_pattern(&other.principal)
            && other.verbs.is_subset(&self.verbs)
            && other.actions.iter().all(|wanted| self.actions.iter().any(|own| own.covers(wanted)))
            && has_classes
            && (self.condition.is_none() || self.condition == other.condition)
            && (self.times.is_empty() || self.times == other.times)
            && (self.parameters.is_empty() || self.parameters == other.parameters)
    }

    /// True if it is for every action, of any class.
    fn is_of_every_action(&self) -> bool {
        self.classes.is_none() && self.names_every_action()
    }

    fn names_every_action(&self) -> bool {
        self.actions.iter().any(|pattern| pattern.covers(&ActionPattern("*".to_owned())))
    }

    /// Describes a grant of changes to more callers than anyone has listed.
    fn too_wide(&self) -> Option<String> {
        let changes = |class: &Class| *class != Class::Diagnostic;
        let has_changes = self.classes.as_ref().is_none_or(|classes| classes.iter().any(changes));
        let is_limited = self.condition.is_some() || !self.times.is_empty() || !self.parameters.is_empty();
        let is_of_domain = self.principal.is_whole_authority();
        let first_of = |verbs: &[Verb]| verbs.iter().find(|verb| self.verbs.contains(verb)).copied();
        let is_everything = self.names_every_action();
        let Some(verb) = first_of(&[Verb::Push, Verb::Approve, Verb::Run]) else {
            // A poll of the repository is of no action.
            let verb = first_of(&[Verb::Kill]).filter(|_| is_everything).or(first_of(&[Verb::Sync]));
            let verb = verb.or(first_of(&[Verb::Read]).filter(|_| is_everything))?;
            let what = if verb == Verb::Sync { "" } else { " of every action" };
            return (is_of_domain && has_changes && !is_limited).then(|| {
                format!("it gives {verb}{what} to every principal of {}: name a path, or constraints", self.principal)
            });
        };
        if is_of_domain && has_changes {
            return Some(format!(
                "it gives {verb} of remediation to every principal of {}: name a path, or classes = [\"diagnostic\"]",
                self.principal
            ));
        }
        let is_too_wide = self.principal.is_prefix() && is_everything && has_changes && !is_limited;
        is_too_wide.then(|| {
            format!(
                "it gives {verb} of every action, remediation as well, to all of {}: name actions, classes or constraints",
                self.principal
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(text: &str, around: &Surroundings) -> Vec<(String, String)> {
        let found = Grants::parse(text).unwrap().lint(around);
        found.into_iter().map(|finding| (finding.code, finding.at)).collect()
    }

    fn grant(principal: &str, verbs: &str, actions: &str, more: &str) -> String {
        format!("[[grant]]\nprincipal = \"{principal}\"\nverbs = [{verbs}]\nactions = [{actions}]\n{more}\n")
    }

    #[test]
    fn a_grant_that_another_one_covers_is_shadowed() {
        let wide = grant("spiffe://x/team/*", "\"read\", \"run\"", "\"linux.*\"", "");
        for (narrow, shadowed) in [
            (grant("spiffe://x/team/ann", "\"run\"", "\"linux.disk\"", ""), true),
            (grant("spiffe://x/team/a/*", "\"run\"", "\"linux.d*k\"", "classes = [\"diagnostic\"]"), true),
            (grant("spiffe://x/team/ann", "\"run\"", "\"linux.disk\"", "times = [\"01:00-02:00\"]"), true),
            (grant("spiffe://x/team/ann", "\"kill\"", "\"linux.disk\"", ""), false),
            (grant("spiffe://x/team/ann", "\"run\"", "\"*\"", ""), false),
            (grant("spiffe://x/*", "\"run\"", "\"linux.disk\"", "classes = [\"diagnostic\"]"), false),
        ] {
            let both = [format!("{wide}{narrow}"), format!("{narrow}{wide}")]
                .map(|text| lint(&text, &Surroundings::default()).iter().any(|(code, _)| code == "shadowed"));
            assert_eq!(both, [shadowed; 2], "{narrow}");
        }
        let limited = grant("spiffe://x/team/*", "\"run\"", "\"linux.*\"", "where = 'app == \"a\"'");
        let narrow = grant("spiffe://x/team/ann", "\"run\"", "\"linux.disk\"", "");
        assert!(lint(&(limited + &narrow), &Surroundings::default()).is_empty());
        let twice = grant("spiffe://x/team/ann", "\"run\"", "\"linux.disk\"", "").repeat(2);
        assert_eq!(lint(&twice, &Surroundings::default()).len(), 1, "the first of two equal ones is kept");
    }

    #[test]
    fn what_no_authority_vouches_for_and_no_pack_has_is_unused() {
        let text = grant("spiffe://x/team/ann", "\"run\"", "\"linux.disk\", \"cassandra.*\"", "");
        let around = |principal: &str, action: &str| Surroundings {
            principals: Some(vec![principal.to_owned().try_into().unwrap()]),
            actions: Some(vec![ActionRef::new(action).unwrap()]),
        };
        let codes = |around: &Surroundings| lint(&text, around).into_iter().map(|(code, _)| code).collect::<Vec<_>>();
        assert_eq!(codes(&around("spiffe://x/*", "linux.disk")), ["unused_action"]);
        assert_eq!(codes(&around("spiffe://x/studio/*", "cassandra.clear")), ["unused_principal", "unused_action"]);
    }

    #[test]
    fn metrics_of_some_actions_only_are_found() {
        for (verbs, actions, more, found) in [
            ("\"metrics\"", "\"*\"", "", false),
            ("\"metrics\"", "\"linux.disk\", \"*.*\"", "", false),
            ("\"metrics\"", "\"linux.*\"", "", true),
            ("\"metrics\"", "", "", true),
            ("\"read\", \"metrics\"", "\"*\"", "classes = [\"diagnostic\"]", true),
            ("\"read\"", "\"linux.*\"", "", false),
        ] {
            let codes = lint(&grant("spiffe://x/prometheus", verbs, actions, more), &Surroundings::default());
            assert_eq!(codes.iter().any(|(code, _)| code == "partial_metrics"), found, "{verbs} {actions} {more}");
        }
    }

    #[test]
    fn kill_sync_and_read_for_everyone_are_too_wide() {
        for (principal, verbs, actions, more, wide) in [
            ("spiffe://x/*", "\"kill\"", "\"*\"", "", true),
            ("spiffe://*", "\"read\"", "\"*\"", "", true),
            ("spiffe://x/*", "\"read\"", "\"*.*\"", "", true),
            ("spiffe://x/*", "\"sync\"", "", "", true),
            ("spiffe://x/*", "\"kill\", \"read\"", "\"linux.*\"", "", false),
            ("spiffe://x/*", "\"read\"", "\"*\"", "classes = [\"diagnostic\"]", false),
            ("spiffe://x/*", "\"read\"", "\"*\"", "where = 'app == \"a\"'", false),
            ("spiffe://x/oncall/*", "\"read\", \"kill\", \"sync\"", "\"*\"", "", false),
            ("spiffe://x/*", "\"metrics\"", "\"*\"", "", false),
        ] {
            let found = lint(&grant(principal, verbs, actions, more), &Surroundings::default());
            assert_eq!(found.iter().any(|(code, _)| code == "too_wide"), wide, "{principal} {verbs} {actions} {more}");
        }
    }

    #[test]
    fn names_of_local_access_are_found() {
        for principal in ["local://root", "local://*", "lOCAL://x"] {
            let limit = format!("[[limit]]\nprincipal = \"{principal}\"\nexecutions = 1\n");
            let text = grant(principal, "\"run\"", "\"linux.disk\"", "") + &limit;
            let around = Surroundings { principals: Some(vec![]), actions: None };
            let found: Vec<(String, String)> = lint(&text, &around);
            let codes: Vec<&str> = found.iter().map(|(code, _)| code.as_str()).collect();
            assert_eq!(
                (codes, found[1].1.as_str()),
                (vec!["local_principal"; 2], "limit 1 of grants.toml"),
                "{principal}"
            );
        }
    }

    #[test]
    fn a_limit_without_a_grant_is_found() {
        let limit = |principal: &str| format!("[[limit]]\nprincipal = \"{principal}\"\nexecutions = 1\n");
        let granted = grant("spiffe://x/team/*", "\"run\"", "\"linux.disk\"", "");
        for (principal, unused) in [
            ("spiffe://x/team/ann", false),
            ("spiffe://x/*", false),
            ("spiffe://x/team/*", false),
            ("spiffe://x/teams/ann", true),
            ("spiffe://y/*", true),
        ] {
            let found = lint(&(granted.clone() + &limit(principal)), &Surroundings::default());
            assert_eq!(found.iter().any(|(code, _)| code == "unused_limit"), unused, "{principal}");
        }
    }

    #[test]
    fn changes_for_everyone_are_too_wide() {
        let run = "\"run\"";
        for (principal, actions, more, wide) in [
            ("spiffe://x/*", "\"linux.restart\"", "", true),
            ("spiffe://x/*", "\"*\"", "classes = [\"diagnostic\"]", false),
            ("spiffe://x/oncall/*", "\"*\"", "", true),
            ("spiffe://x/oncall/*", "\"*\"", "where = 'app == \"a\"'", false),
            ("spiffe://x/oncall/*", "\"linux.*\"", "", false),
            ("spiffe://x/oncall", "\"*\"", "", false),
        ] {
            let found = lint(&grant(principal, run, actions, more), &Surroundings::default());
            assert_eq!(found.iter().any(|(code, _)| code == "too_wide"), wide, "{principal} {actions} {more}");
        }
        assert_eq!(lint(&grant("spiffe://x/a", run, "", ""), &Surroundings::default())[0].0, "no_actions");
    }
}
