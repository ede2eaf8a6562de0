//! Local accounts, read from `/etc/passwd` only: a lookup through the name service would load modules that use the network into a
//! process of root.

use std::io;

use nix::unistd::{Gid, Uid};
use packs_schema::agent::accounts;
use packs_schema::agent::config::UidRange;
use packs_schema::base::name::UserName;

/// An account of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Name of the account, or its number when it has none.
    pub(crate) name: String,
    pub(crate) uid: Uid,
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

/// Returns the ids of local accounts and groups in `range`.
pub(crate) fn ids_in(range: UidRange) -> Vec<u32> {
    let ids = |path| {
        let text = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect::<Vec<u32>>()
    };
    ["/etc/passwd", "/etc/group"].into_iter().flat_map(ids).filter(|id| range.contains(*id)).collect()
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
