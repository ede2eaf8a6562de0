"""Runs pip, from a wheel and without installing it, within bounds of its own: `install.py SECONDS MEMORY WHEEL pip-arguments`.

Run by the interpreter of the environment that is being made. The bounds are set here, in the process that they bound, so
that they hold when whoever started it is gone.
"""

import os
import resource
import runpy
import signal
import sys

os.umask(0o022)  # Others run in what is installed.
seconds, memory, wheel = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
signal.alarm(seconds)  # Its default action ends the process.
try:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
except (ImportError, AttributeError, OSError):
    pass  # The alarm remains.


def bound(which, most):
    _, hard = resource.getrlimit(which)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))


bound(resource.RLIMIT_DATA, memory)
bound(resource.RLIMIT_CPU, seconds)
bound(resource.RLIMIT_FSIZE, 1 << 30)
bound(resource.RLIMIT_CORE, 0)
bound(resource.RLIMIT_NOFILE, 1024)
sys.path.insert(0, wheel)
sys.argv = ["pip"] + sys.argv[4:]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
