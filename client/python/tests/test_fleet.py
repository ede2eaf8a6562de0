"""Runs on real agents, and everything that can be wrong with them."""

from __future__ import annotations

import json
import os
import pickle
import threading
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, List, Tuple

import bolt_fleet
from bolt_fleet import Fleet, Progress
from support import CASSANDRA, CONFIG, fleet_with

DEAD = '\n[[instances]]\nid = "i-dead"\naddress = "127.0.0.1:1"\nzone = "z"\napp = "gone"\n'


class Choosing(unittest.TestCase):
    def test_instances_are_chosen_by_every_condition(self) -> None:
        fleet = Fleet()

        def ids(**given: Any) -> List[str]:
            return [one.id for one in fleet.instances(**given)]

        self.assertEqual(ids(), ["i-1", "i-2", "i-3", "i-4", "i-5"])
        self.assertEqual(ids(where=CASSANDRA, zone="b"), ["i-3", "i-4"])
        self.assertEqual(ids(on=["i-1", "*-5"]), ["i-1", "i-5"])
        self.assertEqual(ids(zone=["a", "c"], exclude="i-1"), ["i-2", "i-5"])
        self.assertEqual(len(ids(sample=2)), 2)
        self.assertEqual(ids(sample=2, seed=7), ids(sample=2, seed=7))
        one = fleet.instances(on="i-1")[0]
        self.assertEqual((one.region, one.zone, one.app, one.tags), ("r", "a", "cassandra", {}))

    def test_a_choice_of_nothing_is_an_error(self) -> None:
        nothing: List[Dict[str, Any]] = [{"where": 'app == "x"'}, {"on": "i-9"}, {"exclude": "i-9"}, {"zone": "q"}]
        wrong: List[Dict[str, Any]] = [{"where": "app = 1"}, {"on": "a b"}, {"sample": 0}, {"on": "@failed"}]
        for given in nothing:
            with self.assertRaises(bolt_fleet.NoInstances) as caught:
                Fleet().instances(**given)
            self.assertNotIn("--", str(caught.exception))
        for given in wrong:
            with self.assertRaises(bolt_fleet.InvalidArgument) as refused:
                Fleet().instances(**given)
            self.assertTrue(str(refused.exception).startswith(f"{next(iter(given))}: "), refused.exception)

    def test_a_run_on_all_instances_has_to_say_so(self) -> None:
        with self.assertRaisesRegex(bolt_fleet.NoInstances, "everywhere=True"):
            Fleet().run("probe.hello")

    def test_errors_of_the_configuration_name_file_and_key(self) -> None:
        with self.assertRaisesRegex(bolt_fleet.ConfigurationError, r"/no/such\.toml.*Fleet\(config\)"):
            Fleet("/no/such.toml").instances()
        wrong = CONFIG.parent / "wrong.toml"
        wrong.write_text('certificate = "a"\ncertificat = "b"\n')
        with self.assertRaisesRegex(bolt_fleet.ConfigurationError, r"wrong\.toml.*certificat"):
            Fleet(wrong).instances()
        with self.assertRaisesRegex(bolt_fleet.ConfigurationError, r"/no/key\.pem.*client\.toml:\d"):
            fleet_with({"key": "/no/key.pem"}).run("probe.hello", on="i-1")

    def test_a_source_that_fails_is_an_error_unless_it_may_be_missing(self) -> None:
        fleet = fleet_with({}, sources='[[inventory]]\nkind = "exec"\ncommand = ["/bin/false"]\n')
        with self.assertRaisesRegex(bolt_fleet.InventoryError, "(?s)exec: ended with status 1.*partial=True"):
            fleet.instances()
        with self.assertRaises(bolt_fleet.InventoryError):
            fleet.run("probe.hello", on="i-1")
        with self.assertWarnsRegex(bolt_fleet.BoltWarning, "exec: ended with status 1"):
            self.assertEqual(len(fleet.instances(partial=True)), 5)

    def test_calls_leave_no_descriptor_and_no_thread(self) -> None:
        def held() -> int:
            return len(os.listdir("/proc/self/fd")) + len(os.listdir("/proc/self/task"))

        Fleet().run("probe.hello", on="i-1")
        before = held()
        for _ in range(30):
            Fleet().instances()
            with self.assertRaises(bolt_fleet.InvalidArgument):
                Fleet().run("nothing", on="i-1")
        # Threads of the runtime come and go.
        self.assertLess(held(), before + 20)

    def test_a_fleet_is_pickled_without_secrets(self) -> None:
        again = pickle.loads(pickle.dumps(Fleet(CONFIG)))
        self.assertEqual(len(again.instances()), 5)


class Running(unittest.TestCase):
    def test_a_result_holds_all_that_an_instance_said(self) -> None:
        seen: List[Progress] = []
        result = Fleet().run("probe.hello", where=CASSANDRA, by="all", on_progress=seen.append)
        self.assertTrue(result.succeeded)
        result.raise_for_failures()
        self.assertEqual(sorted(result), ["i-1", "i-2", "i-3", "i-4"])
        one = result["i-2"]
        self.assertEqual((one.outcome, one.exit_code, one.error, one.signal), ("succeeded", 0, None, None))
        self.assertEqual((one.stdout, one.stderr_text), (b"hello from i-2\n", "to stderr\n"))
        self.assertEqual((one.version, one.truncated, one.output_error), ("1.0.0", False, None))
        self.assertGreater(one.duration or 0, 0)
        self.assertEqual(result.counts, {"succeeded": 4})
        kinds = [event.kind for event in seen]
        self.assertEqual([kinds.count(kind) for kind in ("batch_started", "starting", "accepted", "ended")], [1, 4, 4, 4])
        self.assertEqual((seen[-1].ended, seen[-1].total, seen[-1].run_id), (4, 4, result.run_id))
        with self.assertRaises(KeyError):
            result["i-9"]

    def test_a_structured_result_is_a_value(self) -> None:
        result = Fleet().run("service.restart", {"name": "cassandra"}, on="i-1")
        self.assertEqual(result["i-1"].result, {"restarted": "cassandra", "list": [1, 2.5, None, True]})

    def test_a_run_stops_after_the_first_failure_unless_told_otherwise(self) -> None:
        result = Fleet().run("probe.fail", where=CASSANDRA)
        self.assertEqual(result.counts, {"not_started": 3, "failed": 1})
        self.assertEqual((result.stopped, result["i-1"].exit_code), ("max_failures", 7))
        with self.assertRaisesRegex(bolt_fleet.RunFailed, "3 not_started, 1 failed; .*max_failures") as caught:
            result.raise_for_failures()
        self.assertIs(caught.exception.result, result)
        self.assertIsInstance(caught.exception.__cause__, bolt_fleet.ExecutionFailed)
        with self.assertRaisesRegex(bolt_fleet.ExecutionFailed, "i-1: failed, exit code 7") as failed:
            result["i-1"].raise_for_failure()
        self.assertEqual((failed.exception.exit_code, failed.exception.instance), (7, "i-1"))
        with self.assertRaises(bolt_fleet.NotStarted):
            result["i-2"].raise_for_failure()
        self.assertEqual(Fleet().run("probe.fail", where=CASSANDRA, max_failures="100%").counts, {"failed": 4})

    def test_a_change_of_several_instances_is_confirmed(self) -> None:
        with self.assertRaises(bolt_fleet.NotConfirmed) as caught:
            Fleet().run("probe.repair", where=CASSANDRA, by="zone", canary=1)
        plan = [(batch["name"], batch["instances"]) for batch in caught.exception.plan]
        self.assertEqual(plan, [("canary", ["i-1"]), ("zone a", ["i-2"]), ("zone b", ["i-3", "i-4"])])
        self.assertIn("probe.repair changes 4 instances", str(caught.exception))
        seen: List[Progress] = []
        result = Fleet().run(
            "probe.repair", where=CASSANDRA, by="zone", canary=1, confirmed=True, on_progress=seen.append,
            check="probe.hello", check_for=5, pause=timedelta(milliseconds=10), jitter="10ms", timeout="30s", note="a test",
        )
        result.raise_for_failures()
        batches = [event.batch for event in seen if event.kind == "batch_started"]
        self.assertEqual(batches, ["canary", "zone a", "zone b"])
        self.assertEqual([event.succeeded for event in seen if event.kind == "check_ended"], [True] * 3)
        self.assertEqual(Fleet().run("probe.repair", on="i-1")["i-1"].stdout, b"repaired\n")

    def test_each_batch_is_confirmed_by_a_callback(self) -> None:
        asked: List[bolt_fleet.Batch] = []

        def confirm(batch: bolt_fleet.Batch) -> bool:
            asked.append(batch)
            return False

        result = Fleet().run("probe.hello", where=CASSANDRA, by="zone", confirm_batch=confirm)
        self.assertEqual([(one.number, one.name, one.instances) for one in asked], [(2, "zone b", ("i-3", "i-4"))])
        self.assertEqual((result.stopped, result.counts), ("declined", {"succeeded": 2, "not_started": 2}))

    def test_a_failed_check_stops_the_run(self) -> None:
        result = Fleet().run("probe.hello", where=CASSANDRA, by="zone", check="probe.fail")
        self.assertEqual((result.stopped, result.counts), ("check", {"succeeded": 2, "not_started": 2}))
        self.assertFalse(result.succeeded)

    def test_wrong_arguments_are_named(self) -> None:
        arguments: Dict[str, Any] = {
            "by": "rack", "batch": 0, "max_failures": "many", "pause": "soon", "jitter": -1, "canary": -1,
            "parallel": 0, "timeout": "x", "run_id": "a b", "note": "x" * 501, "max_check_failures": 1,
            "instance_timeout": 0,
        }
        for name, value in arguments.items():
            with self.assertRaises(ValueError, msg=name) as caught:
                Fleet().run("probe.hello", on="i-1", **{name: value})
            self.assertIsInstance(caught.exception, bolt_fleet.InvalidArgument)
            self.assertIn(str(caught.exception).split(":")[0], (name, "check"))
        with self.assertRaises(bolt_fleet.InvalidArgument):
            Fleet().run("probe.hello", {"x": object()}, on="i-1")
        with self.assertRaises(bolt_fleet.InvalidArgument):
            Fleet().run("probe.hello", on=["i-1", "i-2"], canary=2)

    def test_an_argument_of_a_wrong_type_is_named_and_nothing_starts(self) -> None:
        wrong: List[Tuple[str, Dict[str, Any]]] = [
            ("sample", {"sample": "3"}), ("seed", {"seed": -1}), ("note", {"note": 5}), ("where", {"where": 5}),
            ("dry_run", {"dry_run": "x"}), ("confirmed", {"confirmed": "no"}), ("region", {"region": 5}),
            ("on", {"on": [1]}), ("check_parameters", {"check_parameters": [1]}), ("parameters", {"parameters": [1]}),
            ("parameters", {"parameters": {"a": "\ud800"}}), ("on_progress", {"on_progress": 5}),
        ]
        for name, arguments in wrong:
            with self.subTest(name), self.assertRaises(bolt_fleet.InvalidArgument) as refused:
                Fleet().run("probe.hello", **{"everywhere": True, **arguments})
            self.assertIn(name, str(refused.exception))

    def test_wrong_parameters_are_found_before_anything_is_sent(self) -> None:
        with self.assertRaisesRegex(bolt_fleet.InvalidParameters, "probe.typed: .*count"):
            Fleet().run("probe.typed", {"name": "a", "count": 99}, on="i-1")
        with self.assertRaisesRegex(bolt_fleet.NoSuchAction, "probe.missing"):
            Fleet().run("probe.missing", on="i-1")

    def test_each_outcome_has_its_exception(self) -> None:
        fleet = fleet_with({}, DEAD)
        result = fleet.run("probe.hello", on=["i-1", "i-5", "i-dead"], by="all")
        dead, denied = result["i-dead"], result["i-5"]
        self.assertEqual((result["i-1"].outcome, dead.outcome, denied.outcome), ("succeeded", "unreachable", "unauthorized"))
        with self.assertRaisesRegex(bolt_fleet.Unreachable, "(?s)i-dead.*hint: check that the agent") as caught:
            dead.raise_for_failure()
        self.assertEqual((caught.exception.code, caught.exception.address), ("connection_refused", "127.0.0.1:1"))
        self.assertIsInstance(denied.error, bolt_fleet.Unauthorized)
        stranger = fleet_with({"ca": os.environ["BOLT_TEST_OTHER_CA"]})
        with self.assertRaises(bolt_fleet.TlsFailed):
            stranger.run("probe.hello", on="i-1")
        moved = (CONFIG.parent / "inventory.toml").read_text().split("[[instances]]")
        address = [line for line in moved[1].splitlines() if line.startswith("address")][0]
        swapped = fleet_with({}, f'\n[[instances]]\nid = "i-9"\n{address}\n')
        with self.assertRaises(bolt_fleet.WrongInstance), self.assertWarns(bolt_fleet.BoltWarning):
            swapped.run("probe.hello", on="i-9")
        with self.assertRaises(bolt_fleet.VersionMismatch):
            fleet.run("probe.hello@9.9.9", on="i-1")["i-1"].raise_for_failure()

    def test_runs_in_several_threads_go_on_at_once(self) -> None:
        results: List[bolt_fleet.RunResult] = []
        threads = [
            threading.Thread(target=lambda: results.append(Fleet().run("probe.hello", where=CASSANDRA, by="all")))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([one.counts for one in results], [{"succeeded": 4}] * 5)
        self.assertEqual(len({one.run_id for one in results}), 5)

    def test_a_run_is_killed_from_another_thread(self) -> None:
        # This thread could do nothing while the other one held the interpreter lock.
        started, results = threading.Event(), []

        def run() -> None:
            watch = lambda event: started.set() if event.kind == "accepted" else None
            results.append(Fleet().run("probe.sleep", on="i-1", run_id="r-kill", on_progress=watch))

        thread = threading.Thread(target=run)
        thread.start()
        self.assertTrue(started.wait(60))
        killed = Fleet().kill("r-kill", where=CASSANDRA, note="a test")
        thread.join()
        self.assertEqual(([one.instance for one in killed.killed], killed.failed), (["i-1"], []))
        self.assertEqual(results[0]["i-1"].outcome, "killed")


class Recorded(unittest.TestCase):
    def test_runs_are_listed_and_repeated(self) -> None:
        began = datetime.now(timezone.utc) - timedelta(seconds=1)
        result = Fleet().run("probe.fail", on=["i-1", "i-3"], run_id="r-listed", note="why")
        self.assertEqual(result.run_id, "r-listed")
        info = [run for run in Fleet().runs() if run.run_id == "r-listed"][0]
        self.assertEqual((info.action, info.instances, info.note, info.dry_run), ("probe.fail", 2, "why", False))
        self.assertEqual(info.action_class, "diagnostic")
        self.assertGreater(info.created, began)
        with self.assertRaises(bolt_fleet.RunExists):
            Fleet().run("probe.hello", on="i-1", run_id="r-listed")
        self.assertEqual(list(Fleet().retry("r-listed")), ["i-1"])
        self.assertEqual(list(Fleet().retry("r-listed", not_started=True)), ["i-1", "i-3"])
        chosen = Fleet().instances(from_run="r-listed", on="@failed")
        self.assertEqual([one.id for one in chosen], ["i-1"])
        with self.assertRaises(bolt_fleet.UnknownRun):
            Fleet().resume("r-unknown")
        self.assertEqual(Fleet().resume("r-listed").counts, {"failed": 1, "not_started": 1})

    def test_an_unrecorded_run_is_not_listed(self) -> None:
        result = Fleet(record=False).run("probe.hello", on="i-1")
        self.assertNotIn(result.run_id, [run.run_id for run in Fleet().runs()])

    def test_a_secret_is_in_no_result_error_or_record(self) -> None:
        secret = "hunter2-" + os.urandom(4).hex()
        parameters = {"name": "a", "token": secret}
        result = Fleet().run("probe.typed", parameters, on=["i-1"], run_id="r-secret")
        one = result["i-1"]
        self.assertEqual(one.outcome, "succeeded")
        self.assertIn("********", one.stdout_text)
        said = [repr(result), repr(one), str(one), one.stdout_text, one.stderr_text, json.dumps(one.result)]
        with self.assertRaises(bolt_fleet.InvalidParameters) as caught:
            Fleet().run("probe.typed", {**parameters, "count": 99}, on="i-1")
        with self.assertRaises(bolt_fleet.InvalidParameters) as again:
            Fleet().resume("r-secret")
        self.assertIn("token", str(again.exception))
        with self.assertRaises(bolt_fleet.InvalidArgument) as unsent:
            Fleet().run("probe.typed", {"token": {secret: object()}}, on="i-1")
        said += [repr(error.exception) + str(error.exception) for error in (caught, again, unsent)]
        for text in said:
            self.assertNotIn(secret, text)
        records = Path(os.environ["XDG_STATE_HOME"])
        for path in [path for path in records.rglob("*") if path.is_file()]:
            self.assertNotIn(secret.encode(), path.read_bytes(), path)
        self.assertEqual(Fleet().resume("r-secret", secrets={"token": secret}).counts, {"succeeded": 1})


if __name__ == "__main__":
    unittest.main()
