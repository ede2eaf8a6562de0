"""What the tests share. `tests/e2e/python.rs` starts real agents and names their client.toml in BOLT_CLIENT_CONFIG.

i-1 and i-2 are in zone a, i-3 and i-4 in zone b, all of app cassandra; i-5 (zone c, app other) grants the operator only
`read`.
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict

import bolt_fleet
from bolt_fleet import Fleet

CONFIG = Path(os.environ["BOLT_CLIENT_CONFIG"])
CASSANDRA = 'app == "cassandra"'
#: Time after which a child process counts as hung, in seconds.
PATIENCE = 120

# A hang is a failure that shows where.
faulthandler.dump_traceback_later(5 * PATIENCE, exit=True)


def fleet_with(change: Dict[str, str], more: str = "", sources: str = "") -> Fleet:
    """Returns a fleet of another client.toml: lines of it replaced, and text added to the inventory. `sources` are further tables
    of the inventory."""
    directory = Path(tempfile.mkdtemp(dir=CONFIG.parent))
    lines = []
    inventory = directory / "inventory.toml"
    inventory.write_text((CONFIG.parent / "inventory.toml").read_text() + more)
    for line in CONFIG.read_text().splitlines():
        key = line.split("=")[0].strip()
        path = CONFIG.parent / line.split("=")[1].strip().strip('"') if "=" in line else None
        if key in change:
            lines.append(f'{key} = "{change[key]}"')
        elif key == "inventory":
            inventory_line = f'inventory = "{inventory}"' if not sources else ""
            sources = sources and f'[[inventory]]\nkind = "file"\npath = "{inventory}"\n{sources}'
            lines.append(inventory_line)
        elif path is not None:
            lines.append(f'{key} = "{path}"')
        else:
            lines.append(line)
    config = directory / "client.toml"
    config.write_text("\n".join([*lines, sources]) + "\n")
    return Fleet(config)


def python(code: str) -> "subprocess.CompletedProcess[str]":
    """Runs Python code in a process of its own, which must end in time."""
    environment = dict(os.environ, PYTHONPATH=str(Path(bolt_fleet.__file__).parent.parent))
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )
