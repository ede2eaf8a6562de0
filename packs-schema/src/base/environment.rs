//! List of all environment variables whose names start with `BOLT_`, and the nearest name to a misspelt one.
//!
//! A misspelt variable has no effect and would go unnoticed. `bolt` and `bolt-launch` check their environment against
//! this list at startup; a test checks the source code against it.

/// Program that reads or sets a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Read by the `bolt` command.
    Client,
    /// Read by `bolt-launch`, `bolt-agent` or `bolt-sync`.
    Agent,
    /// Set by the launcher for an action, and inherited by a `bolt` command that the action runs.
    Execution,
    /// Read by Bolt's tests and benchmarks.
    Tests,
}

/// Prefix of all names.
pub const PREFIX: &str = "BOLT_";

/// All variables; names that end with `_` are prefixes.
pub const VARIABLES: [(&str, Owner); 43] = [
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
    ("BOLT_RUN_STORE", Owner::Client),
    ("BOLT_COMPLETE", Owner::Client),
    ("BOLT_LOG", Owner::Agent),
    ("BOLT_LOG_FORMAT", Owner::Agent),
    ("BOLT_ALIVE_FD", Owner::Agent),
    ("BOLT_LISTEN_FD", Owner::Agent),
    ("BOLT_HEALTH_LISTEN_FD", Owner::Agent),
    ("BOLT_LOCAL_LISTEN_FD", Owner::Agent),
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
    // Prefixes.
    ("BOLT_PARAM_", Owner::Execution),
    ("BOLT_CONFIG_", Owner::Execution),
    ("BOLT_TEST_", Owner::Tests),
];

/// Maximum length of a name in a message, in characters.
const MAX_SHOWN: usize = 64;

/// Variable whose name starts with `BOLT_` and that no program of Bolt reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name, shortened; characters that cannot be shown are `?`.
    pub name: String,
    /// Variable that was probably meant, and its owner.
    pub meant: Option<(&'static str, Owner)>,
}

/// Returns the owner of a variable, or `None` if it is not in the list.
pub fn owner(name: &str) -> Option<Owner> {
    let fits = |known: &str| if known.ends_with('_') { name.starts_with(known) } else { name == known };
    VARIABLES.iter().find(|(known, _)| fits(known)).map(|(_, owner)| *owner)
}

/// Returns the unknown variables among the names of an environment, sorted.
pub fn find_unknown<'a>(names: impl Iterator<Item = &'a str>) -> Vec<UnknownVariable> {
    let ours = names.filter(|name| name.starts_with(PREFIX) && owner(name).is_none());
    let mut unknown: Vec<UnknownVariable> =
        ours.map(|name| UnknownVariable { name: shown(name), meant: nearest(name) }).collect();
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

/// Returns the variable whose name differs in at most two letters, or in one letter if it is short.
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

/// Returns the edit distance of two names (Levenshtein).
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
    fn terminal_escapes_in_a_name_are_replaced() {
        let hostile = format!("BOLT_\u{1b}[2J\n{}", "x".repeat(10_000));
        let found = find_unknown([hostile.as_str()].into_iter());
        assert!(found[0].name.len() <= MAX_SHOWN && found[0].name.bytes().all(|b| b.is_ascii_graphic()), "{found:?}");
    }
}
