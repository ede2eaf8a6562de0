//! `grants.toml`: grants of verbs on actions to principals. Everything else is refused.
//!
//! A grant may be constrained: to instances by their facts (`where`), to windows of time (`times`), and, for starts, to values of
//! parameters. Where and when a grant is in effect is decided for the whole file by [`Grants::in_effect`]; a constrained grant of
//! a file that was only parsed is not in effect.

mod constraint;
mod explain;
mod grant;
mod limit;
mod lint;
mod pattern;
mod times;
mod verb;

use grant::Grant;
use pattern::glob;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::name::{ActionRef, PackName, Principal};
use crate::delivery::facts::Facts;
use crate::pack::action::Class;

pub use constraint::Constraint;
pub use explain::{Mismatch, Object, Question, Verdict};
pub use limit::Limit;
pub use lint::Surroundings;
pub use pattern::PrincipalPattern;
pub use times::TimeWindow;
pub use verb::{UnknownVerb, Verb};

/// The file `grants.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Grants. Without any, every request is refused.
    #[serde(default, rename = "grant")]
    grants: Vec<Grant>,
    /// Limits of callers.
    #[serde(default, rename = "limit")]
    limits: Vec<Limit>,
}

/// Place of a grant in `grants.toml`, for people who look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct GrantPlace {
    /// Number of the grant in the file, from 1.
    pub number: usize,
    /// Line on which it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl std::fmt::Display for GrantPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "grant {} of grants.toml", self.number)?;
        match self.line {
            Some(line) => write!(f, " (line {line})"),
            None => Ok(()),
        }
    }
}

/// Error returned for an invalid `grants.toml`.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    /// Not TOML, an unknown key or an invalid value; the message names the place.
    #[error(transparent)]
    Toml(#[from] crate::base::document::DocumentError),
}

impl GrantsError {
    /// Returns the line of the error, counted from 1.
    pub fn line(&self) -> Option<usize> {
        let GrantsError::Toml(error) = self;
        error.line()
    }
}

impl Grants {
    /// Parses the text of `grants.toml`.
    pub fn parse(text: &str) -> Result<Grants, GrantsError> {
        let mut grants: Grants = crate::base::document::toml::parse(text)?;
        let lines = crate::base::document::toml::lines_of_list(text, "grant");
        for (grant, line) in grants.grants.iter_mut().zip(lines) {
            grant.line = Some(line);
        }
        Ok(grants)
    }

    /// Returns the same grants, of which those are in effect that are so on an instance with these facts, at a time in seconds
    /// since 1970. While the facts are unknown, no grant is in effect that depends on them.
    pub fn in_effect(&self, facts: Option<&Facts>, at_s: i64) -> Grants {
        let mut grants = self.clone();
        for grant in &mut grants.grants {
            grant.situation = grant.situation(facts, at_s);
        }
        grants
    }

    /// True if a grant depends on the time or on facts.
    pub fn depends_on_situation(&self) -> bool {
        self.grants.iter().any(|grant| grant.condition.is_some() || !grant.times.is_empty())
    }

    /// True if `who` may do `verb` on `action`, which has class `class`.
    pub fn allows(&self, who: &Principal, verb: Verb, action: &ActionRef, class: Class) -> bool {
        self.find(who, verb, action, Some(class)).is_some()
    }

    /// True if `who` may do `verb` on an action that is no longer installed, so that its class is unknown.
    pub fn allows_unclassed(&self, who: &Principal, verb: Verb, action: &ActionRef) -> bool {
        self.find(who, verb, action, None).is_some()
    }

    /// Finds the first grant that lets `who` do `verb` on `action`, with some values of its parameters. Without a class, grants
    /// that are limited to classes do not count.
    pub fn find(&self, who: &Principal, verb: Verb, action: &ActionRef, class: Option<Class>) -> Option<GrantPlace> {
        self.find_for(&Question { who, verb, object: Object::Action(action), class, parameters: None })
    }

    /// Finds the first grant that lets `who` do `verb` on `action` with these values of its parameters, defaults included.
    pub fn find_with(
        &self,
        who: &Principal,
        verb: Verb,
        action: &ActionRef,
        class: Option<Class>,
        parameters: &Map<String, Value>,
    ) -> Option<GrantPlace> {
        self.find_for(&Question { who, verb, object: Object::Action(action), class, parameters: Some(parameters) })
    }

    /// Finds the first grant in effect that allows it.
    pub fn find_for(&self, question: &Question<'_>) -> Option<GrantPlace> {
        let number = self.grants.iter().position(|grant| grant.is_in_effect() && grant.allows(question))?;
        Some(self.place(number))
    }

    /// Finds the first grant that lets `who` do `verb` on every action that the pack could have, of whatever class.
    pub fn find_pack(&self, who: &Principal, verb: Verb, pack: &PackName) -> Option<GrantPlace> {
        self.find_for(&Question { who, verb, object: Object::Pack(pack), class: None, parameters: None })
    }

    /// Finds the first grant that gives `who` the verb, on whatever.
    pub fn find_any(&self, who: &Principal, verb: Verb) -> Option<GrantPlace> {
        let number = self.grants.iter().position(|grant| grant.gives(who, verb))?;
        Some(self.place(number))
    }

    fn place(&self, index: usize) -> GrantPlace {
        GrantPlace { number: index + 1, line: self.grants[index].line }
    }

    /// Returns the limits that apply to `who`.
    pub fn limits_of(&self, who: &Principal) -> Vec<Limit> {
        self.limits.iter().filter(|limit| limit.applies_to(who)).cloned().collect()
    }

    /// True if there is no grant at all.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// True if any grant matches `who`.
    pub fn knows(&self, who: &Principal) -> bool {
        self.grants.iter().any(|grant| grant.principal.covers(who))
    }

    /// True if `who` may do `verb` on any action; for resources that belong to no action (packs, metrics, sync).
    pub fn allows_any(&self, who: &Principal, verb: Verb) -> bool {
        self.find_any(who, verb).is_some()
    }

    /// True if a grant of `verb` could match an action of the pack, installed or not.
    pub fn allows_in_pack(&self, who: &Principal, verb: Verb, pack: &PackName) -> bool {
        self.of(who, verb).any(|grant| {
            grant.actions.iter().any(|pattern| match pattern.0.split_once('.') {
                Some((of_pack, _)) => glob(of_pack, pack.as_str()),
                None => true,
            })
        })
    }

    /// True if `who` may do `verb` on every possible action of the pack, of any class: the rule for the pack itself.
    pub fn allows_pack(&self, who: &Principal, verb: Verb, pack: &PackName) -> bool {
        self.find_pack(who, verb, pack).is_some()
    }

    fn of(&self, who: &Principal, verb: Verb) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(move |grant| grant.gives(who, verb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [[grant]]
        principal = "spiffe://x/oncall/*"
        verbs = ["read", "run"]
        actions = ["linux.*"]
        classes = ["diagnostic"]
        [[grant]]
        principal = "spiffe://x/robot"
        verbs = ["run"]
        actions = ["*.clear_*"]
    "#;

    #[test]
    fn requests_without_a_grant_are_refused() {
        let grants = Grants::parse(TEXT).unwrap();
        let allowed = |who: &str, verb, action: &str, class| {
            grants.allows(&Principal::new(who).unwrap(), verb, &ActionRef::new(action).unwrap(), class)
        };
        assert!(allowed("spiffe://x/oncall/ann", Verb::Run, "linux.disk", Class::Diagnostic));
        assert!(!allowed("spiffe://x/oncall/ann", Verb::Run, "linux.disk", Class::Remediation));
        assert!(!allowed("spiffe://x/oncall/ann", Verb::Kill, "linux.disk", Class::Diagnostic));
        assert!(!allowed("spiffe://x/oncall/ann", Verb::Run, "linuxes.disk", Class::Diagnostic));
        assert!(!allowed("spiffe://x/oncal", Verb::Run, "linux.disk", Class::Diagnostic));
        assert!(allowed("spiffe://x/robot", Verb::Run, "cassandra.clear_snapshots", Class::Remediation));
        assert!(!allowed("spiffe://x/robot2", Verb::Run, "cassandra.clear_snapshots", Class::Remediation));
        assert!(!allowed("spiffe://x/robot", Verb::Run, "cassandra.unclear", Class::Remediation));
        let none = Grants::parse("").unwrap();
        assert!(!none.allows_any(&Principal::new("spiffe://x/robot").unwrap(), Verb::Read));
    }

    #[test]
    fn metrics_are_included_in_read() {
        let grants = Grants::parse(TEXT).unwrap();
        let (ann, disk) = (Principal::new("spiffe://x/oncall/ann").unwrap(), ActionRef::new("linux.disk").unwrap());
        for (action, allowed) in [(disk, true), (ActionRef::new("cassandra.clear_x").unwrap(), false)] {
            let found = grants.find(&ann, Verb::Metrics, &action, Some(Class::Diagnostic)).is_some();
            assert_eq!(found, allowed, "{action}");
            assert_eq!(found, grants.find(&ann, Verb::Read, &action, Some(Class::Diagnostic)).is_some());
        }
        assert!(grants.allows_any(&ann, Verb::Metrics));
        let robot = Principal::new("spiffe://x/robot").unwrap();
        assert!(!grants.allows_any(&robot, Verb::Metrics), "run gives no metrics");
        let scraper =
            Grants::parse("[[grant]]\nprincipal = \"a://b\"\nverbs = [\"metrics\"]\nactions = [\"*\"]\n").unwrap();
        assert!(!scraper.allows_any(&Principal::new("a://b").unwrap(), Verb::Read), "nor do metrics give read");
    }

    #[test]
    fn a_matching_grant_is_reported_with_number_and_line() {
        let grants = Grants::parse(TEXT).unwrap();
        let who = Principal::new("spiffe://x/robot").unwrap();
        let action = ActionRef::new("linux.clear_x").unwrap();
        let second = GrantPlace { number: 2, line: Some(7) };
        assert_eq!(grants.find(&who, Verb::Run, &action, None), Some(second));
        assert_eq!(grants.find_any(&who, Verb::Run), Some(second));
        assert_eq!(second.to_string(), "grant 2 of grants.toml (line 7)");
        let ann = Principal::new("spiffe://x/oncall/ann").unwrap();
        let disk = ActionRef::new("linux.disk").unwrap();
        assert_eq!(grants.find(&ann, Verb::Run, &disk, None), None, "it is limited to a class");
        let inline = Grants::parse("grant = [\n{principal = \"a://b\", verbs = [\"sync\"]}]\n").unwrap();
        let who = Principal::new("a://b").unwrap();
        assert_eq!(inline.find_any(&who, Verb::Sync), Some(GrantPlace { number: 1, line: Some(2) }));
        assert!("fly".parse::<Verb>().is_err());
        assert!(Verb::ALL.iter().all(|verb| verb.to_string().parse() == Ok(*verb)));
    }

    #[test]
    fn a_pack_is_granted_by_grants_of_all_its_possible_actions() {
        let covers = |pattern: &str, more: &str| {
            let text =
                format!("[[grant]]\nprincipal = \"a://b\"\nverbs = [\"push\"]\nactions = [\"{pattern}\"]\n{more}");
            let grants = Grants::parse(&text).unwrap();
            grants.allows_pack(&Principal::new("a://b").unwrap(), Verb::Push, &PackName::new("linux").unwrap())
        };
        for pattern in ["*", "linux.*", "li*.*", "*.*"] {
            assert!(covers(pattern, ""), "{pattern}");
            assert!(!covers(pattern, "classes = [\"diagnostic\"]\n"), "{pattern}");
        }
        for pattern in ["linux.disk", "linux.d*", "linux.*d", "*.disk", "linuxes.*", "linux2.*"] {
            assert!(!covers(pattern, ""), "{pattern}");
        }
    }

    #[test]
    fn a_grant_of_one_possible_action_applies_to_its_pack() {
        let could = |pattern: &str| {
            let text = format!("[[grant]]\nprincipal = \"a://b\"\nverbs = [\"read\"]\nactions = [\"{pattern}\"]\n");
            let grants = Grants::parse(&text).unwrap();
            grants.allows_in_pack(&Principal::new("a://b").unwrap(), Verb::Read, &PackName::new("linux").unwrap())
        };
        for pattern in ["*", "linux.*", "li*.x", "*.*", "linux.disk", "*ux.d*k"] {
            assert!(could(pattern), "{pattern}");
        }
        for pattern in ["linuxes.*", "linu.x", "x*.disk", "cassandra.*"] {
            assert!(!could(pattern), "{pattern}");
        }
    }

    #[test]
    fn an_expression_that_cannot_be_read_is_quoted_on_one_line() {
        let error = |condition: &str| {
            let text = format!("[[grant]]\nprincipal = \"a://b\"\nverbs = [\"run\"]\nwhere = {condition}\n");
            Grants::parse(&text).unwrap_err().to_string()
        };
        assert_eq!(
            error("\"\"\"app == 'a' ||\n\tzone\"\"\""),
            "line 4, column 9: grant[0].where: cannot read the expression \"app == 'a' ||  zone\" at character 20: expected \
             ==, !=, =~ or in"
        );
        for condition in ["'app =='", "'app =~ \"(\"'", "'''app =~ \"a\n(\"'''"] {
            let error = error(condition);
            assert!(!error.contains(char::is_control) && !error.contains(char::REPLACEMENT_CHARACTER), "{error}");
        }
    }

    #[test]
    fn mistakes_are_errors() {
        for wrong in [
            "[[grant]]\nprincipal = \"*\"\nverbs = []\n",
            "[[grant]]\nprincipal = \"a://b\"\nverbs = [\"fly\"]\n",
            "[[grant]]\nprincipal = \"a://b\"\nverbs = [\"run\"]\naction = [\"*\"]\n",
            "[[grant]]\nprincipal = \"a://*b\"\nverbs = [\"run\"]\n",
            "[[grant]]\nprincipal = \"a://b*\"\nverbs = [\"run\"]\n",
            "[[grant]]\nprincipal = \"a://b\"\nverbs = [\"run\"]\nactions = [\"linux\"]\n",
            "[[grant]]\nprincipal = \"a://b\"\nverbs = [\"run\"]\nactions = [\"*\"]\nclasses = []\n",
            "[[grant]]\nprincipal = \"a://b\"\nverbs = [\"run\"]\nactions = [\"*\"]\ntimes = []\n",
            "[[grants]]\n",
        ] {
            assert!(Grants::parse(wrong).is_err(), "{wrong}");
        }
    }
}
