"""Modules of StackStorm that actions import, without StackStorm: what its documentation describes, and a clear error for
the rest."""

import abc
import importlib.abc
import importlib.machinery
import logging
import os
import shlex
import subprocess
import sys
import types

LEVEL = ["debug"]
PACK = ["unknown"]


class PackConfigDict(dict):
    """The configuration: a missing key is an error that says where to set it."""

    def __init__(self, pack_name, *args):
        super(PackConfigDict, self).__init__(*args)
        self._pack_name = pack_name

    def __getitem__(self, key):
        try:
            return super(PackConfigDict, self).__getitem__(key)
        except KeyError:
            message = 'Config for pack "%s" is missing key "%s": set it in /etc/bolt/packs/%s.yaml'
            raise ValueError(message % (self._pack_name, key, self._pack_name))


def get_logger_for_python_runner_action(action_name, log_level="debug"):
    """Returns a logger that writes to standard error."""
    logger = logging.getLogger("actions.python.%s" % action_name)
    if not logger.handlers:
        level = getattr(logging, str(log_level).upper(), logging.DEBUG)
        handler = logging.StreamHandler()
        handler.setLevel(level)
        handler.setFormatter(logging.Formatter("%(name)-12s: %(levelname)-8s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(level)
    return logger


class Action(abc.ABC):
    """Base of all actions."""

    description = None

    def __init__(self, config=None, action_service=None):
        self.config = PackConfigDict(PACK[0], config or {})
        self.action_service = action_service
        self.logger = get_logger_for_python_runner_action(self.__class__.__name__, LEVEL[0])

    @abc.abstractmethod
    def run(self, **kwargs):
        pass


class InvalidActionReferencedException(Exception):
    pass


class InvalidActionParameterException(Exception):
    pass


def run_command(cmd, stdin=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE, shell=False, cwd=None, env=None):
    """Runs a command; returns its exit code and output as text."""
    process = subprocess.Popen(cmd, stdin=stdin, stdout=stdout, stderr=stderr, shell=shell, cwd=cwd, env=env or os.environ)
    out, err = process.communicate()
    return process.returncode, (out or b"").decode("utf-8", "replace"), (err or b"").decode("utf-8", "replace")


MODULES = {
    "st2common": {},
    "st2common.runners": {},
    "st2common.runners.base_action": {"Action": Action},
    "st2common.runners.utils": {
        "PackConfigDict": PackConfigDict,
        "get_logger_for_python_runner_action": get_logger_for_python_runner_action,
    },
    "st2common.exceptions": {},
    "st2common.exceptions.action": {
        "InvalidActionReferencedException": InvalidActionReferencedException,
        "InvalidActionParameterException": InvalidActionParameterException,
    },
    "st2common.log": {"getLogger": logging.getLogger},
    "st2common.util": {},
    "st2common.util.shell": {"quote_unix": shlex.quote, "run_command": run_command},
    "st2actions": {},
    "st2actions.runners": {},
    "st2actions.runners.pythonrunner": {"Action": Action},
}


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules above, and refuses others of StackStorm."""

    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        if name.split(".")[0] in ("st2common", "st2actions", "st2reactor", "st2client", "st2api", "st2auth"):
            raise ImportError("%s needs StackStorm's server, which Bolt does not have" % name, name=name)
        return None

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        module.__path__ = []
        for name, value in MODULES[module.__name__].items():
            setattr(module, name, value)


def install(pack, log_level):
    """Makes the modules importable."""
    PACK[0], LEVEL[0] = pack, log_level
    sys.meta_path.insert(0, Finder())
