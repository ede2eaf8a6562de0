//! Identifiers, validated against an allow-list when they are created, so that every value is safe as a part of a path.
//!
//! Each type has one constructor, which `serde` uses as well. No identifier can hold a `/`, a `..`, a leading `-` or a
//! control character.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Error returned when a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not valid: {rule}{hint}", hint = self.hint())]
pub struct NameError {
    what: &'static str,
    given: String,
    rule: &'static str,
}

impl NameError {
    fn new(what: &'static str, given: &str, rule: &'static str) -> NameError {
        // The text may come from a peer and ends up in logs: keep at most 80 characters.
        let given = given.chars().take(80).collect();
        NameError { what, given, rule }
    }

    /// Returns what to write in place of `<pack>.*`.
    fn hint(&self) -> String {
        match self.given.strip_suffix(".*") {
            Some(pack) if self.what == ActionRef::WHAT && PackName::new(pack).is_ok() => {
                format!("; `bolt actions {pack}` lists all actions of the pack")
            }
            _ => String::new(),
        }
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "schemas", schemars(with = "String"))]
        pub struct $name(String);

        impl $name {
            const WHAT: &'static str = $what;

            /// Validates `text` against the rule of this type.
            pub fn new(text: impl Into<String>) -> Result<$name, NameError> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) {
                    Ok($name(text))
                } else {
                    Err(NameError::new(Self::WHAT, &text, $rule))
                }
            }

            /// Returns the identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<$name, NameError> {
                $name::new(text)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<$name, NameError> {
                $name::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// True for a lower-case word: a letter or digit, then letters, digits, `_` and `-`.
fn is_word(text: &str, longest: usize) -> bool {
    let mut bytes = text.bytes();
    text.len() <= longest
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// True for ASCII letters, digits and `_.:@+-`, without a leading `-` or `.`.
fn is_token(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:@+-".contains(&b))
}

name_type!(
    /// Name of a pack (StackStorm's `ref`): `cassandra`. At most 64 characters.
    PackName, "pack name",
    "use 1 to 64 lower-case letters, digits, '_' or '-', starting with a letter or digit",
    |t| is_word(t, 64)
);
name_type!(
    /// Name of an action within its pack: `clear_snapshots`. At most 64 characters.
    ActionName, "action name",
    "use 1 to 64 letters, digits, '_' or '-', starting with a letter or digit",
    |t| is_word(&t.to_ascii_lowercase(), 64)
);
name_type!(
    /// Name of a parameter. At most 64 characters, an identifier, so that it can be part of an environment variable's
    /// name.
    ParamName, "parameter name",
    "use 1 to 64 letters, digits or '_', starting with a letter",
    |t| (1..=64).contains(&t.len())
        && t.starts_with(|c: char| c.is_ascii_alphabetic())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
);
name_type!(
    /// Name of a channel: `dev`, `test`, `prod`.
    ChannelName, "channel name",
    "use 1 to 64 lower-case letters, digits, '_' or '-', starting with a letter or digit",
    |t| is_word(t, 64)
);
name_type!(
    /// Name of a team that signs its packs with its own keys: `dba`.
    TeamName, "team name",
    "use 1 to 64 lower-case letters, digits, '_' or '-', starting with a letter or digit",
    |t| is_word(t, 64)
);
name_type!(
    /// Name of a concurrency group: `cassandra-disk`.
    GroupName, "group name",
    "use 1 to 64 lower-case letters, digits, '_' or '-', starting with a letter or digit",
    |t| is_word(t, 64)
);
name_type!(
    /// Identity of an instance, such as `i-0abc123`, which its certificate names.
    InstanceId, "instance id",
    "use 1 to 128 letters, digits, '.', '_', ':', '@', '+' or '-', not starting with '-' or '.'",
    |t| is_token(t, 128)
);
name_type!(
    /// Id of an execution, created by the agent: a UUID (version 7, RFC 9562) in hyphenated lower-case form.
    ExecutionId, "execution id",
    "use a lower-case UUID such as 01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa",
    |t| t.len() == 36
        && t.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
);
name_type!(
    /// Id of a push, created by the agent: a UUID of version 7, so that ids sort by time of creation.
    PushId, "push id",
    "use a lower-case UUID such as 01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa",
    |t| ExecutionId::new(t).is_ok()
);
name_type!(
    /// Id of a run (a fan-out over instances), created by the client.
    RunId, "run id",
    "use 1 to 64 letters, digits, '.', '_', ':', '@', '+' or '-', not starting with '-' or '.'",
    |t| is_token(t, 64)
);
name_type!(
    /// Key that makes a repeated request idempotent: 1 to 128 printable ASCII characters without spaces.
    IdempotencyKey, "idempotency key",
    "use 1 to 128 printable ASCII characters without spaces",
    |t| (1..=128).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())
);
name_type!(
    /// URI name of a caller in its client certificate: `spiffe://example/team/dba`. At most 256 characters.
    Principal, "principal",
    "use a URI of at most 256 printable ASCII characters such as spiffe://example/oncall, without '*'",
    |t| t.len() <= 256
        && t.split_once("://").is_some_and(|(scheme, rest)| {
            scheme.starts_with(|c: char| c.is_ascii_lowercase())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
                && !rest.is_empty()
        })
        && t.bytes().all(|b| b.is_ascii_graphic() && !b"*\"\\<>`".contains(&b))
);

impl Principal {
    /// Returns the principal of local access: root of the instance, through its Unix socket. No certificate and no grant gives it
    /// ([`Principal::is_local`]).
    pub fn local_root() -> Principal {
        Principal("local://root".to_owned())
    }

    /// True for a name with the scheme `local`, which no certificate may have.
    pub fn is_local(&self) -> bool {
        self.0.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("local"))
    }
}

name_type!(
    /// SHA-256 digest as 64 lower-case hexadecimal digits.
    Digest, "digest",
    "use a SHA-256 digest of 64 lower-case hexadecimal digits",
    |t| t.len() == 64 && t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
);
name_type!(
    /// Name or number of a local account: `cassandra`, `64100`.
    UserName, "user name",
    "use 1 to 32 lower-case letters, digits, '_', '-' or '.', not starting with '-' or '.'; or a number below 4294967295",
    // setuid(2) takes 4294967295 as "leave unchanged".
    |t| (1..=32).contains(&t.len())
        && (!t.bytes().all(|b| b.is_ascii_digit()) || t.parse().is_ok_and(|uid: u32| uid < u32::MAX))
        && !t.starts_with(['-', '.'])
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b))
);
name_type!(
    /// Full name of an action: `cassandra.clear_snapshots`.
    ActionRef, "action",
    "write it as <pack>.<action>, such as linux.disk_usage",
    |t| t.split_once('.').is_some_and(|(p, a)| PackName::new(p).is_ok() && ActionName::new(a).is_ok())
);

impl ActionRef {
    /// Joins the names of a pack and an action.
    pub fn join(pack: &PackName, action: &ActionName) -> ActionRef {
        ActionRef(format!("{pack}.{action}"))
    }

    /// Returns the pack's name.
    pub fn pack(&self) -> PackName {
        PackName(self.split().0.to_owned())
    }

    /// Returns the action's name within its pack.
    pub fn action(&self) -> ActionName {
        ActionName(self.split().1.to_owned())
    }

    fn split(&self) -> (&str, &str) {
        self.0.split_once('.').expect("the constructor checked for a dot")
    }
}

impl Digest {
    /// Returns the first twelve digits, as in directory names and in output for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// Version of a pack: semantic versioning 2.0, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schemas", schemars(with = "String"))]
pub struct PackVersion(semver::Version);

impl PackVersion {
    /// Parses `text`. Build metadata (`+…`) is an error, because it does not order versions.
    pub fn new(text: &str) -> Result<PackVersion, NameError> {
        const RULE: &str = "use a semantic version such as 1.4.2, of at most 64 characters and without '+'";
        let wrong = || NameError::new("version", text, RULE);
        if text.len() > 64 {
            return Err(wrong());
        }
        let version = semver::Version::parse(text).map_err(|_| wrong())?;
        if version.build.is_empty() { Ok(PackVersion(version)) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for PackVersion {
    type Error = NameError;
    fn try_from(text: String) -> Result<PackVersion, NameError> {
        PackVersion::new(&text)
    }
}

impl FromStr for PackVersion {
    type Err = NameError;
    fn from_str(text: &str) -> Result<PackVersion, NameError> {
        PackVersion::new(text)
    }
}

impl From<PackVersion> for String {
    fn from(version: PackVersion) -> String {
        version.to_string()
    }
}

impl fmt::Display for PackVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_identifier_can_leave_its_directory() {
        for hostile in ["", "..", ".", "../x", "a/b", "/a", "-rf", "a\0", "a b", "a\n", "é", "a\\b", &"a".repeat(300)]
        {
            assert!(PackName::new(hostile).is_err(), "{hostile:?}");
            assert!(ActionName::new(hostile).is_err(), "{hostile:?}");
            assert!(ParamName::new(hostile).is_err(), "{hostile:?}");
            assert!(InstanceId::new(hostile).is_err(), "{hostile:?}");
            assert!(ExecutionId::new(hostile).is_err(), "{hostile:?}");
            assert!(RunId::new(hostile).is_err(), "{hostile:?}");
            assert!(UserName::new(hostile).is_err(), "{hostile:?}");
            assert!(Digest::new(hostile).is_err(), "{hostile:?}");
            assert!(ActionRef::new(format!("linux.{hostile}")).is_err(), "{hostile:?}");
            assert!(PackVersion::new(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn an_action_is_split_at_its_first_dot() {
        let action = ActionRef::new("linux.disk_usage").unwrap();
        assert_eq!((action.pack().as_str(), action.action().as_str()), ("linux", "disk_usage"));
        assert!(ActionRef::new("linux").is_err());
        assert!(ActionRef::new("linux.a.b").is_err());
        let all = ActionRef::new("linux.*").unwrap_err().to_string();
        assert!(all.contains("`bolt actions linux` lists all"), "{all}");
        let hostile = ActionRef::new("a b.*").unwrap_err().to_string();
        assert!(!hostile.contains("bolt actions"), "{hostile}");
    }

    #[test]
    fn versions_sort_by_semantic_versioning() {
        let v = |t| PackVersion::new(t).unwrap();
        assert!(v("1.10.0") > v("1.9.0"));
        assert!(v("1.0.0-rc.1") < v("1.0.0"));
        assert!(PackVersion::new("1.0.0+build").is_err());
    }

    #[test]
    fn a_principal_is_a_uri_without_a_wildcard() {
        assert!(Principal::new("spiffe://example.org/oncall").is_ok());
        for wrong in ["oncall", "spiffe://", "spiffe://a/*", "spiffe://a b", "://x"] {
            assert!(Principal::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_scheme_local_is_reserved() {
        let local = Principal::local_root();
        assert!(local.is_local() && Principal::new(local.as_str()) == Ok(local), "clients of earlier releases read it");
        assert!(Principal::new("lOCAL://x").unwrap().is_local());
        assert!(!Principal::new("locally://x").unwrap().is_local());
    }
}
