"""Exceptions: one base class, and one for each outcome of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Type

if TYPE_CHECKING:
    from ._results import RunResult


class BoltError(Exception):
    """Base class of all errors of this package.

    `hint` says what to do about it, if anything. No message holds a secret parameter.
    """

    hint: Optional[str] = None

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class InvalidArgument(BoltError, ValueError):
    """An argument cannot be used; its name leads the message. Nothing was started."""


class ConfigurationError(BoltError):
    """`client.toml`, a certificate or a key cannot be used; the message names the file, and the line or key."""


class InventoryError(BoltError):
    """A source of the inventory failed, or two contradict each other. `partial=True` goes on without what failed."""


class NoInstances(BoltError):
    """The conditions choose no instance, or none were given and the inventory has several."""


class NotConfirmed(BoltError):
    """The run changes more than one instance and `confirmed=True` is missing. Nothing was started.

    `plan` holds the batches in their order, each with its `name` and its `instances`.
    """

    plan: List[Dict[str, Any]]


class RunStoreError(BoltError):
    """The record of runs cannot be read or written; a new run was not started."""


class UnknownRun(RunStoreError):
    """No run with this id is recorded."""


class RunExists(RunStoreError):
    """A run with this id is recorded already: `resume` goes on with it."""


class RunBusy(RunStoreError):
    """Another client carries out the run."""


class ForkedProcess(BoltError):
    """This process was forked from one that had used the package, whose threads it does not have.

    Use the start method "spawn" or "forkserver" of multiprocessing, or make the first call after the fork.
    """


class InstanceError(BoltError):
    """Error of one instance.

    `outcome` is a word of a closed list, `code` a finer one, `address` where the instance was contacted, `phase` how far the
    request came: `resolve`, `connect`, `tls`, `http` or `refused`.
    """

    instance: Optional[str] = None
    address: Optional[str] = None
    code: Optional[str] = None
    phase: Optional[str] = None
    outcome: Optional[str] = None


class Unreachable(InstanceError):
    """The instance was not reached, contact was lost, or its end is not known within `instance_timeout`. With `may_run` of its result an execution may run there."""


class TlsFailed(InstanceError):
    """A certificate was refused, by this client or by the agent."""


class WrongInstance(InstanceError):
    """Another instance answered at the address."""


class Unauthorized(InstanceError):
    """The agent has no grant for the caller."""


class Refused(InstanceError):
    """The agent refused for another reason; see `code`."""


class NoSuchAction(InstanceError):
    """The instance has no such action, or shows it to others only."""


class InvalidParameters(InstanceError):
    """Parameters do not fit the action. `instance` is None if this was found before anything was sent."""


class VersionMismatch(InstanceError):
    """The version that was asked for is not active on the instance."""


class Busy(InstanceError):
    """The agent has no room for it now: its queue, rate or disk."""


class NotStarted(InstanceError):
    """The run was stopped before it came to the instance."""


class ExecutionFailed(InstanceError):
    """The execution ended in another state than `succeeded`: `failed`, `timed_out`, `killed`, `lost` …, as `outcome` says.

    `exit_code` is that of the action, `signal` the signal that ended it.
    """

    exit_code: Optional[int] = None
    signal: Optional[int] = None
    execution_id: Optional[str] = None


class RunFailed(BoltError):
    """Raised by `RunResult.raise_for_failures`. `result` is the whole result, `errors` the error of each instance."""

    result: "RunResult"
    errors: List[InstanceError]


class Interrupted(KeyboardInterrupt):
    """A run was interrupted: nothing more was started.

    `run_id` names the run for `resume`; `result` is what is known of it, or None after a second interrupt, which does not wait
    for executions to end.
    """

    run_id: str
    result: "Optional[RunResult]"


class BoltWarning(UserWarning):
    """Something to know that stops nothing, such as an incomplete inventory with `partial=True`."""


_KNOWN: Dict[str, Type[BoltError]] = {
    known.__name__: known
    for known in (
        BoltError,
        Busy,
        ConfigurationError,
        InvalidArgument,
        InvalidParameters,
        InventoryError,
        NoInstances,
        NoSuchAction,
        NotConfirmed,
        NotStarted,
        Refused,
        RunBusy,
        RunExists,
        RunStoreError,
        TlsFailed,
        Unauthorized,
        UnknownRun,
        Unreachable,
        VersionMismatch,
        WrongInstance,
    )
}


def from_fault(fault: Mapping[str, Any]) -> BoltError:
    """Returns the exception that the native half names."""
    error = _KNOWN.get(fault["exception"], BoltError)(fault["message"])
    error.hint = fault.get("hint")
    for name, value in (fault.get("fields") or {}).items():
        setattr(error, name, value)
    return error
