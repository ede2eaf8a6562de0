"""Calls as the native half takes them, and waiting for their end: in the calling thread, or in an event loop.

The first interrupt (or cancellation, or exception of a callback) stops further starts and waits for what was started; the second
one waits for nothing more. No thread of the native half calls Python, so an interpreter may end while a call goes on.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import select
import warnings
from datetime import timedelta
from typing import Any, Awaitable, Callable, Dict, Iterable, List, Mapping, NoReturn, Optional, Tuple, Union

from . import _native
from ._errors import BoltError, BoltWarning, ForkedProcess, Interrupted, InvalidArgument, from_fault
from ._results import Batch, InstanceResult, Progress, RunResult, instance_result

#: A number of seconds, or text such as "90s" or "2m".
Time = Union[float, str, timedelta]
#: A count, or a percentage such as "10%".
Amount = Union[int, str]
#: One text, or several.
Texts = Union[str, Iterable[str]]
OnProgress = Callable[[Progress], object]
ConfirmBatch = Callable[[Batch], Union[bool, Awaitable[bool]]]


#: Types of arguments, by their names; each may be None as well.
_TYPES: Dict[str, type] = {
    **dict.fromkeys(["where", "from_run", "by", "check", "note", "run_id", "run"], str),
    **dict.fromkeys(["sample", "seed", "canary", "parallel"], int),
    **dict.fromkeys(
        ["partial", "refresh", "everywhere", "dry_run", "confirmed", "unreachable", "not_started"], bool
    ),
}


def checked(arguments: Dict[str, Any]) -> Dict[str, Any]:
    """Returns the arguments. Raises InvalidArgument that names the first with a wrong type."""
    for name, value in arguments.items():
        kind = _TYPES.get(name)
        if kind is None or value is None:
            continue
        if kind is int and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise InvalidArgument(f"{name}: give a number from 0, not {value!r}")
        if not isinstance(value, kind):
            raise InvalidArgument(f"{name}: give {kind.__name__}, not {type(value).__name__}")
    return arguments


def parameters(name: str, given: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    # The message has no value: it may be a secret.
    if given is not None and not isinstance(given, Mapping):
        raise InvalidArgument(f"{name}: give a mapping from names to values, not {type(given).__name__}")
    return dict(given or {})


def texts(name: str, given: Optional[Texts]) -> List[str]:
    if given is None:
        return []
    try:
        all_texts = [given] if isinstance(given, str) else list(given)
    except TypeError:
        all_texts = [given]  # type: ignore[list-item]
    if not all(isinstance(text, str) for text in all_texts):
        raise InvalidArgument(f"{name}: give text, or a list of texts")
    return all_texts


def seconds(time: Optional[Time]) -> Union[float, str, None]:
    return time.total_seconds() if isinstance(time, timedelta) else time


def choice(
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
) -> Dict[str, Any]:
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "big")
    return checked({
        "where": where,
        "on": texts("on", on),
        "region": texts("region", region),
        "zone": texts("zone", zone),
        "exclude": texts("exclude", exclude),
        "sample": sample,
        "seed": seed,
        "from_run": from_run,
        "partial": partial,
        "refresh": refresh,
    })


class Call:
    """A call that goes on in the native half. Handling a message twice is harmless: an exception may come at any moment."""

    def __init__(
        self,
        config: Optional[str],
        record: bool,
        operation: Mapping[str, Any],
        on_progress: Optional[OnProgress] = None,
        confirm_batch: Optional[ConfirmBatch] = None,
    ) -> None:
        for name, callback in (("on_progress", on_progress), ("confirm_batch", confirm_batch)):
            if callback is not None and not callable(callback):
                raise InvalidArgument(f"{name}: give a function, not {type(callback).__name__}")
        call = {"config": config, "record": record, "progress": on_progress is not None, "operation": operation}
        try:
            text = json.dumps(call, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(f"parameters: only what JSON has can be sent ({error})") from None
        try:
            self.native = _native.begin(text)
        except _native.ForkError as error:
            raise ForkedProcess(str(error)) from None
        except ValueError as error:
            raise InvalidArgument(f"parameters: a number or text that cannot be sent ({error})") from None
        self.on_progress = on_progress
        self.confirm_batch = confirm_batch
        self.handled = 0
        self.run_id: Optional[str] = None
        self.is_recorded = False
        self.results: Dict[str, InstanceResult] = {}
        self.end: Optional[Dict[str, Any]] = None
        # Why the call was stopped.
        self.stopped_by: Optional[BaseException] = None

    @property
    def has_ended(self) -> bool:
        return self.end is not None

    def take(self) -> List[Tuple[str, bytes, bytes]]:
        try:
            return self.native.take(self.handled)
        except _native.ForkError as error:
            raise ForkedProcess(str(error)) from None

    def handle(self, message: Tuple[str, bytes, bytes]) -> Optional[Batch]:
        """Handles a message. Returns the batch that waits to be confirmed, if that is the message."""
        text, stdout, stderr = message
        of: Dict[str, Any] = json.loads(text)
        if "progress" in of:
            if self.on_progress is not None and self.stopped_by is None:
                self.on_progress(Progress(**of["progress"]))
        elif "result" in of:
            self.results[of["result"]["instance"]] = instance_result(of["result"], stdout, stderr)
        elif "warning" in of:
            if self.stopped_by is None:
                warnings.warn(of["warning"], BoltWarning, stacklevel=4)
        elif "began" in of:
            self.run_id, self.is_recorded = of["began"]["run_id"], of["began"]["is_recorded"]
        elif "confirm" in of:
            batch = of["confirm"]
            if self.confirm_batch is None or self.stopped_by is not None:
                return None
            return Batch(batch["number"], batch["name"], tuple(batch["instances"]))
        else:
            self.end = of
        return None

    def stop(self, why: BaseException) -> None:
        """Stops further starts; the second time, also stops to wait."""
        if self.stopped_by is not None:
            self.native.give_up()
            self.fail(why)
        self.stopped_by = why
        self.native.stop()

    def finish(self) -> Any:
        """Returns the end of the call, or raises what stopped it or went wrong."""
        assert self.end is not None, "called after the end"
        if self.stopped_by is not None:
            self.fail(self.stopped_by)
        if "fault" in self.end:
            raise from_fault(self.end["fault"])
        return self.end["end"]

    def run_result(self) -> RunResult:
        return self.result_of(self.finish())

    def result_of(self, end: Mapping[str, Any]) -> RunResult:
        stopped = end["stopped"] or {}
        return RunResult(
            end["run_id"], end["action"], self.results, stopped.get("code"), stopped.get("message")
        )

    def fail(self, why: BaseException) -> NoReturn:
        """Raises what stopped the call, with the way to go on."""
        if self.run_id is None:
            raise why
        result = None if self.end is None or "fault" in self.end else self.result_of(self.end["end"])
        how = f"run {self.run_id} was stopped"
        if self.is_recorded:
            how += f": Fleet.resume({self.run_id!r}) goes on with it"
        if isinstance(why, KeyboardInterrupt):
            interrupted = Interrupted(how)
            interrupted.run_id, interrupted.result = self.run_id, result
            raise interrupted from None
        add_note = getattr(why, "add_note", None)
        if add_note is not None:
            add_note(how)
        raise why


def wait(call: Call) -> Call:
    """Waits for the end of a call in this thread."""
    poll = select.poll()
    poll.register(call.native.fileno(), select.POLLIN)
    while not call.has_ended:
        try:
            messages = call.take()
            for message in messages:
                batch = call.handle(message)
                if batch is not None and call.confirm_batch is not None:
                    call.native.confirm(bool(call.confirm_batch(batch)))
                call.handled += 1
            if not messages:
                poll.poll()
        except ForkedProcess:
            raise
        except BaseException as error:
            call.stop(error)
    return call


async def wait_async(call: Call) -> Call:
    """Waits for the end of a call in the event loop."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    descriptor = call.native.fileno()
    loop.add_reader(descriptor, ready.set)
    try:
        while not call.has_ended:
            try:
                ready.clear()
                messages = call.take()
                for message in messages:
                    batch = call.handle(message)
                    if batch is not None and call.confirm_batch is not None:
                        answer = call.confirm_batch(batch)
                        call.native.confirm(bool(await answer if inspect.isawaitable(answer) else answer))
                    call.handled += 1
                if not messages:
                    await ready.wait()
            except ForkedProcess:
                raise
            except BaseException as error:
                call.stop(error)
    finally:
        loop.remove_reader(descriptor)
    return call
