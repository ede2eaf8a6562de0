//! Local accounts, read from `/etc/passwd` only: a lookup through the name service would load modules that use the network into a
//! process of root.

use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;

use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid};
use packs_schema::agent::accounts;
use packs_schema::agent::config::UidRange;
use packs_schema::base::name::UserName;
use serde::{Deserialize, Serialize};

use crate::parsed::Parsed;

/// An account of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Name of the account, or its number when it has none.
    pub(crate) name: String,
    #[serde(with = "uid")]
    pub(crate) uid: Uid,
    #[serde(with = "gid")]
    pub(crate) gid: Gid,
    pub(crate) home: String,
}

/// Error returned when an account is not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("cannot read /etc/passwd")]
    Read(#[source] io::Error),
    #[error("there is no account {0} in /etc/passwd; create it, or map it to another under [users.map] of agent.toml")]
    Unknown(UserName),
}

/// Finds an account by name or number. A number needs no entry in `/etc/passwd`.
pub(crate) fn find(name: &UserName) -> Result<Account, AccountError> {
    let passwd = std::fs::read("/etc/passwd").map_err(AccountError::Read)?;
    lookup(&String::from_utf8_lossy(&passwd), name).ok_or_else(|| AccountError::Unknown(name.clone()))
}

/// Returns the account with this user id.
pub(crate) fn by_uid(uid: Uid, gid: Gid) -> Account {
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let known = entries(&passwd).find(|account| account.uid == uid);
    known.unwrap_or_else(|| Account { name: uid.to_string(), uid, gid, home: "/".to_owned() })
}

/// Returns the ids of local accounts, and of local groups, in `range`, which is the same for all of `parsed`.
pub(crate) fn ids_in(range: UidRange, parsed: &Parsed<Vec<u32>>) -> [Rc<Vec<u32>>; 2] {
    let ids = |path: &str| {
        let opened = File::open(path).and_then(|file| Ok((fstat(&file)?, file)));
        let Ok((stat, mut file)) = opened else { return Rc::default() };
        if let Some(known) = parsed.get(&stat) {
            return known;
        }
        let mut text = Vec::new();
        if file.read_to_end(&mut text).is_err() {
            return Rc::default();
        }
        let text = String::from_utf8_lossy(&text);
        let all = text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok());
        parsed.put(&stat, all.filter(|id| range.contains(*id)).collect())
    };
    ["/etc/passwd", "/etc/group"].map(ids)
}

fn lookup(passwd: &str, name: &UserName) -> Option<Account> {
    accounts::find(passwd, name).map(Account::from)
}

fn entries(passwd: &str) -> impl Iterator<Item = Account> {
    accounts::entries(passwd).map(Account::from)
}

impl From<accounts::Account> for Account {
    fn from(account: accounts::Account) -> Account {
        let accounts::Account { name, uid, gid, home } = account;
        Account { name, uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), home }
    }
}

mod uid {
    use nix::unistd::Uid;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) fn serialize<S: Serializer>(uid: &Uid, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(uid.as_raw())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uid, D::Error> {
        u32::deserialize(from).map(Uid::from_raw)
    }
}

mod gid {
    use nix::unistd::Gid;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) fn serialize<S: Serializer>(gid: &Gid, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(gid.as_raw())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Gid, D::Error> {
        u32::deserialize(from).map(Gid::from_raw)
    }
}
