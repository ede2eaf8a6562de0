//! Local accounts, read from `/etc/passwd` only: a lookup through the name service would load modules that use the network into a
//! process of root.

use std::io;

use nix::unistd::{Gid, Uid};
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
    if let Some(named) = entries(passwd).find(|account| account.name == name.as_str()) {
        return Some(named);
    }
    let number: u32 = name.as_str().parse().ok().filter(|n| *n != u32::MAX)?;
    let numbered = entries(passwd).find(|account| account.uid.as_raw() == number);
    Some(numbered.unwrap_or_else(|| Account {
        name: number.to_string(),
        uid: Uid::from_raw(number),
        gid: Gid::from_raw(number),
        home: "/".to_owned(),
    }))
}

fn entries(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, _] = fields[..] else { return None };
        let home = if home.starts_with('/') { home } else { "/" };
        Some(Account {
            name: name.to_owned(),
            uid: Uid::from_raw(uid.parse().ok()?),
            gid: Gid::from_raw(gid.parse().ok()?),
            home: home.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\ncassandra:x:117:120::/var/lib/cassandra:/bin/false\n";
        let find = |name| lookup(passwd, &UserName::new(name).unwrap());
        let cassandra = find("cassandra").unwrap();
        assert_eq!((cassandra.uid.as_raw(), cassandra.gid.as_raw()), (117, 120));
        assert_eq!(find("117").unwrap(), cassandra);
        assert_eq!(find("64100").unwrap().gid.as_raw(), 64100);
        assert_eq!(find("broken"), None);
        assert!(UserName::new("4294967295").is_err(), "the id -1 means no change in setresuid(2)");
    }
}
