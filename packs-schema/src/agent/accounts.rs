//! Accounts of a host, read from the text of `/etc/passwd`, `/etc/group`, `/etc/subuid` and `/etc/subgid`.
//!
//! Local files only: a lookup through the name service would load modules that talk to the network.

use crate::agent::config::{Config, UidRange};
use crate::base::name::UserName;

/// Account of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name, or the number of an account that has no name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Id of its primary group.
    pub gid: u32,
    /// Home directory; `/` when it has none.
    pub home: String,
}

/// Returns the accounts in the text of `/etc/passwd`; lines that are not understood are skipped.
pub fn entries(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, _] = fields[..] else { return None };
        let home = if home.starts_with('/') { home } else { "/" };
        Some(Account { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.to_owned() })
    })
}

/// Finds an account by name, or by number; a number needs no entry.
pub fn find(passwd: &str, name: &UserName) -> Option<Account> {
    if let Some(named) = entries(passwd).find(|account| account.name == name.as_str()) {
        return Some(named);
    }
    let number: u32 = name.as_str().parse().ok().filter(|n| *n != u32::MAX)?;
    let numbered = entries(passwd).find(|account| account.uid == number);
    Some(numbered.unwrap_or_else(|| Account {
        name: number.to_string(),
        uid: number,
        gid: number,
        home: "/".to_owned(),
    }))
}

/// Returns the ids of the groups that list the account as a member, by the text of `/etc/group`.
pub fn groups_of(group: &str, account: &Account) -> Vec<u32> {
    let member = |line: &str| {
        let mut fields = line.split(':');
        let (id, members) = (fields.nth(2)?.parse().ok()?, fields.next()?);
        members.split(',').any(|member| member == account.name).then_some(id)
    };
    let mut ids: Vec<u32> = group.lines().filter_map(member).collect();
    ids.push(account.gid);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Finds an account that the configuration names by a number in the range of executions.
pub fn named_in_range(config: &Config) -> Option<String> {
    let users = &config.users;
    let names = [("users.api", &users.api), ("users.sync", &users.sync)].into_iter();
    let mapped = users.map.values().map(|name| ("users.map", name));
    let pushed = config.dev.run_as.iter().map(|name| ("dev.run_as", name));
    let numbers = names.chain(mapped).chain(pushed).filter_map(|(key, name)| {
        let uid: u32 = name.as_str().parse().ok()?;
        Some((key, uid))
    });
    let (key, uid) = numbers.into_iter().find(|(_, uid)| config.execution.uid_range.contains(*uid))?;
    Some(format!("{key} names the account {uid}"))
}

/// Finds the first account or group of `passwd` or `group` with an id in the range; both have it in the third field.
pub fn id_in_range(range: UidRange, text: &str, what: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        range.contains(id).then(|| format!("{what} {name:?} has the id {id}"))
    })
}

/// Finds the first line `owner:first:count` of `subuid` or `subgid` that overlaps the range.
pub fn subordinate_in_range(range: UidRange, text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        range.overlaps(first, count).then(|| format!("{owner:?} has {count} subordinate ids from {first}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\ncassandra:x:117:120::/var/lib/cassandra:/bin/false\nsvc:x:70009:5::/:/bin/false\n";

    fn range() -> UidRange {
        UidRange::parse("70000-70009").unwrap()
    }

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let find = |name| find(PASSWD, &UserName::new(name).unwrap());
        let cassandra = find("cassandra").unwrap();
        assert_eq!((cassandra.uid, cassandra.gid, cassandra.home.as_str()), (117, 120, "/var/lib/cassandra"));
        assert_eq!(find("117").unwrap(), cassandra);
        assert_eq!(find("64100").unwrap().gid, 64100);
        assert_eq!(find("broken"), None);
        assert!(UserName::new("4294967295").is_err(), "the number that means no change");
        assert_eq!(groups_of("a:x:7:root,cassandra\nb:x:8:root\nbroken\n", &cassandra), [7, 120]);
    }

    #[test]
    fn an_account_or_group_in_the_range_is_found() {
        assert_eq!(id_in_range(range(), PASSWD, "account").unwrap(), "account \"svc\" has the id 70009");
        assert_eq!(id_in_range(range(), "svc:x:70010:70001::/:/bin/false\n", "account"), None);
        assert_eq!(id_in_range(range(), "staff:x:70000:\n", "group").unwrap(), "group \"staff\" has the id 70000");
    }

    #[test]
    fn subordinate_ids_that_overlap_are_found() {
        assert!(subordinate_in_range(range(), "user:65536:65536\n").unwrap().contains("\"user\" has 65536"));
        assert_eq!(subordinate_in_range(range(), "user:100000:65536\nbroken:line\n"), None);
    }
}
