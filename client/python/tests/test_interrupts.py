"""Interrupts, exceptions of callbacks, forks, and the end of the interpreter while a run goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import unittest
from typing import Callable, List

import bolt_fleet
from bolt_fleet import Fleet, Progress
from support import CASSANDRA, PATIENCE, fleet_with, python


def setUpModule() -> None:
    # A shell starts what runs in the background with SIGINT ignored, which Python then leaves ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt_when(kind: str) -> Callable[[Progress], None]:
    def callback(event: Progress) -> None:
        if event.kind == kind:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


class Interrupts(unittest.TestCase):
    def test_the_first_interrupt_stops_starts_and_waits_for_what_runs(self) -> None:
        with self.assertRaises(bolt_fleet.Interrupted) as caught:
            Fleet().run("probe.sleep", {"seconds": 2}, where=CASSANDRA, on_progress=interrupt_when("starting"))
        result = caught.exception.result
        assert result is not None
        self.assertIsInstance(caught.exception, KeyboardInterrupt)
        self.assertEqual((result.stopped, set(result.counts)), ("interrupted", {"not_started", "succeeded"}))
        self.assertIn(f"Fleet.resume({result.run_id!r})", str(caught.exception))
        resumed = Fleet().resume(result.run_id)
        self.assertEqual(resumed.counts, {"succeeded": 4})
        self.assertEqual(resumed["i-1"].execution_id, result["i-1"].execution_id)

    def test_the_second_interrupt_does_not_wait(self) -> None:
        done = threading.Event()

        def interrupt(event: Progress) -> None:
            def again() -> None:
                while not done.wait(0.1):
                    os.kill(os.getpid(), signal.SIGINT)

            if event.kind == "accepted":
                threading.Thread(target=again).start()

        # Interrupts that come after the second one are ignored.
        try:
            with self.assertRaises(KeyboardInterrupt) as caught:
                try:
                    Fleet().run("probe.sleep", on="i-1", run_id="r-twice", on_progress=interrupt)
                finally:
                    done.set()
        except KeyboardInterrupt:
            self.fail("interrupted outside of the run")
        self.assertIsInstance(caught.exception, bolt_fleet.Interrupted)
        self.assertIsNone(caught.exception.result)  # type: ignore[attr-defined]
        self.assertEqual(len(Fleet().kill("r-twice", on="i-1").killed), 1)
        self.assertEqual(Fleet().resume("r-twice")["i-1"].outcome, "killed")

    def test_an_exception_of_the_callback_stops_the_run_and_is_raised(self) -> None:
        wrong = ValueError("mine")

        def callback(event: Progress) -> None:
            if event.kind == "starting":
                raise wrong

        with self.assertRaises(ValueError) as caught:
            Fleet().run("probe.sleep", {"seconds": 2}, where=CASSANDRA, run_id="r-raised", on_progress=callback)
        self.assertIs(caught.exception, wrong)
        seen: List[str] = []
        resumed = Fleet().resume("r-raised", on_progress=lambda event: seen.append(event.kind))
        self.assertEqual(resumed.counts, {"succeeded": 4})
        self.assertIn("starting", seen, "nothing was left to start")

    def test_an_interrupt_before_the_start_starts_nothing(self) -> None:
        # The address takes connections and never answers.
        with socket.create_server(("127.0.0.1", 0)) as hanging:
            port = hanging.getsockname()[1]
            fleet = fleet_with({}, f'\n[[instances]]\nid = "i-hang"\naddress = "127.0.0.1:{port}"\n')

            def interrupt() -> None:
                connection, _ = hanging.accept()
                os.kill(os.getpid(), signal.SIGINT)
                with connection:
                    connection.recv(1 << 20)
                    ended.wait(PATIENCE)

            ended = threading.Event()
            threading.Thread(target=interrupt).start()
            with self.assertRaises(KeyboardInterrupt):
                fleet.run("probe.repair", on="i-hang", run_id="r-never")
            ended.set()
        self.assertNotIn("r-never", [run.run_id for run in Fleet().runs()])


def in_child() -> str:
    try:
        Fleet().instances()
        return "answered"
    except bolt_fleet.ForkedProcess as error:
        return f"refused: {error}"


class Forks(unittest.TestCase):
    def test_a_child_that_was_forked_after_the_first_call_gets_an_error(self) -> None:
        Fleet().instances()
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            for said in pool.apply_async(in_child).get(PATIENCE), pool.apply_async(in_child).get(PATIENCE):
                self.assertIn(f"was forked from process {os.getpid()}", said)
                self.assertIn("spawn", said)
        self.assertEqual(len(Fleet().instances()), 5)

    def test_a_child_ends_normally_while_its_parent_runs_something(self) -> None:
        started = threading.Event()
        watch = lambda event: started.set() if event.kind == "accepted" else None
        run = lambda: Fleet().run("probe.sleep", on="i-2", run_id="r-fork", on_progress=watch)
        thread = threading.Thread(target=run)
        thread.start()
        self.assertTrue(started.wait(60))
        child = os.fork()
        if child == 0:
            os._exit(0 if in_child().startswith("refused") else 1)
        _, status = os.waitpid(child, 0)
        self.assertEqual(status, 0)
        self.assertEqual(len(Fleet().kill("r-fork", on="i-2").killed), 1)
        thread.join()

    def test_a_child_that_was_forked_before_the_first_call_works(self) -> None:
        said = python(
            "import os, bolt_fleet\n"
            "fleet = bolt_fleet.Fleet()\n"
            "child = os.fork()\n"
            "print(len(fleet.instances()))\n"
            "if child: assert os.waitpid(child, 0)[1] == 0\n"
        )
        self.assertEqual((said.returncode, said.stdout), (0, "5\n5\n"), said.stderr)


class Shutdown(unittest.TestCase):
    def test_the_interpreter_ends_while_runs_go_on(self) -> None:
        said = python(
            "import threading, bolt_fleet\n"
            "started = threading.Event()\n"
            "watch = lambda event: started.set() if event.kind == 'accepted' else None\n"
            "run = lambda: bolt_fleet.Fleet().run('probe.sleep', on=['i-1', 'i-2'], by='all', run_id='r-end', on_progress=watch)\n"
            "threading.Thread(target=run, daemon=True).start()\n"
            "assert started.wait(60)\n"
        )
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        Fleet().kill("r-end", where=CASSANDRA)
        self.assertEqual(set(Fleet().resume("r-end").counts), {"killed"})


if __name__ == "__main__":
    unittest.main()
