//! A `Start` request: everything that it names is looked up and checked here again, whatever the api has checked; then a
//! shim is forked.
//!
//! ```text
//!  store::find ─▶ bind ─▶ account ─▶ directory::claim ─▶ cgroup ─▶ runtime ─▶ fork ─▶ shim
//!   (nothing is changed up to here)        └──────── undone when a later step fails ───────┘
//! ```

mod account;
mod directory;
pub(crate) mod environment;
mod store;
mod venv;

use std::ffi::CString;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::Pid;
use packs_schema::agent::execution::file;
use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::base::name::ExecutionId;
use packs_schema::pack::action::LeftoverPolicy;
use packs_schema::pack::param::bind::bind;
use packs_schema::pack::param::deliver::{CONFIG_KEY, Delivery, deliver};
use serde_json::{Map, Value};

use crate::account::Account;
use crate::cgroup::{self, Group, Missing};
use crate::dir::Dir;
use crate::host::Host;
use crate::shim::{self, Job, Program};
use crate::sys;

use account::Chosen;
pub(crate) use directory::open as open_directory;
pub(crate) use store::{check_active, instance};

/// Nothing was started.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Refusal,
    pub(crate) message: String,
}

pub(crate) fn refuse<T>(code: Refusal, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { code, message: message.into() })
}

/// In an execution's runtime directory: the user id of one whose account others may have as well.
pub(crate) const ACCOUNT: &str = "account";
/// Everything that may be in that directory; `result` is from launchers before this one.
pub(crate) const IN_RUNTIME: [&str; 3] = [ACCOUNT, file::KILL, "result"];

/// Starts an execution. In the forked shim this never returns.
pub(crate) fn start(host: &Host, start: &Start) -> Result<Pid, Refused> {
    check_running(host)?;
    let mut found = store::find(host, start)?;
    if found.push_ends_in.is_some() {
        // What was pushed ends with its time, services included.
        found.action.leftovers = LeftoverPolicy::Stop;
    }
    let action = &found.action;
    if !action.enabled {
        return refuse(Refusal::ActionDisabled, format!("{} is disabled", action.reference()));
    }
    if start.noop && !action.noop {
        let message = format!("{} does not understand noop: its file must say bolt.noop: true", action.reference());
        return refuse(Refusal::InvalidParameters, message);
    }
    let bound = bind(&action.parameters, &start.parameters).or_else(|errors| {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        refuse(Refusal::InvalidParameters, list.join("; "))
    })?;
    let Chosen { account, lease, missing: run_as_missing } =
        account::choose(host, action.run_as.as_ref(), &start.execution)?;
    let asked = start.timeout_ms.map_or(action.timeout(), |ms| action.timeout().min(Duration::from_millis(ms)));
    let timeout = found.push_ends_in.map_or(asked, |left| asked.min(left));
    let mut delivery = deliver(&action.parameters, &bound);
    if !action.arguments {
        delivery.arguments.clear();
    }
    if !found.config_secrets.is_empty() {
        delivery.stdin = with_config(bound.values(), &found);
    }
    let instance = store::instance(host)?;
    let given = environment::Given {
        instance: &instance,
        start,
        account: &account,
        config: &found.config,
        venv: found.venv.as_ref(),
        timeout,
    };
    let environment = environment::build(&given, &delivery)?;
    let program = program(&found, &delivery, environment, account.clone(), host.root)?;

    let mut missing = host.missing.clone();
    missing.extend(run_as_missing);
    require(host, &missing)?;
    let claim = directory::claim(host, &start.execution)?;
    // Once only, also where the lock in the api's directory is taken away.
    host.accepted.forget(&start.execution);
    let prepared = prepare(host, start, &found.action.limits, &account, lease.is_some());
    let Prepared { group, missing: now, runtime, result } = prepared.inspect_err(|_| claim.release())?;
    missing.extend(now.into_iter().filter(|(limit, _)| !host.missing.iter().any(|(known, _)| known == limit)));
    let undo = |group: &Group| {
        discard_runtime(host, start.execution.as_str());
        group.remove();
        claim.release();
    };
    if let Err(refused) = require(host, &missing) {
        undo(&group);
        return Err(refused);
    }
    let launcher = nix::unistd::getpid();
    match sys::fork() {
        Ok(None) => shim::run(Job {
            execution: start.execution.clone(),
            launcher,
            action: found.action,
            program,
            stdin: delivery.stdin,
            timeout,
            ends_with_push: timeout < asked,
            unenforced: missing.iter().map(describe).collect(),
            boot_id: host.boot_id.clone(),
            directory: claim.directory,
            lock: claim.lock,
            room: claim.room,
            group,
            runtime,
            runtime_parent: host.runtime.as_fd(),
            result,
            lease,
        }),
        // The shim has its own copies of the locks' descriptors: closing ours lets go of nothing.
        Ok(Some(pid)) => {
            if let Some(lease) = lease {
                lease.hand_over();
            }
            Ok(pid)
        }
        Err(e) => {
            undo(&group);
            refuse(Refusal::Resources, format!("no process can be made: {e}"))
        }
    }
}

/// Refuses what would be one execution too many, whatever the api counts. Each has its runtime directory from before it exists
/// until nothing of it is left, also those of an older launcher and those whose shim has died.
fn check_running(host: &Host) -> Result<(), Refused> {
    let most = host.config.execution.max_shims();
    let names = host.runtime.names();
    let running = names.iter().filter(|name| ExecutionId::new(name.as_str()).is_ok()).count();
    if running < most as usize {
        return Ok(());
    }
    let message = format!(
        "{running} executions run, and the launcher lets {most} run at once (execution.max_shims): ask again when one has ended"
    );
    refuse(Refusal::TooManyRunning, message)
}

/// Standard input of an action whose pack has secrets in its configuration: there it stands whole, beside the parameters.
fn with_config(parameters: &Map<String, Value>, found: &store::Found) -> Vec<u8> {
    let whole: Map<String, Value> = found.config.clone().into_iter().chain(found.config_secrets.clone()).collect();
    let mut object = parameters.clone();
    object.insert(CONFIG_KEY.to_owned(), Value::Object(whole));
    let mut stdin = serde_json::to_vec(&object).expect("a JSON map serialises");
    stdin.push(b'\n');
    stdin
}

/// What an execution needs outside its own directory.
struct Prepared {
    group: Group,
    missing: Vec<Missing>,
    runtime: Dir,
    result: std::fs::File,
}

fn prepare(
    host: &Host,
    start: &Start,
    limits: &packs_schema::pack::action::Limits,
    account: &Account,
    own_account: bool,
) -> Result<Prepared, Refused> {
    let name = start.execution.as_str();
    let failed = |what: &str, e: nix::Error| Refused {
        code: Refusal::Resources,
        message: format!("{what} in {} cannot be made: {e}", host.runtime.path().display()),
    };
    let runtime = host.runtime.make_dir(name, 0o711).map_err(|e| failed("a directory", e))?;
    let result = note_account(&runtime, account, own_account)
        .and_then(|()| shim::result::make(&start.execution, host.root.then_some(account)));
    let result = result.map_err(|e| {
        discard_runtime(host, name);
        failed("the files of an execution", e)
    })?;
    match host.tree.create(&cgroup::name_of(&start.execution), limits) {
        Ok((group, missing)) => Ok(Prepared { group, missing, runtime, result }),
        Err(e) => {
            discard_runtime(host, name);
            refuse(Refusal::Resources, format!("no cgroup can be made: {e}"))
        }
    }
}

/// Notes whose processes are to be looked for should the shim die; an account of its own is on record elsewhere.
fn note_account(runtime: &Dir, account: &Account, own_account: bool) -> nix::Result<()> {
    if own_account {
        return Ok(());
    }
    let mut file = runtime.make_file(ACCOUNT, 0o600, OFlag::O_WRONLY)?;
    let written = file.write_all(account.uid.to_string().as_bytes());
    written.map_err(|e| nix::Error::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO)))
}

/// Removes an execution's runtime directory, as far as it is there.
pub(crate) fn discard_runtime(host: &Host, name: &str) {
    if let Ok(dir) = host.runtime.dir(name) {
        for file in IN_RUNTIME {
            let _ = dir.remove_file(file);
        }
        let _ = host.runtime.remove_dir(name);
    }
}

fn describe((what, why): &Missing) -> String {
    if matches!(*what, "run_as" | cgroup::IO_WEIGHT) {
        format!("{what}: {why}")
    } else {
        format!("{what} limit: {why}")
    }
}

/// Refuses what cannot be capped, when that is required. A weight caps nothing.
fn require(host: &Host, missing: &[Missing]) -> Result<(), Refused> {
    let missing: Vec<&Missing> = missing.iter().filter(|(limit, _)| *limit != cgroup::IO_WEIGHT).collect();
    if missing.is_empty() || !host.config.execution.require_limits {
        return Ok(());
    }
    let list: Vec<String> = missing.into_iter().map(describe).collect();
    let message = format!(
        "{}; run the launcher as root in a delegated cgroup (Delegate=yes, or execution.cgroup in agent.toml), \
         or set execution.require_limits = false to run without",
        list.join("; ")
    );
    refuse(Refusal::LimitsUnavailable, message)
}

fn program(
    found: &store::Found,
    delivery: &Delivery,
    environment: Vec<CString>,
    account: Account,
    change_account: bool,
) -> Result<Program, Refused> {
    let text = |text: &str| {
        CString::new(text).or_else(|_| refuse(Refusal::InvalidParameters, "an argument holds a NUL character"))
    };
    // Run by its path and not by its descriptor: an interpreter is handed a path, and /dev/fd/N would be gone by then.
    // The path is safe because every directory of it was opened and belongs to an account that may change it anyway.
    let entry = text(&found.entry_path.to_string_lossy())?;
    let (path, mut arguments) = match &found.venv {
        None => (entry.clone(), vec![entry]),
        // -B: the pack's directory is not the action's to change, and root could.
        Some(venv) => {
            let python = text(&venv.python.to_string_lossy())?;
            (python.clone(), vec![python, c"-B".to_owned(), entry])
        }
    };
    for argument in &delivery.arguments {
        arguments.push(text(argument)?);
    }
    let directory = found
        .directory
        .as_fd()
        .try_clone_to_owned()
        .or_else(|e| refuse(Refusal::Resources, format!("no descriptor for the pack: {e}")))?;
    Ok(Program { path, arguments, environment, directory, account, change_account })
}
