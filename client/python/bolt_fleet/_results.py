"""What calls return."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, NoReturn, Optional, Tuple

from ._errors import ExecutionFailed, InstanceError, NotStarted, RunFailed, from_fault


@dataclass(frozen=True)
class Instance:
    """Instance of the inventory. Facts that are not known are empty."""

    id: str
    address: str
    region: str = ""
    zone: str = ""
    app: str = ""
    cluster: str = ""
    group: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Progress of a run, for `on_progress`.

    `kind` is one of `batch_started`, `starting`, `accepted`, `retrying`, `ended`, `check_started`, `check_ended`, `pausing`,
    `budget_exceeded` and `stopping`; `ended` of `total` instances have ended. Other fields are None where they do not apply.
    """

    kind: str
    run_id: str
    ended: int
    total: int
    instance: Optional[str] = None
    state: Optional[str] = None
    succeeded: Optional[bool] = None
    batch: Optional[str] = None
    execution_id: Optional[str] = None
    message: Optional[str] = None


@dataclass(frozen=True)
class Batch:
    """Batch that waits for `confirm_batch`. `number` counts from 1."""

    number: int
    name: str
    instances: Tuple[str, ...]


@dataclass(frozen=True)
class Execution:
    """Execution as its instance describes it. `duration` is in seconds."""

    id: str
    instance: str
    version: str
    state: str
    exit_code: Optional[int]
    signal: Optional[int]
    duration: Optional[float]


@dataclass(frozen=True)
class InstanceResult:
    """How a run ended on one instance.

    `outcome` is the state of the execution (`succeeded`, `failed`, `timed_out` …) or why there is none (`unreachable`, `busy`,
    `not_started` …). `error` is None if and only if it succeeded. `stdout` and `stderr` are the output as far as it was fetched:
    `truncated` says that there is more, `output_error` why some is missing. `result` is the structured result of the action.
    `duration` is in seconds. `may_run` says that contact was lost while an execution may run.
    """

    instance: str
    outcome: str
    succeeded: bool
    error: Optional[InstanceError] = None
    execution_id: Optional[str] = None
    version: Optional[str] = None
    exit_code: Optional[int] = None
    signal: Optional[int] = None
    duration: Optional[float] = None
    reason: Optional[str] = None
    may_run: bool = False
    truncated: bool = False
    output_error: Optional[str] = None
    result: Optional[Dict[str, Any]] = field(default=None, repr=False)
    stdout: bytes = field(default=b"", repr=False)
    stderr: bytes = field(default=b"", repr=False)

    @property
    def stdout_text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def stderr_text(self) -> str:
        """Standard error as text; bytes that are not UTF-8 are replaced."""
        return self.stderr.decode("utf-8", "replace")

    def raise_for_failure(self) -> None:
        """Raises `error`, if it did not succeed."""
        if self.error is not None:
            raise self.error


class RunResult(Mapping[str, InstanceResult]):
    """Result of a run: for each instance id an `InstanceResult`.

    `run_id` names the run for `resume`, `retry` and `kill`. `stopped` is why not all instances were started: `max_failures`,
    `max_batch_failures`, `max_unreachable`, `check`, `declined`, `deadline` or `interrupted`; None if all were, and the last
    check passed.
    """

    def __init__(
        self,
        run_id: str,
        action: str,
        results: Dict[str, InstanceResult],
        stopped: Optional[str] = None,
        stopped_because: Optional[str] = None,
    ) -> None:
        self.run_id = run_id
        self.action = action
        self.stopped = stopped
        self.stopped_because = stopped_because
        self._results = results

    def __getitem__(self, instance: str) -> InstanceResult:
        return self._results[instance]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        return f"<RunResult {self.run_id} of {self.action}: {counts or 'no instance'}>"

    @property
    def succeeded(self) -> bool:
        """True if it succeeded on all instances and was not stopped."""
        return self.stopped is None and all(one.succeeded for one in self.values())

    @property
    def counts(self) -> Dict[str, int]:
        """Number of instances for each outcome, the most frequent first."""
        return dict(Counter(one.outcome for one in self.values()).most_common())

    @property
    def failures(self) -> Dict[str, InstanceResult]:
        """Results that are not `succeeded`, those of instances that were not started included."""
        return {id: one for id, one in self.items() if not one.succeeded}

    def raise_for_failures(self) -> None:
        """Raises `RunFailed` unless the run succeeded everywhere."""
        if not self.succeeded:
            self._raise()

    def _raise(self) -> NoReturn:
        errors = [one.error for one in self.values() if one.error is not None]
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        text = f"run {self.run_id} of {self.action}: {counts}"
        if self.stopped_because:
            text += f"; {self.stopped_because}"
        failed = RunFailed(text)
        failed.result, failed.errors = self, errors
        raise failed from next((error for error in errors if not isinstance(error, NotStarted)), None)


@dataclass(frozen=True)
class RunInfo:
    """Recorded run. `action_class` is `diagnostic`, `remediation` or `maintenance`, `instances` their number."""

    run_id: str
    action: str
    version: Optional[str]
    action_class: str
    created: datetime
    instances: int
    dry_run: bool
    note: Optional[str]


class KillResult(NamedTuple):
    """What `kill` did: executions that it stopped, and errors of instances where it could not."""

    killed: List[Execution]
    failed: List[InstanceError]


def seconds(milliseconds: Optional[int]) -> Optional[float]:
    return None if milliseconds is None else milliseconds / 1000


def execution(of: Mapping[str, Any]) -> Execution:
    return Execution(
        id=of["id"],
        instance=of["instance"],
        version=of["version"],
        state=of["state"],
        exit_code=of["exit_status"],
        signal=of["signal"],
        duration=seconds(of["duration_ms"]),
    )


def instance_result(of: Mapping[str, Any], stdout: bytes, stderr: bytes) -> InstanceResult:
    ended: Mapping[str, Any] = of.get("execution") or {}
    return InstanceResult(
        instance=of["instance"],
        outcome=of["outcome"],
        succeeded=of["succeeded"],
        error=_error(of, ended),
        execution_id=ended.get("id"),
        version=ended.get("version"),
        exit_code=ended.get("exit_status"),
        signal=ended.get("signal"),
        duration=seconds(ended.get("duration_ms")),
        reason=ended.get("reason"),
        may_run=of.get("may_run", False),
        truncated=of.get("truncated", False),
        output_error=of.get("output_error"),
        result=ended.get("result"),
        stdout=stdout,
        stderr=stderr,
    )


def _error(of: Mapping[str, Any], ended: Mapping[str, Any]) -> Optional[InstanceError]:
    if of["succeeded"]:
        return None
    error: InstanceError
    if of.get("error") is not None:
        known = from_fault(of["error"])
        assert isinstance(known, InstanceError), "every outcome has such an exception"
        return known
    instance, outcome = of["instance"], of["outcome"]
    if outcome == "not_started":
        error = NotStarted(f"{instance}: not started")
    else:
        error = failed = ExecutionFailed(f"{instance}: {_described(outcome, ended)}")
        failed.exit_code, failed.signal = ended.get("exit_status"), ended.get("signal")
        failed.execution_id = ended.get("id")
    error.instance, error.outcome, error.code = instance, outcome, outcome
    return error


def _described(outcome: str, ended: Mapping[str, Any]) -> str:
    if ended.get("signal") is not None:
        outcome += f", signal {ended['signal']}"
    elif ended.get("exit_status") is not None:
        outcome += f", exit code {ended['exit_status']}"
    return f"{outcome}: {ended['reason']}" if ended.get("reason") else outcome


def run_info(of: Mapping[str, Any]) -> RunInfo:
    return RunInfo(
        run_id=of["run"],
        action=of["action"],
        version=of.get("version"),
        action_class=of["class"],
        created=datetime.fromtimestamp(of["created_at_ms"] / 1000, timezone.utc),
        instances=of["targets"],
        dry_run=of.get("noop", False),
        note=of.get("note"),
    )
