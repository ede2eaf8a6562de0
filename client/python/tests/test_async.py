"""The same for asyncio."""

from __future__ import annotations

import asyncio
import unittest
from typing import List

import bolt_fleet
from bolt_fleet import AsyncFleet, Fleet, Progress
from support import CASSANDRA, python


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_several_runs_go_on_in_one_loop(self) -> None:
        fleet = AsyncFleet()
        seen: List[Progress] = []
        runs = [fleet.run("probe.hello", where=CASSANDRA, by="all", on_progress=seen.append) for _ in range(4)]
        results, instances = await asyncio.gather(asyncio.gather(*runs), fleet.instances())
        self.assertEqual([one.counts for one in results], [{"succeeded": 4}] * 4)
        self.assertEqual(len(instances), 5)
        self.assertEqual(len([event for event in seen if event.kind == "ended"]), 16)

    async def test_errors_are_raised_by_the_coroutine(self) -> None:
        with self.assertRaises(bolt_fleet.NotConfirmed):
            await AsyncFleet().run("probe.repair", where=CASSANDRA)
        with self.assertRaises(bolt_fleet.UnknownRun):
            await AsyncFleet().resume("r-unknown")
        self.assertEqual(await AsyncFleet().kill("r-unknown", on="i-1"), ([], []))

    async def test_a_question_is_answered_by_a_coroutine(self) -> None:
        async def confirm(batch: bolt_fleet.Batch) -> bool:
            await asyncio.sleep(0)
            return batch.number < 3

        result = await AsyncFleet().run("probe.hello", where=CASSANDRA, confirm_batch=confirm)
        self.assertEqual((result.stopped, result.counts), ("declined", {"succeeded": 2, "not_started": 2}))

    async def test_a_cancellation_stops_starts_and_waits_for_what_runs(self) -> None:
        def cancel(event: Progress) -> None:
            if event.kind == "starting":
                task.cancel()

        run = AsyncFleet().run(
            "probe.sleep", {"seconds": 2}, where=CASSANDRA, run_id="r-cancelled", on_progress=cancel
        )
        task = asyncio.ensure_future(run)
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertTrue(task.cancelled())
        seen: List[Progress] = []
        result = await AsyncFleet().resume("r-cancelled", on_progress=seen.append)
        self.assertEqual(result.counts, {"succeeded": 4})
        self.assertIn("starting", [event.kind for event in seen], "nothing was left to start")

    async def test_the_second_cancellation_does_not_wait(self) -> None:
        accepted = asyncio.Event()

        def watch(event: Progress) -> None:
            if event.kind == "accepted":
                accepted.set()

        task = asyncio.ensure_future(AsyncFleet().run("probe.sleep", on="i-1", run_id="r-left", on_progress=watch))
        await accepted.wait()
        task.cancel()
        # Lets the task see the first one.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.assertFalse(task.done())
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertEqual(len((await AsyncFleet().kill("r-left", on="i-1")).killed), 1)

    async def test_an_exception_of_the_callback_is_raised(self) -> None:
        def callback(event: Progress) -> None:
            raise ValueError("mine")

        with self.assertRaisesRegex(ValueError, "mine"):
            await AsyncFleet().run("probe.hello", where=CASSANDRA, on_progress=callback)


class Shutdown(unittest.TestCase):
    def test_a_loop_that_ends_leaves_nothing_behind(self) -> None:
        said = python(
            "import asyncio, bolt_fleet\n"
            "async def main():\n"
            "    accepted = asyncio.Event()\n"
            "    watch = lambda event: accepted.set() if event.kind == 'accepted' else None\n"
            "    run = bolt_fleet.AsyncFleet().run('probe.sleep', {'seconds': 1}, on='i-3', run_id='r-loop', on_progress=watch)\n"
            "    task = asyncio.ensure_future(run)\n"
            "    await accepted.wait()\n"
            "asyncio.run(main())\n"
        )
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        self.assertEqual(Fleet().resume("r-loop").counts, {"succeeded": 1})


if __name__ == "__main__":
    unittest.main()
