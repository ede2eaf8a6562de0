//! State of the launcher that is prepared once at its start and only read afterwards: configuration, accounts, cgroups, the run-time
//! directory. The launcher does not start when any part of it cannot be prepared.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchown, getegid, geteuid};
use packs_schema::agent::config::{Config, ConfigError};
use packs_schema::agent::store::StoredPack;
use packs_schema::base::name::UserName;
use packs_schema::base::trust::TrustError;
use packs_schema::pack::action::Action;

use crate::accepted::Accepted;
use crate::account::{self, Account, AccountError};
use crate::cgroup::{self, AgentGroups, Tree, Unenforced};
use crate::dir::{self, Dir};
use crate::parsed::Parsed;
use crate::preparations::Preparations;
use crate::shims::Shims;
use crate::uids::{OpenError, UidPool};
use crate::{log, sys, trust};

/// Maximum size of the configuration file, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Maximum number of definitions of packs, and of actions, that are kept in memory: some 10 kB each.
const MAX_PARSED: usize = 16;
/// Name of the lock file in the run-time directory.
const LOCK: &str = "launcher.lock";
/// Name of the file in the run-time directory that describes which limits are enforced.
const ENFORCEMENT: &str = "enforcement.json";

/// State of the launcher; see the module.
pub(crate) struct Host {
    pub(crate) config: Config,
    /// True if the launcher runs as root and can change accounts.
    pub(crate) root: bool,
    /// The launcher's own account.
    pub(crate) me: Account,
    /// Account of the api; without root and with `--attach`, the launcher's own.
    pub(crate) api: Account,
    /// Account of the sync; absent with `--attach` if it does not exist.
    pub(crate) sync: Option<Account>,
    pub(crate) tree: Tree,
    /// Groups of api and sync.
    pub(crate) groups: AgentGroups,
    /// Limits that this host cannot enforce.
    pub(crate) unenforced: Vec<Unenforced>,
    pub(crate) runtime: Dir,
    pub(crate) boot_id: String,
    /// User ids for executions; absent without root, and when `execution.default_run_as` is set.
    pub(crate) uids: Option<UidPool>,
    /// Queued executions that may start although their version was replaced.
    pub(crate) accepted: Accepted,
    /// Definitions of packs and of actions.
    pub(crate) packs: Parsed<StoredPack>,
    pub(crate) actions: Parsed<Action>,
    /// Signals that this process ignores, which its children must not.
    pub(crate) ignored_signals: Vec<i32>,
    pub(crate) shims: Shims,
    pub(crate) preparations: Preparations,
    _lock: File,
}

/// Error returned when the launcher cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("cannot read configuration {0:?}")]
    ReadConfig(PathBuf, #[source] io::Error),
    #[error("the configuration file is not trusted")]
    UntrustedConfig(#[from] TrustError<io::Error>),
    #[error("configuration {0:?} is invalid")]
    Config(PathBuf, #[source] ConfigError),
    #[error("users.{key} = {name} cannot be used")]
    Account {
        key: &'static str,
        name: UserName,
        #[source]
        source: AccountError,
    },
    #[error("users.{key} = {name} is root; api and sync must not run as root: name another account")]
    IsRoot { key: &'static str, name: UserName },
    #[error("{what} directory {path:?} cannot be {step}")]
    Directory {
        what: &'static str,
        path: PathBuf,
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "{what} directory {path:?} has owner {owner}, mode {mode:o}, but must have owner {wanted} and not be writable \
         by group or others; correct it, or name another directory under [paths]"
    )]
    WrongOwner { what: &'static str, path: PathBuf, owner: u32, mode: u32, wanted: u32 },
    #[error("cannot prepare accounts for executions")]
    Uids(#[source] OpenError),
    #[error("{0:?} is in use by another launcher: stop it, or name another directory under paths.runtime")]
    InUse(PathBuf),
    #[error("cannot write {0} in {1:?}")]
    Write(&'static str, PathBuf, #[source] io::Error),
}

impl Host {
    /// Reads the configuration and prepares everything. The run-time directory stays locked until the value is dropped.
    pub(crate) fn prepare(path: &Path, attach: bool) -> Result<Host, HostError> {
        let root = geteuid().is_root();
        let config = read_config(path)?;
        let me = account::by_uid(geteuid(), getegid());
        let (api, sync) = accounts(&config, root, attach, &me)?;
        let runtime = prepare_directory("runtime", &config.paths.runtime, geteuid(), 0o711)?;
        let lock = take_lock(&runtime)?;
        if !attach {
            let sync_uid = sync.as_ref().map_or(me.uid, |a| a.uid);
            prepare_directory("state", &config.paths.state, api.uid, 0o700)?;
            prepare_directory("execution", &config.paths.executions(), api.uid, 0o700)?;
            prepare_directory("pack", &config.paths.packs, sync_uid, 0o755)?;
            if config.dev.push {
                prepare_inbox(&config, &api, sync.as_ref())?;
            }
        }
        if root {
            let mut trusted = vec![Uid::from_raw(0)];
            trusted.extend(sync.as_ref().map(|a| a.uid));
            check_parents(&config.paths.packs, &trusted)?;
        }
        let uids = match root && config.execution.default_run_as.is_none() {
            true => Some(UidPool::open(&config, &runtime).map_err(HostError::Uids)?),
            false => None,
        };
        let accepted =
            Accepted::open(&runtime).map_err(|e| HostError::Write("accepted", runtime.path().to_owned(), e.into()))?;
        let mut tree = cgroup::detect(config.execution.cgroup.as_deref());
        let share = cgroup::TotalShare::of_host(&config.execution.total);
        let (total, total_unenforced) = tree.create_total(share, cgroup::suffix(&config.paths.runtime));
        tree.prune_leftover_groups();
        let (mut enforcement, unenforced) = tree.probe(config.execution.require_limits, root);
        enforcement.total = total;
        (enforcement.shared_account, enforcement.warnings) = default_account(&config, root);
        let groups = if attach { AgentGroups::default() } else { AgentGroups::create(&tree, config.api.memory) };
        let json = serde_json::to_vec(&enforcement).expect("plain data serialises");
        dir::replace_file(&runtime, ENFORCEMENT, 0o644, &json)
            .map_err(|e| HostError::Write(ENFORCEMENT, runtime.path().to_owned(), e))?;
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        for (limit, why) in &unenforced {
            log::warn("limit is not enforced on this host", &[("limit", limit), ("reason", why)]);
        }
        for (limit, why) in &total_unenforced {
            log::warn("total limit is not enforced on this host", &[("limit", limit), ("reason", why)]);
        }
        for warning in &enforcement.warnings {
            log::warn("account of actions is unsuitable", &[("key", &"execution.default_run_as"), ("reason", warning)]);
        }
        if let Some(account) = &enforcement.shared_account {
            let why = "actions that name no account share it and can see each other's processes; remove \
                       execution.default_run_as to give each execution an account of its own";
            log::warn("executions share an account", &[("account", account), ("reason", &why)]);
        }
        log::info("prepared", &[("cgroups", &enforcement.cgroups), ("root", &root), ("attach", &attach)]);
        Ok(Host {
            config,
            root,
            me,
            api,
            sync,
            tree,
            groups,
            unenforced,
            runtime,
            boot_id,
            uids,
            accepted,
            packs: Parsed::new(MAX_PARSED),
            actions: Parsed::new(MAX_PARSED),
            ignored_signals: sys::ignored_signals(),
            shims: Shims::default(),
            preparations: Preparations::default(),
            _lock: lock,
        })
    }

    /// Removes all groups except those of running executions.
    pub(crate) fn remove_groups(&self) {
        self.groups.remove();
        self.tree.prune_leftover_groups();
        self.tree.remove_total();
    }

    /// Returns true if `uid` may own programs: root, the sync's account, and without root the current user.
    pub(crate) fn trusts(&self, uid: u32) -> bool {
        uid == 0 || uid == self.me.uid.as_raw() || self.sync.as_ref().is_some_and(|a| a.uid.as_raw() == uid)
    }
}

/// Returns the shared account of actions that name none, and warnings about it.
fn default_account(config: &Config, root: bool) -> (Option<String>, Vec<String>) {
    let Some(asked) = config.execution.default_run_as.as_ref().filter(|_| root) else { return (None, Vec::new()) };
    let name = config.users.map.get(asked).unwrap_or(asked);
    let warning = match account::find(name) {
        Ok(account) if account.uid.is_root() => Some(
            "execution.default_run_as is root: every action that names no account runs as root; remove the key to give \
             each execution an account of its own"
                .to_owned(),
        ),
        Ok(_) => None,
        Err(e) => Some(format!("execution.default_run_as = {asked}: {e}; actions that name no account cannot run")),
    };
    (Some(asked.to_string()), warning.into_iter().collect())
}

fn read_config(path: &Path) -> Result<Config, HostError> {
    let failed = |e: io::Error| HostError::ReadConfig(path.to_owned(), e);
    let file = File::open(path).map_err(failed)?;
    trust::check(&std::path::absolute(path).map_err(failed)?)?;
    let mut text = String::new();
    file.take(MAX_CONFIG + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(failed(io::Error::other(format!("larger than {MAX_CONFIG} bytes"))));
    }
    Config::parse(&text).map_err(|e| HostError::Config(path.to_owned(), e))
}

/// Returns the accounts of api and sync.
fn accounts(config: &Config, root: bool, attach: bool, me: &Account) -> Result<(Account, Option<Account>), HostError> {
    if !root {
        return Ok((me.clone(), Some(me.clone())));
    }
    if attach {
        // The client runs as this user; the sync's account, if it exists, may own packs.
        let sync = account::find(&config.users.sync).ok();
        return Ok((me.clone(), sync));
    }
    let service = |key, name: &UserName| {
        let found = account::find(name).map_err(|source| HostError::Account { key, name: name.clone(), source })?;
        if found.uid.is_root() { Err(HostError::IsRoot { key, name: name.clone() }) } else { Ok(found) }
    };
    Ok((service("api", &config.users.api)?, Some(service("sync", &config.users.sync)?)))
}

/// Opens a directory, creates it if it does not exist, and refuses one that another account owns or can write.
fn prepare_directory(what: &'static str, path: &Path, owner: Uid, mode: u32) -> Result<Dir, HostError> {
    let failed =
        |step: &'static str| move |e: io::Error| HostError::Directory { what, path: path.to_owned(), step, source: e };
    let mode = Mode::from_bits_truncate(mode);
    let made = match nix::unistd::mkdir(path, mode) {
        Err(Errno::ENOENT) => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(parent).map_err(failed("created"))?;
            nix::unistd::mkdir(path, mode)
        }
        other => other,
    };
    let made = match made {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(e) => return Err(failed("created")(e.into())),
    };
    let opened = Dir::open(path).map_err(|e| failed("opened (it must be a directory, not a link)")(e.into()))?;
    if made {
        let given = if owner == geteuid() { Ok(()) } else { fchown(&opened, Some(owner), None) };
        given.map_err(|e| failed("given to its account")(e.into()))?;
        nix::sys::stat::fchmod(&opened, mode).map_err(|e| failed("protected")(e.into()))?;
    }
    let stat = opened.stat().map_err(|e| failed("examined")(e.into()))?;
    if stat.st_uid != owner.as_raw() || stat.st_mode & dir::WRITABLE_BY_OTHERS != 0 {
        let (path, owner_found, mode) = (path.to_owned(), stat.st_uid, stat.st_mode & 0o7777);
        return Err(HostError::WrongOwner { what, path, owner: owner_found, mode, wanted: owner.as_raw() });
    }
    Ok(opened)
}

/// Prepares the directory in which the api stores pushed packs: only the api writes it, and the sync's group reads it.
fn prepare_inbox(config: &Config, api: &Account, sync: Option<&Account>) -> Result<(), HostError> {
    let path = config.paths.inbox();
    let inbox = prepare_directory("inbox", &path, api.uid, 0o750)?;
    let Some(sync) = sync.filter(|_| geteuid().is_root()) else { return Ok(()) };
    fchown(&inbox, None, Some(sync.gid)).map_err(|e| {
        let step = "given to the group of the sync's account";
        HostError::Directory { what: "inbox", path, step, source: e.into() }
    })
}

/// Checks that no other account can replace the store by writing to one of its parent directories: entry points are executed by path.
fn check_parents(packs: &Path, trusted: &[Uid]) -> Result<(), HostError> {
    let failed =
        |path: &Path, e| HostError::Directory { what: "pack", path: path.to_owned(), step: "examined", source: e };
    let real = match packs.canonicalize() {
        Ok(real) => real,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(packs, e)),
    };
    for parent in real.ancestors().skip(1) {
        let stat = std::fs::metadata(parent).map_err(|e| failed(parent, e))?;
        let sticky = stat.mode() & libc::S_ISVTX != 0;
        let owned = trusted.iter().any(|uid| uid.as_raw() == stat.uid());
        if !owned || (stat.mode() & dir::WRITABLE_BY_OTHERS != 0 && !sticky) {
            let (path, owner, mode) = (parent.to_owned(), stat.uid(), stat.mode() & 0o7777);
            return Err(HostError::WrongOwner { what: "pack", path, owner, mode, wanted: 0 });
        }
    }
    Ok(())
}

fn take_lock(runtime: &Dir) -> Result<File, HostError> {
    let failed = |e: io::Error| HostError::Write(LOCK, runtime.path().to_owned(), e);
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file =
        nix::fcntl::openat(runtime, LOCK, flags, Mode::from_bits_truncate(0o600)).map_err(|e| failed(e.into()))?;
    let file = File::from(file);
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HostError::InUse(runtime.path().to_owned())),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}
