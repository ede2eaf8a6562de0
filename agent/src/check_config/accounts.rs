//! Accounts that the configuration names, and the range of user ids of executions.

use std::path::Path;

use packs_schema::agent::accounts::{self, Account, id_in_range, named_in_range, subordinate_in_range};
use packs_schema::agent::config::Config;
use packs_schema::base::name::UserName;

use super::{Identity, Report, is_root};

/// Checks the accounts; returns the identities of api and sync where they are known.
pub(super) fn check(path: &Path, config: &Config, report: &mut Report) -> (Option<Identity>, Option<Identity>) {
    if !is_root() {
        return (Some(Identity::current()), Some(Identity::current()));
    }
    let passwd = match std::fs::read("/etc/passwd") {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            report.error(Path::new("/etc/passwd"), format!("cannot read it: {error}"));
            return (None, None);
        }
    };
    let mut find = |key: &str, name: &UserName| -> Option<Account> {
        let found = accounts::find(&passwd, name);
        if found.is_none() {
            report.error(
                path,
                format!("{key} = {name}: there is no such account in /etc/passwd; create it, or name another account"),
            );
        }
        found
    };
    let api = find("users.api", &config.users.api);
    let sync = find("users.sync", &config.users.sync);
    for (pack_name, here) in &config.users.map {
        find(&format!("users.map.{pack_name}"), here);
    }
    let mapped = |name| config.users.map.get(name).unwrap_or(name);
    for name in &config.dev.run_as {
        find("dev.run_as", mapped(name));
    }
    let default = config.execution.default_run_as.as_ref();
    let default = default.and_then(|name| find("execution.default_run_as", mapped(name)));
    if default.as_ref().is_some_and(|account| account.uid == 0) {
        report.warn(
            path,
            "execution.default_run_as is root: every action that names no account runs as root; remove the key, and each \
             execution gets an account of its own",
        );
    }
    let mut service = |key: &str, account: Option<Account>| {
        let account = account?;
        if account.uid == 0 {
            let message =
                format!("users.{key} = {}: it reads the network and must not be root; name another", account.name);
            report.error(path, message);
            return None;
        }
        Some(Identity::of(account))
    };
    let identities = (service("api", api), service("sync", sync));
    check_separation(path, &identities, default.as_ref(), report);
    if config.execution.default_run_as.is_none() {
        check_range(path, config, &passwd, report);
    }
    identities
}

/// Checks that api, sync and actions do not share an account: the owners of the directories keep them apart.
fn check_separation(
    path: &Path,
    (api, sync): &(Option<Identity>, Option<Identity>),
    default: Option<&Account>,
    report: &mut Report,
) {
    let is = |identity: &Option<Identity>, other: &Account| {
        identity.as_ref().is_some_and(|identity| identity.account.uid == other.uid)
    };
    if let Some(sync) = sync
        && is(api, &sync.account)
    {
        report.warn(
            path,
            format!(
                "users.api and users.sync are the same account, {}: whoever takes over the api could replace packs, and run code \
                 as root; name another account for one of them",
                sync.account.name
            ),
        );
    }
    for (key, identity) in [("users.api", api), ("users.sync", sync)] {
        if let Some(default) = default.filter(|default| is(identity, default)) {
            report.warn(
                path,
                format!(
                    "execution.default_run_as and {key} are the same account, {}: every action that names no account could change \
                     what that account owns; remove the key, and each execution gets an account of its own",
                    default.name
                ),
            );
        }
    }
}

/// Checks that no local account, group or subordinate range has an id of executions. The launcher asks the name service too.
fn check_range(path: &Path, config: &Config, passwd: &str, report: &mut Report) {
    let range = config.execution.uid_range;
    let read = |path: &str| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let user = named_in_range(config)
        .or_else(|| id_in_range(range, passwd, "account"))
        .or_else(|| id_in_range(range, &read("/etc/group"), "group"))
        .or_else(|| subordinate_in_range(range, &read("/etc/subuid")))
        .or_else(|| subordinate_in_range(range, &read("/etc/subgid")));
    if let Some(user) = user {
        report.error(
            path,
            format!(
                "execution.uid_range = \"{range}\" is in use: {user}; name a range that no account, group or container has, \
                 or set execution.default_run_as to one account that all actions share"
            ),
        );
    }
}
