"""The README's example runs as it stands, and the types are those that mypy finds."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import bolt_fleet

PACKAGE = Path(bolt_fleet.__file__).parent
SOURCE = Path(os.environ["BOLT_TEST_PYTHON_SOURCE"])


class Papers(unittest.TestCase):
    def test_the_example_restarts_a_service_zone_by_zone_in_ten_lines(self) -> None:
        text = (SOURCE / "README.md").read_text()
        examples = re.findall(r"^```python restart\.py\n(.*?)^```$", text, re.M | re.S)
        self.assertEqual(len(examples), 1)
        self.assertLessEqual(len(examples[0].splitlines()), 10)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(examples[0], "README.md", "exec"), {})
        said = output.getvalue()
        batches = re.findall(r"batch_started (.*)", said)
        self.assertEqual(batches, ["canary", "zone b"], said)
        self.assertIn("4/4 ended i-4", said)

    def test_everything_that_is_exported_is_documented(self) -> None:
        for name in bolt_fleet.__all__:
            value = getattr(bolt_fleet, name)
            if isinstance(value, type):
                self.assertTrue(value.__doc__, name)


@unittest.skipUnless(os.environ.get("BOLT_TEST_MYPY_PYTHON"), "BOLT_TEST_MYPY_PYTHON names no Python with mypy")
class Types(unittest.TestCase):
    def check(self, *arguments: str) -> None:
        environment = dict(os.environ, MYPYPATH=str(PACKAGE.parent), PYTHONPATH=str(PACKAGE.parent))
        said = subprocess.run(
            [os.environ["BOLT_TEST_MYPY_PYTHON"], "-m", *arguments], env=environment, cwd=PACKAGE.parent, text=True,
            capture_output=True, check=False,
        )
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_the_package_and_its_tests_are_typed_strictly(self) -> None:
        cache = f"--cache-dir={PACKAGE.parent / 'mypy'}"
        self.check("mypy", "--strict", cache, "--python-version=3.10", str(PACKAGE))
        self.check("mypy", "--strict", cache, *map(str, sorted((SOURCE / "tests").glob("*.py"))))

    def test_the_stub_of_the_native_half_is_what_it_has(self) -> None:
        self.check("mypy.stubtest", "bolt_fleet._native")


if __name__ == "__main__":
    unittest.main()
