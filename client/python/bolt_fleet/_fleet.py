"""`Fleet`, which waits in the calling thread, and `AsyncFleet`, which waits in an event loop."""

from __future__ import annotations

import os
from typing import Any, List, Mapping, Optional, Union

from . import _calls, _results
from ._calls import Amount, Call, ConfirmBatch, OnProgress, Texts, Time, choice, wait, wait_async
from ._errors import InstanceError, from_fault
from ._results import Instance, KillResult, RunInfo, RunResult

Parameters = Mapping[str, Any]


class _Calls:
    """Configuration, and the calls that both kinds of fleet make. Holds no connection and no thread, and can be pickled."""

    def __init__(self, config: Union[str, "os.PathLike[str]", None] = None, *, record: bool = True) -> None:
        """Uses the configuration of the `bolt` command: the file `config`, else $BOLT_CLIENT_CONFIG, else
        ~/.config/bolt/client.toml. Files are read by each call.

        With `record=False` runs are not recorded, and cannot be resumed or retried.
        """
        self._config = None if config is None else os.fspath(config)
        self._record = record

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._config!r})"

    def _call(self, operation: str, **arguments: Any) -> Call:
        return Call(self._config, self._record, {operation: arguments})

    def _again(
        self, operation: str, run_id: str, secrets: Optional[Parameters], on_progress: Optional[OnProgress],
        confirm_batch: Optional[ConfirmBatch], **arguments: Any,
    ) -> Call:
        arguments = {"run": run_id, "secrets": _calls.parameters("secrets", secrets), **arguments}
        return Call(self._config, self._record, {operation: _calls.checked(arguments)}, on_progress, confirm_batch)

    def _run(
        self, action: str, parameters: Optional[Parameters], *, where: Optional[str], on: Optional[Texts],
        region: Optional[Texts], zone: Optional[Texts], exclude: Optional[Texts], sample: Optional[int],
        seed: Optional[int], from_run: Optional[str], partial: bool, refresh: bool,
        on_progress: Optional[OnProgress], confirm_batch: Optional[ConfirmBatch],
        check_parameters: Optional[Parameters], **arguments: Any,
    ) -> Call:
        chosen = choice(
            where, on=on, region=region, zone=zone, exclude=exclude, sample=sample, seed=seed, from_run=from_run,
            partial=partial, refresh=refresh,
        )
        for name in ("pause", "jitter", "within", "instance_timeout", "check_for", "timeout"):
            arguments[name] = _calls.seconds(arguments[name])
        order = {
            "action": action, "parameters": _calls.parameters("parameters", parameters), "choice": chosen,
            "check_parameters": _calls.parameters("check_parameters", check_parameters), "ask": confirm_batch is not None, **arguments,
        }
        return Call(self._config, self._record, {"run": _calls.checked(order)}, on_progress, confirm_batch)


def _instances(call: Call) -> List[Instance]:
    return [Instance(**of) for of in call.finish()]


def _runs(call: Call) -> List[RunInfo]:
    return [_results.run_info(of) for of in call.finish()]


def _killed(call: Call) -> KillResult:
    end = call.finish()
    failed: List[InstanceError] = []
    for fault in end["failed"]:
        error = from_fault(fault)
        assert isinstance(error, InstanceError), "every outcome has such an exception"
        failed.append(error)
    return KillResult([_results.execution(of) for of in end["killed"]], failed)


class Fleet(_Calls):
    """Fleet of instances, from the configuration of the `bolt` command. Calls wait in the calling thread, without holding the
    interpreter lock; several threads may make calls at once.
    """

    def instances(
        self,
        where: Optional[str] = None,
        *,
        on: Optional[Texts] = None,
        region: Optional[Texts] = None,
        zone: Optional[Texts] = None,
        exclude: Optional[Texts] = None,
        sample: Optional[int] = None,
        seed: Optional[int] = None,
        from_run: Optional[str] = None,
        partial: bool = False,
        refresh: bool = False,
    ) -> List[Instance]:
        """Returns the instances that meet all conditions, at least one; without a condition all of the inventory.

        `where` is an expression such as 'app == "cassandra" && zone in ["us-east-1a"]'; `on` and `exclude` are ids or globs;
        `sample` takes that many at random, the same ones for the same `seed`. `from_run` chooses those of a recorded run, or
        with on="@failed", "@unreachable", "@not_started" or "@succeeded" some of them. `partial` goes on when a source of the
        inventory fails, with a warning; `refresh` uses no answers of the last seconds.

        Raises NoInstances, InvalidArgument, ConfigurationError, InventoryError, UnknownRun, ForkedProcess.
        """
        chosen = choice(
            where, on=on, region=region, zone=zone, exclude=exclude, sample=sample, seed=seed, from_run=from_run,
            partial=partial, refresh=refresh,
        )
        return _instances(wait(self._call("instances", choice=chosen)))

    def run(
        self,
        action: str,
        parameters: Optional[Parameters] = None,
        *,
        where: Optional[str] = None,
        on: Optional[Texts] = None,
        region: Optional[Texts] = None,
        zone: Optional[Texts] = None,
        exclude: Optional[Texts] = None,
        everywhere: bool = False,
        sample: Optional[int] = None,
        seed: Optional[int] = None,
        from_run: Optional[str] = None,
        partial: bool = False,
        refresh: bool = False,
        by: Optional[str] = None,
        batch: Optional[Amount] = None,
        canary: int = 0,
        max_failures: Amount = 0,
        max_unreachable: Optional[Amount] = None,
        max_batch_failures: Optional[Amount] = None,
        parallel: Optional[int] = None,
        pause: Optional[Time] = None,
        confirm_batch: Optional[ConfirmBatch] = None,
        jitter: Optional[Time] = None,
        within: Optional[Time] = None,
        instance_timeout: Optional[Time] = None,
        check: Optional[str] = None,
        check_parameters: Optional[Parameters] = None,
        check_for: Optional[Time] = None,
        max_check_failures: Optional[Amount] = None,
        dry_run: bool = False,
        confirmed: bool = False,
        note: Optional[str] = None,
        timeout: Optional[Time] = None,
        run_id: Optional[str] = None,
        on_progress: Optional[OnProgress] = None,
    ) -> RunResult:
        """Runs an action on instances and returns how it ended on each; whatever ended badly is in the result, not raised.

        `action` is a name such as "cassandra.repair", with @VERSION only where that version is active. Values of `parameters`
        are typed as in JSON; secret ones are masked in all that comes back.

        Which instances: see `instances`; without a condition `everywhere=True` is needed.

        Order and limits, as `bolt run --help` explains them: one instance after the other, stopping after the first failure,
        unless these say otherwise. `by` is "zone", "region" or "all"; `batch`, `max_failures`, `max_unreachable`,
        `max_batch_failures` and `max_check_failures` are counts or percentages such as "10%"; `canary` is a number of instances
        that go first; `parallel` bounds those in flight. Times are seconds, timedelta or text such as "2m": `pause` between two
        batches, `jitter` before a start, `within` for all starts, `instance_timeout` for each instance (contact counts as lost
        then), `check_for` while `check` is repeated where it fails, `timeout` of each execution. `confirm_batch` is asked before each batch after the first and returns whether it begins.

        A run that changes more than one instance needs `confirmed=True`: without it NotConfirmed is raised and holds the plan.
        `dry_run` reports what would change. `run_id` gives the run an id of the caller's.

        `on_progress` is called in this thread with each `Progress`. If it raises, nothing more starts, what runs is waited for,
        and the exception is raised. So with an interrupt (Ctrl-C), which raises `Interrupted`; a second one does not wait.

        Raises InvalidArgument, InvalidParameters, NoInstances, NotConfirmed, ConfigurationError, InventoryError, RunStoreError,
        ForkedProcess, or the error of an instance where none describes the action (NoSuchAction, Unauthorized, Unreachable …);
        in all these cases nothing was started.
        """
        call = self._run(
            action, parameters, where=where, on=on, region=region, zone=zone, exclude=exclude, everywhere=everywhere,
            sample=sample, seed=seed, from_run=from_run, partial=partial, refresh=refresh, by=by, batch=batch,
            canary=canary, max_failures=max_failures, max_unreachable=max_unreachable,
            max_batch_failures=max_batch_failures, parallel=parallel, pause=pause, confirm_batch=confirm_batch,
            jitter=jitter, within=within, instance_timeout=instance_timeout, check=check, check_parameters=check_parameters, check_for=check_for,
            max_check_failures=max_check_failures, dry_run=dry_run, confirmed=confirmed, note=note, timeout=timeout,
            run_id=run_id, on_progress=on_progress,
        )
        return (wait(call)).run_result()

    def resume(
        self,
        run_id: str,
        *,
        secrets: Optional[Parameters] = None,
        confirmed: bool = False,
        on_progress: Optional[OnProgress] = None,
        confirm_batch: Optional[ConfirmBatch] = None,
    ) -> RunResult:
        """Goes on with a recorded run that was interrupted; starts nothing twice. Its result holds all instances.

        The record holds no secret parameters: `secrets` gives them again. `confirmed` as for `run`, for the instances that are
        left. Raises UnknownRun, RunBusy, and what `run` raises.
        """
        call = self._again("resume", run_id, secrets, on_progress, confirm_batch, confirmed=confirmed)
        return (wait(call)).run_result()

    def retry(
        self,
        run_id: str,
        *,
        unreachable: bool = False,
        not_started: bool = False,
        secrets: Optional[Parameters] = None,
        confirmed: bool = False,
        on_progress: Optional[OnProgress] = None,
        confirm_batch: Optional[ConfirmBatch] = None,
    ) -> RunResult:
        """Repeats a recorded run, as a new one, where it failed; also where it was not reached or not started, if asked.

        Other arguments as for `resume`. Raises NoInstances if there is no such instance.
        """
        call = self._again(
            "retry", run_id, secrets, on_progress, confirm_batch, confirmed=confirmed, unreachable=unreachable,
            not_started=not_started,
        )
        return (wait(call)).run_result()

    def runs(self) -> List[RunInfo]:
        """Returns the recorded runs, the newest first. Raises RunStoreError."""
        return _runs(wait(self._call("runs")))

    def kill(
        self,
        run_id: str,
        *,
        where: Optional[str] = None,
        on: Optional[Texts] = None,
        region: Optional[Texts] = None,
        zone: Optional[Texts] = None,
        note: Optional[str] = None,
    ) -> KillResult:
        """Kills the executions of a run that are queued or running, on all instances or those that meet the conditions.

        A client that still carries out the run goes on starting: interrupt it first. Waits up to 30 s for the end of each.
        """
        chosen = choice(where, on=on, region=region, zone=zone)
        return _killed(wait(self._call("kill", run=run_id, choice=chosen, note=note)))


class AsyncFleet(_Calls):
    """The same as `Fleet` for asyncio: every method is a coroutine. Needs an event loop that can watch descriptors, as the default
    one of Linux and macOS and uvloop do.
    """

    async def instances(
        self,
        where: Optional[str] = None,
        *,
        on: Optional[Texts] = None,
        region: Optional[Texts] = None,
        zone: Optional[Texts] = None,
        exclude: Optional[Texts] = None,
        sample: Optional[int] = None,
        seed: Optional[int] = None,
        from_run: Optional[str] = None,
        partial: bool = False,
        refresh: bool = False,
    ) -> List[Instance]:
        """See `Fleet.instances`."""
        chosen = choice(
            where, on=on, region=region, zone=zone, exclude=exclude, sample=sample, seed=seed, from_run=from_run,
            partial=partial, refresh=refresh,
        )
        return _instances(await wait_async(self._call("instances", choice=chosen)))

    async def run(
        self,
        action: str,
        parameters: Optional[Parameters] = None,
        *,
        where: Optional[str] = None,
        on: Optional[Texts] = None,
        region: Optional[Texts] = None,
        zone: Optional[Texts] = None,
        exclude: Optional[Texts] = None,
        everywhere: bool = False,
        sample: Optional[int] = None,
        seed: Optional[int] = None,
        from_run: Optional[str] = None,
        partial: bool = False,
        refresh: bool = False,
        by: Optional[str] = None,
        batch: Optional[Amount] = None,
        canary: int = 0,
        max_failures: Amount = 0,
        max_unreachable: Optional[Amount] = None,
        max_batch_failures: Optional[Amount] = None,
        parallel: Optional[int] = None,
        pause: Optional[Time] = None,
        confirm_batch: Optional[ConfirmBatch] = None,
        jitter: Optional[Time] = None,
        within: Optional[Time] = None,
        instance_timeout: Optional[Time] = None,
        check: Optional[str] = None,
        check_parameters: Optional[Parameters] = None,
        check_for: Optional[Time] = None,
        max_check_failures: Optional[Amount] = None,
        dry_run: bool = False,
        confirmed: bool = False,
        note: Optional[str] = None,
        timeout: Optional[Time] = None,
        run_id: Optional[str] = None,
        on_progress: Optional[OnProgress] = None,
    ) -> RunResult:
        """See `Fleet.run`. A cancellation stops further starts and waits for what was started; a second one does not wait.

        `on_progress` is called in the event loop; `confirm_batch` may return an awaitable.
        """
        call = self._run(
            action, parameters, where=where, on=on, region=region, zone=zone, exclude=exclude, everywhere=everywhere,
            sample=sample, seed=seed, from_run=from_run, partial=partial, refresh=refresh, by=by, batch=batch,
            canary=canary, max_failures=max_failures, max_unreachable=max_unreachable,
            max_batch_failures=max_batch_failures, parallel=parallel, pause=pause, confirm_batch=confirm_batch,
            jitter=jitter, within=within, instance_timeout=instance_timeout, check=check, check_parameters=check_parameters, check_for=check_for,
            max_check_failures=max_check_failures, dry_run=dry_run, confirmed=confirmed, note=note, timeout=timeout,
            run_id=run_id, on_progress=on_progress,
        )
        return (await wait_async(call)).run_result()

    async def resume(
        self,
        run_id: str,
        *,
        secrets: Optional[Parameters] = None,
        confirmed: bool = False,
        on_progress: Optional[OnProgress] = None,
        confirm_batch: Optional[ConfirmBatch] = None,
    ) -> RunResult:
        """See `Fleet.resume`."""
        call = self._again("resume", run_id, secrets, on_progress, confirm_batch, confirmed=confirmed)
        return (await wait_async(call)).run_result()

    async def retry(
        self,
        run_id: str,
        *,
        unreachable: bool = False,
        not_started: bool = False,
        secrets: Optional[Parameters] = None,
        confirmed: bool = False,
        on_progress: Optional[OnProgress] = None,
        confirm_batch: Optional[ConfirmBatch] = None,
    ) -> RunResult:
        """See `Fleet.retry`."""
        call = self._again(
            "retry", run_id, secrets, on_progress, confirm_batch, confirmed=confirmed, unreachable=unreachable,
            not_started=not_started,
        )
        return (await wait_async(call)).run_result()

    async def runs(self) -> List[RunInfo]:
        """See `Fleet.runs`."""
        return _runs(await wait_async(self._call("runs")))

    async def kill(
        self,
        run_id: str,
        *,
        where: Optional[str] = None,
        on: Optional[Texts] = None,
        region: Optional[Texts] = None,
        zone: Optional[Texts] = None,
        note: Optional[str] = None,
    ) -> KillResult:
        """See `Fleet.kill`."""
        chosen = choice(where, on=on, region=region, zone=zone)
        return _killed(await wait_async(self._call("kill", run=run_id, choice=chosen, note=note)))
