//! Effective user and groups for a part of the check.

use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setegid, seteuid, setgroups};
use packs_schema::agent::accounts::{self, Account};

use super::Report;

/// Account whose permissions a part of the check uses.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) account: Account,
    /// Groups to take; `None` where the process is not root and keeps its own identity.
    groups: Option<Vec<Gid>>,
}

impl Identity {
    /// Identity of an account that the launcher would switch to.
    pub(super) fn of(account: Account) -> Identity {
        let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let groups = accounts::groups_of(&group, &account).into_iter().map(Gid::from_raw).collect();
        Identity { account, groups: Some(groups) }
    }

    /// Identity of the current user.
    pub(super) fn current() -> Identity {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        Identity { account: Account { name: uid.to_string(), uid, gid, home: "/".to_owned() }, groups: None }
    }

    /// Runs `part` with the permissions of the account, and takes the previous ones back.
    pub(super) fn run(&self, report: &mut Report, part: impl FnOnce(&mut Report)) {
        let Some(groups) = &self.groups else { return part(report) };
        let before = (getgroups().unwrap_or_default(), getegid(), geteuid());
        let switched = setgroups(groups)
            .and_then(|()| setegid(Gid::from_raw(self.account.gid)))
            .and_then(|()| seteuid(Uid::from_raw(self.account.uid)));
        match switched {
            Ok(()) => part(report),
            Err(errno) => report.error(
                std::path::Path::new("/proc/self"),
                format!("cannot take the permissions of {}: {errno}; run the check as root", self.account.name),
            ),
        }
        let restored = seteuid(before.2).and_then(|()| setegid(before.1)).and_then(|()| setgroups(&before.0));
        restored.expect("the saved user id of a process that was root is root");
    }
}
