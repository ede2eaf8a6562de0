"""Runs actions of Bolt on a fleet of instances.

    from bolt_fleet import Fleet

    fleet = Fleet()
    result = fleet.run("service.restart", {"name": "cassandra"}, where='app == "cassandra"', by="zone", confirmed=True)
    result.raise_for_failures()

The planner, the inventory and the record of runs are those of the `bolt` command.
"""

from ._calls import Amount, Time
from ._errors import (
    BoltError,
    BoltWarning,
    Busy,
    ConfigurationError,
    ExecutionFailed,
    ForkedProcess,
    InstanceError,
    Interrupted,
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
    RunFailed,
    RunStoreError,
    TlsFailed,
    Unauthorized,
    UnknownRun,
    Unreachable,
    VersionMismatch,
    WrongInstance,
)
from ._fleet import AsyncFleet, Fleet
from ._native import __version__
from ._results import Batch, Execution, Instance, InstanceResult, KillResult, Progress, RunInfo, RunResult

__all__ = [
    "Amount",
    "AsyncFleet",
    "Batch",
    "BoltError",
    "BoltWarning",
    "Busy",
    "ConfigurationError",
    "Execution",
    "ExecutionFailed",
    "Fleet",
    "ForkedProcess",
    "Instance",
    "InstanceError",
    "InstanceResult",
    "Interrupted",
    "InvalidArgument",
    "InvalidParameters",
    "InventoryError",
    "KillResult",
    "NoInstances",
    "NoSuchAction",
    "NotConfirmed",
    "NotStarted",
    "Progress",
    "Refused",
    "RunBusy",
    "RunExists",
    "RunFailed",
    "RunInfo",
    "RunResult",
    "RunStoreError",
    "Time",
    "TlsFailed",
    "Unauthorized",
    "UnknownRun",
    "Unreachable",
    "VersionMismatch",
    "WrongInstance",
    "__version__",
]
