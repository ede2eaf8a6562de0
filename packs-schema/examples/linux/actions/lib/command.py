"""Runs a program of the host whose absence or failure does not stop the action."""

from lib import tool
from lib.bolt_action import Stop


def run(arguments, seconds):
    """Returns exit status and standard output of a program; None if it does not exist, or was killed because it exceeded the
    time or the limit of its output."""
    try:
        status, out, _ = tool.run(arguments, seconds, accept=None)
    except Stop as stop:
        if stop.status > 128:  # SIGTERM
            raise
        return None
    return status, out
