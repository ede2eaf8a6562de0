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


def texts(given: Optional[Texts]) -> List[str]:
    if given is None:
        return []
    return [given] if isinstance(given, str) else list(given)


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
    return {
        "where": where,
        "on": texts(on),
        "region": texts(region),
        "zone": texts(zone),
        "exclude": texts(exclude),
        "sample": sample,
        "seed": seed,
        "from_run": from_run,
        "partial": partial,
        "refresh": refresh,
    }


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
        call = {"config": config, "record": record, "progress": on_progress is not None, "operation": operation}
        try:
            text = json.dumps(call, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"parameters: only what JSON has can be sent ({error})") from None
        try:
            self.native = _native.begin(text)
        except _native.ForkError as error:
            raise ForkedProcess(str(error)) from None
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
