//! `Start` requests: everything that a request names is looked up and checked again, whatever the api has checked; then a shim
//! is given the execution.
//!
//! ```text
//!  store::resolve ─▶ bind ─▶ account ─▶ claim ─▶ run-time directory, result ─▶ cgroup ─▶ shim
//!   (nothing is changed up to here)        └──────── undone when a later step fails ───────┘
//! ```
//!
//! A `Prepare` request has all of it done before but the claim, while the api commits the acceptance, and the process made as well if
//! a shim is idle ([`crate::preparations`]). Its start is then:
//!
//! ```text
//!  claim ─▶ run-time directory renamed ─▶ claim sent to the shim ─▶ `started` ─▶ process released
//! ```

mod account;
mod claim;
mod environment;
mod store;
mod store_file;
mod venv;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::unistd::Pid;
use packs_schema::agent::execution::file;
use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::pack::action::{LeftoverPolicy, Limits};
use packs_schema::pack::deliver::{Delivery, deliver};
use packs_schema::pack::param::bind::bind;

use crate::account::Account;
use crate::cgroup::{self, Group, Unenforced};
use crate::dir::Dir;
use crate::host::Host;
use crate::preparations::Prepared;
use crate::refusal::{Refused, refuse};
use crate::shim::{self, Claim, Clock, Inherited, Job, Plan, Program, Rules, UnclaimedJob};
use crate::uids::Lease;
use crate::{clean_up, runtime_dir};

use account::ChosenAccount;
pub(crate) use store::{check_active, instance_facts};

/// Shortest time-out: a timer of no time would be none.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// Starts an execution and returns the pid of its shim. In a forked shim this never returns.
pub(crate) fn start(host: &Host, start: &Start) -> Result<Pid, Refused> {
    if let Some(prepared) = host.preparations.take(start, &host.runtime, &host.shims) {
        return start_prepared(host, start, prepared);
    }
    if check_running(host).is_err() {
        // Preparations whose acceptance failed must not take the place of an execution.
        host.preparations.discard_all(&host.runtime, &host.shims);
        check_running(host)?;
    }
    let (looked_up, _) = look_up(host, start)?;
    let claim = claim(host, start)?;
    start_claimed(host, start, looked_up, claim)
}

fn start_claimed(host: &Host, start: &Start, looked_up: LookedUp, claim: Claim) -> Result<Pid, Refused> {
    let unclaimed = match equip(host, looked_up, start.execution.as_str()) {
        Ok(unclaimed) => unclaimed,
        Err(refused) => {
            claim::release(&claim.directory);
            return Err(refused);
        }
    };
    assign(host, unclaimed.claimed(claim))
}

/// Makes ready for an execution that the api is about to accept: all but the claim and the process.
pub(crate) fn prepare(host: &Host, start: Start) -> Result<(), Refused> {
    if host.preparations.is_full() {
        return refuse(Refusal::TooManyRunning, "too many executions are prepared");
    }
    if host.runtime.has(start.execution.as_str()) != Ok(false) {
        return refuse(Refusal::AlreadyStarted, format!("execution {} has been started", start.execution));
    }
    check_running(host)?;
    let (looked_up, home) = look_up(host, &start)?;
    if looked_up.is_pushed {
        // The end of a pushed version is compared with the clock when it starts.
        return refuse(
            Refusal::NotActive,
            format!("{} is of a pushed version, which is not prepared", start.execution),
        );
    }
    let unclaimed = equip(host, looked_up, &runtime_dir::prepared_name(&start.execution))?;
    host.preparations.put(start, Prepared::new(unclaimed, home, &host.shims));
    Ok(())
}

/// Starts the execution of a preparation, if its version is still the active one of its pack.
fn start_prepared(host: &Host, start: &Start, mut prepared: Prepared) -> Result<Pid, Refused> {
    let claimed = store::require_active(&prepared.home, start).and_then(|()| claim(host, start));
    let claim = match claimed {
        Ok(claim) => claim,
        Err(refused) => {
            prepared.discard(&host.runtime, &host.shims);
            return Err(refused);
        }
    };
    if let Err(e) = prepared.activate(&host.runtime) {
        prepared.discard(&host.runtime, &host.shims);
        claim::release(&claim.directory);
        return refuse(Refusal::Resources, format!("cannot use what was prepared for {}: {e}", start.execution));
    }
    let Some(waiting) = &prepared.waiting else { return assign(host, prepared.job.claimed(claim)) };
    let clock = Clock::start();
    let Ok(shim) = host.shims.claim(waiting, &claim, clock) else {
        return start_again(host, start, prepared, claim);
    };
    // From here on the shim has the execution: where its process is not released, it makes another one, or records why it does not.
    let Prepared { mut job, waiting, .. } = prepared;
    if let Some(lease) = &mut job.lease {
        lease.hand_over();
    }
    let started = shim::write_started(&job.plan, &claim.directory, &host.boot_id, &clock);
    // In this order: a kill that was answered before the start was on record is obeyed.
    if started.is_ok()
        && claim.directory.has(file::KILL) == Ok(false)
        && let Some(waiting) = waiting
    {
        waiting.release();
    }
    // Not before the release: closing it wakes the api.
    drop(started);
    Ok(shim)
}

/// Starts a claimed execution without what was prepared for it.
fn start_again(host: &Host, start: &Start, prepared: Prepared, claim: Claim) -> Result<Pid, Refused> {
    prepared.discard(&host.runtime, &host.shims);
    match look_up(host, start) {
        Ok((looked_up, _)) => start_claimed(host, start, looked_up, claim),
        Err(refused) => {
            claim::release(&claim.directory);
            Err(refused)
        }
    }
}

fn claim(host: &Host, start: &Start) -> Result<Claim, Refused> {
    let claim = claim::claim(host, &start.execution)?;
    // At most once, even if the lock file in the api's directory is removed.
    host.accepted.remove(&start.execution);
    Ok(claim)
}

/// All that a request names, checked.
struct LookedUp {
    /// Without a group.
    plan: Plan,
    limits: Limits,
    /// Limits that this host or the account does not enforce.
    unenforced: Vec<Unenforced>,
    stdin: Vec<u8>,
    pack: OwnedFd,
    lease: Option<Lease>,
    /// True for a version that was pushed, and ends by the clock.
    is_pushed: bool,
}

/// Looks everything up that a request names; the second value is the directory of its pack.
fn look_up(host: &Host, start: &Start) -> Result<(LookedUp, Dir), Refused> {
    let resolved = store::resolve(host, start)?;
    let action = &resolved.action;
    if !action.enabled {
        return refuse(Refusal::ActionDisabled, format!("{} is disabled", action.reference()));
    }
    if start.noop && !action.noop {
        let message = format!("{} does not support noop: its file must say bolt.noop: true", action.reference());
        return refuse(Refusal::InvalidParameters, message);
    }
    let bound = bind(&action.parameters, &start.parameters).or_else(|errors| {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        refuse(Refusal::InvalidParameters, list.join("; "))
    })?;
    let ChosenAccount { account, lease, unenforced: run_as_unenforced } =
        account::choose(host, action.run_as.as_ref(), &start.execution)?;
    let requested = start.timeout_ms.map_or(action.timeout(), |ms| action.timeout().min(Duration::from_millis(ms)));
    let timeout = resolved.push_expires_in.map_or(requested, |left| requested.min(left)).max(MIN_TIMEOUT);
    let mut delivery = deliver(&action.parameters, &bound, &resolved.config);
    if !action.arguments {
        delivery.arguments.clear();
    }
    let facts = store::instance_facts(host)?;
    let inputs = environment::Inputs { facts: &facts, start, account: &account, venv: resolved.venv.as_ref(), timeout };
    let environment = environment::build(&inputs, &delivery)?;
    let program = program(&resolved, &delivery, environment, account, host.root)?;
    // A pushed version ends at its deadline, and so must all processes that it started.
    let leftovers = resolved.push_expires_in.map_or(action.leftovers, |_| LeftoverPolicy::Stop);
    let mut unenforced = host.unenforced.clone();
    unenforced.extend(run_as_unenforced);
    require_limits(host, &unenforced)?;
    let plan = Plan {
        execution: start.execution.clone(),
        program,
        rules: Rules::of(action, leftovers),
        timeout,
        ends_with_push: timeout < requested,
        unenforced: Vec::new(),
        group: Group::default(),
    };
    let limits = resolved.action.limits;
    let (is_pushed, pack) = (resolved.push_expires_in.is_some(), resolved.directory.into());
    Ok((LookedUp { plan, limits, unenforced, stdin: delivery.stdin, pack, lease, is_pushed }, resolved.home))
}

/// Creates the run-time directory with this name, the file for the result and the cgroups. After an error, none of it exists.
fn equip(host: &Host, looked_up: LookedUp, name: &str) -> Result<UnclaimedJob, Refused> {
    let LookedUp { mut plan, limits, mut unenforced, stdin, pack, lease, is_pushed: _ } = looked_up;
    let execution = &plan.execution;
    let failed = |what: &str, e: nix::Error| Refused {
        code: Refusal::Resources,
        message: format!("cannot create {what} of execution {execution} in {}: {e}", host.runtime.path().display()),
    };
    let account = &plan.program.account;
    let runtime = runtime_dir::create(&host.runtime, name).map_err(|e| failed("the run-time directory", e))?;
    // An account of its own is on record in the pool of user ids.
    let noted = if lease.is_some() { Ok(()) } else { runtime_dir::write_account(&runtime, account.uid.as_raw()) };
    let result = noted.and_then(|()| shim::result::create(execution, host.root.then_some(account)));
    let result = result.map_err(|e| {
        runtime_dir::remove_named(&host.runtime, name);
        failed("the files", e)
    })?;
    let (group, not_set) = host.tree.create(&cgroup::name_of(execution), &limits).or_else(|e| {
        runtime_dir::remove_named(&host.runtime, name);
        refuse(Refusal::Resources, format!("cannot create a cgroup: {e}"))
    })?;
    unenforced
        .extend(not_set.into_iter().filter(|(limit, _)| !host.unenforced.iter().any(|(known, _)| known == limit)));
    if let Err(refused) = require_limits(host, &unenforced) {
        group.remove();
        runtime_dir::remove_named(&host.runtime, name);
        return Err(refused);
    }
    plan.unenforced = unenforced.iter().map(describe).collect();
    plan.group = group;
    Ok(UnclaimedJob { plan, stdin, runtime, result, pack, lease })
}

/// Gives a job to a shim.
fn assign(host: &Host, mut job: Job) -> Result<Pid, Refused> {
    let inherited = Inherited {
        launcher: nix::unistd::getpid(),
        boot_id: &host.boot_id,
        ignored_signals: &host.ignored_signals,
        runtime: &host.runtime,
    };
    // A shim inherits the memory, in which no jobs of other executions may be. A request that arrived in the same read is still there:
    // requests of the api alone, in the memory of a process of root.
    let discard_others = || host.preparations.discard_all(&host.runtime, &host.shims);
    match host.shims.assign(&inherited, &mut job, discard_others) {
        // Closing our descriptors of the locks releases nothing: the shim has copies.
        Ok(pid) => {
            if let Some(lease) = &mut job.handles.lease {
                lease.hand_over();
            }
            Ok(pid)
        }
        Err(e) => {
            job.plan.group.remove();
            runtime_dir::remove(&host.runtime, &job.plan.execution);
            claim::release(&job.handles.directory);
            refuse(Refusal::Resources, format!("cannot give it to a shim: {e}"))
        }
    }
}

/// Refuses an execution beyond `execution.max_shims`, whatever the api counts.
fn check_running(host: &Host) -> Result<(), Refused> {
    let max = host.config.execution.max_shims();
    // Includes prepared executions, which are started without another check.
    let running = runtime_dir::count(&host.runtime) + host.preparations.count();
    if running < max as usize {
        return Ok(());
    }
    // Of those that have ended, a shim is cleaning up: the api may have started this one in place of it.
    // At most as many again: an end that cannot be recorded, because of its directory, which the api owns, takes long.
    let running = running - clean_up::count_ended(host).min(max as usize);
    if running < max as usize {
        return Ok(());
    }
    let message = format!(
        "{running} executions are running, and the launcher allows {max} at once (execution.max_shims); retry when one has ended"
    );
    refuse(Refusal::TooManyRunning, message)
}

fn describe((limit, why): &Unenforced) -> String {
    if matches!(*limit, "run_as" | cgroup::IO_WEIGHT) {
        format!("{limit}: {why}")
    } else {
        format!("{limit} limit: {why}")
    }
}

/// Refuses an execution with limits that cannot be enforced, when the configuration requires them. A weight is never required.
fn require_limits(host: &Host, unenforced: &[Unenforced]) -> Result<(), Refused> {
    let unenforced: Vec<&Unenforced> = unenforced.iter().filter(|(limit, _)| *limit != cgroup::IO_WEIGHT).collect();
    if unenforced.is_empty() || !host.config.execution.require_limits {
        return Ok(());
    }
    let list: Vec<String> = unenforced.into_iter().map(describe).collect();
    let message = format!(
        "{}; run the launcher as root in a delegated cgroup (Delegate=yes, or execution.cgroup in agent.toml), \
         or set execution.require_limits = false to run without",
        list.join("; ")
    );
    refuse(Refusal::LimitsUnavailable, message)
}

fn program(
    resolved: &store::ResolvedAction,
    delivery: &Delivery,
    environment: Vec<CString>,
    account: Account,
    change_account: bool,
) -> Result<Program, Refused> {
    let c_string = |text: &str| {
        CString::new(text).or_else(|_| refuse(Refusal::InvalidParameters, "an argument contains a NUL character"))
    };
    // Executed by path and not by descriptor: an interpreter is given a path, and /dev/fd/N is closed by then. The path is
    // safe because only accounts that may change the pack anyway can write to any of its directories, which were checked.
    let entry = c_string(&resolved.entry_path.to_string_lossy())?;
    let (path, mut arguments) = match &resolved.venv {
        None => (entry.clone(), vec![entry]),
        // -B: no bytecode files in the pack's directory, which root could write.
        Some(venv) => {
            let python = c_string(&venv.python.to_string_lossy())?;
            (python.clone(), vec![python, c"-B".to_owned(), entry])
        }
    };
    for argument in &delivery.arguments {
        arguments.push(c_string(argument)?);
    }
    Ok(Program { path, arguments, environment, account, change_account })
}
