#!/usr/bin/env python3
"""Runs ansible/apply.yml, and no other playbook. All parameters become variables of it."""

import json
import sys

from lib.playbook import run

run("apply.yml", **json.load(sys.stdin))
