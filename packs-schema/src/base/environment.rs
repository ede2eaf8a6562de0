//! The list of every environment variable called `BOLT_…`, and the nearest name to one that is misspelt.
//!
//! A misspelt name is a setting that has no effect and that nobody is told about. `bolt` and `bolt-launch` hold their
//! environments against this list when they start; a test holds the source against it.

/// The program that reads, or sets, a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The `bolt` command reads it.
    Client,
    /// `bolt-launch`, `bolt-agent` or `bolt-sync` reads it.
    Agent,
    /// The launcher sets it for an action. An action that calls `bolt` hands it on.
    Execution,
    /// Bolt's own tests and benchmarks read it.
    Tests,
}

/// The prefix of them all.
pub const PREFIX: &str = "BOLT_";

/// Every variable, by name.
pub const VARIABLES: [(&str, Owner); 39] = [
    ("BOLT_CLIENT_CONFIG", Owner::Client),
    ("BOLT_KEY_PASSPHRASE", Owner::Client),
    ("BOLT_KEY_PASSPHRASE_FILE", Owner::Client),
    ("BOLT_LAUNCH", Owner::Client),
    ("BOLT_JSON", Owner::Client),
    ("BOLT_COLOR", Owner::Client),
    ("BOLT_CERT", Owner::Client),
    ("BOLT_KEY", Owner::Client),
    ("BOLT_CA", Owner::Client),
    ("BOLT_INVENTORY", Owner::Client),
    ("BOLT_REPO", Owner::Client),
    ("BOLT_REPO_KEYS", Owner::Client),
    ("BOLT_REPO_STATE", Owner::Client),
    ("BOLT_REPO_ROOT", Owner::Client),
    ("BOLT_COMPLETE", Owner::Client),
    ("BOLT_LOG", Owner::Agent),
    ("BOLT_LISTEN_FD", Owner::Agent),
    ("BOLT_HEALTH_LISTEN_FD", Owner::Agent),
    ("BOLT_ACTION", Owner::Execution),
    ("BOLT_CONFIG", Owner::Execution),
    ("BOLT_DEADLINE", Owner::Execution),
    ("BOLT_EXECUTION_ID", Owner::Execution),
    ("BOLT_INSTANCE_ID", Owner::Execution),
    ("BOLT_NOOP", Owner::Execution),
    ("BOLT_PACK", Owner::Execution),
    ("BOLT_REGION", Owner::Execution),
    ("BOLT_RESULT", Owner::Execution),
    ("BOLT_RUN_ID", Owner::Execution),
    ("BOLT_VERSION", Owner::Execution),
    ("BOLT_ZONE", Owner::Execution),
    ("BOLT_BLESS", Owner::Tests),
    ("BOLT_FAULTS", Owner::Tests),
    ("BOLT_FAULTS_ROLE", Owner::Tests),
    ("BOLT_GROWTH_REQUESTS", Owner::Tests),
    ("BOLT_MOTO_SERVER", Owner::Tests),
    ("BOLT_OPENAPI_PYTHON_CLIENT", Owner::Tests),
    // Beginnings of names.
    ("BOLT_PARAM_", Owner::Execution),
    ("BOLT_CONFIG_", Owner::Execution),
    ("BOLT_TEST_", Owner::Tests),
];

/// The longest name that is repeated in a message, in characters.
const MAX_SHOWN: usize = 64;

/// A variable called `BOLT_…` that nothing of Bolt's reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name, as far as it can be shown: other characters are `?`.
    pub name: String,
    /// The variable that was probably meant, and who reads it.
    pub meant: Option<(&'static str, Owner)>,
}

/// The owner of a variable; `None` when it is none of Bolt's.
pub fn owner(name: &str) -> Option<Owner> {
    let fits = |known: &str| if known.ends_with('_') { name.starts_with(known) } else { name == known };
    VARIABLES.iter().find(|(known, _)| fits(known)).map(|(_, owner)| *owner)
}

/// The unknown ones among the names of an environment, in order.
pub fn find_unknown<'a>(names: impl Iterator<Item = &'a str>) -> Vec<UnknownVariable> {
    let ours = names.filter(|name| name.starts_with(PREFIX) && owner(name).is_none());
    let mut unknown: Vec<UnknownVariable> =
        ours.map(|name| UnknownVariable { name: shown(name), meant: nearest(name) }).collect();
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

/// The variable whose name differs in no more than two letters, or in one where it is short.
fn nearest(name: &str) -> Option<(&'static str, Owner)> {
    if name.len() > MAX_SHOWN {
        return None;
    }
    let near = |(known, owner): &(&'static str, Owner)| {
        let most = if known.len() < PREFIX.len() + 6 { 1 } else { 2 };
        let changed = distance(name, known);
        (changed <= most && *owner != Owner::Tests && !known.ends_with('_')).then_some((changed, (*known, *owner)))
    };
    VARIABLES.iter().filter_map(near).min_by_key(|(changed, _)| *changed).map(|(_, variable)| variable)
}

fn shown(name: &str) -> String {
    name.chars().take(MAX_SHOWN).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// The number of letters that must change to make one of the other (Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_gets_the_nearest_one() {
        let names = [
            "BOLT_KEY_PASSPRASE",
            "BOLT_CLIENT_CONFG",
            "BOLT_LOGS",
            "BOLT_PROJECT",
            "BOLT_LOG",
            "BOLT_RESULT",
            "BOLT_PARAM_X",
            "BOLT_CONFIG_A_B",
            "BOLT_TEST_SEED",
            "BOLTED",
            "PATH",
        ];
        let found = find_unknown(names.into_iter());
        let found: Vec<(&str, Option<&str>)> =
            found.iter().map(|one| (one.name.as_str(), one.meant.map(|(name, _)| name))).collect();
        assert_eq!(
            found,
            [
                ("BOLT_CLIENT_CONFG", Some("BOLT_CLIENT_CONFIG")),
                ("BOLT_KEY_PASSPRASE", Some("BOLT_KEY_PASSPHRASE")),
                ("BOLT_LOGS", Some("BOLT_LOG")),
                ("BOLT_PROJECT", None),
            ]
        );
    }

    #[test]
    fn every_name_with_one_letter_wrong_is_found() {
        for (known, owner) in VARIABLES.iter().filter(|(known, owner)| !known.ends_with('_') && *owner != Owner::Tests)
        {
            for at in PREFIX.len()..known.len() {
                let misspelt = format!("{}{}", &known[..at], &known[at + 1..]);
                let meant = find_unknown([misspelt.as_str()].into_iter()).first().and_then(|one| one.meant);
                assert!(meant.is_some(), "{misspelt} for {known}, which {owner:?} reads");
            }
        }
    }

    #[test]
    fn a_name_acts_on_no_terminal() {
        let hostile = format!("BOLT_\u{1b}[2J\n{}", "x".repeat(10_000));
        let found = find_unknown([hostile.as_str()].into_iter());
        assert!(found[0].name.len() <= MAX_SHOWN && found[0].name.bytes().all(|b| b.is_ascii_graphic()), "{found:?}");
    }
}
