"""The values of an action's `action_service`: a small store on the instance, one file for each action.

The file is `~/.local/state/bolt-st2/<pack>.<action>.json` of the account that the action runs as. Executions that name no
account have one that no other execution has, and its home is not kept: their values last for the execution, and the first
write says so. `bolt.run_as` in the action's file names an account that keeps them.
"""

import fcntl
import json
import os
import pwd
import sys
import tempfile
import time

MAX_KEYS = 1000
MAX_VALUE = 64 << 10
MAX_FILE = 1 << 20
DATASTORE = "is in StackStorm's datastore, which Bolt does not have"
CALLS = "get_value, set_value, delete_value or list_values"


class NeedsServer(Exception):
    """A call that only StackStorm's server can answer."""


class NoAttribute(NeedsServer, AttributeError):
    """An attribute that `action_service` lacks here; `hasattr` is false for it."""


class KeyValue(object):
    """One value, as `list_values` returns it."""

    def __init__(self, name, value):
        self.name = name
        self.value = value


def directory():
    """Returns the directory of the store, or None if this account keeps nothing."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
        status = os.stat(home)
    except (KeyError, OSError):
        return None
    if status.st_uid != os.getuid() or not os.access(home, os.W_OK):
        return None
    return os.path.join(home, ".local", "state", "bolt-st2")


class Store(object):
    """Values by name, each with the time at which it expires or null. Writers wait for one another at a lock file."""

    def __init__(self, name, where=None):
        self.memory = {}
        self.warned = False
        self.where = directory() if where is None else where
        self.path = self.where and os.path.join(self.where, name + ".json")

    def read(self):
        if not self.path:
            return self.memory
        try:
            with open(self.path, encoding="utf-8") as file:
                values = json.load(file)
        except FileNotFoundError:
            return {}
        now = time.time()
        return {name: pair for name, pair in values.items() if pair[1] is None or pair[1] > now}

    def change(self, change):
        """Calls `change` with the values and keeps them if it returns true."""
        if not self.path:
            if not self.warned:
                self.warned = True
                message = "values of action_service last for this execution only: name an account in bolt.run_as\n"
                sys.stderr.write(message)
            return change(self.memory)
        os.makedirs(self.where, mode=0o700, exist_ok=True)
        with open(self.path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            values = self.read()
            if not change(values):
                return False
            text = json.dumps(values)
            if len(values) > MAX_KEYS or len(text.encode()) > MAX_FILE:
                raise ValueError("an action keeps at most %d values of %d bytes together" % (MAX_KEYS, MAX_FILE))
            handle, temporary = tempfile.mkstemp(dir=self.where)
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
        return True


class ActionService(object):
    """StackStorm's `action_service`, without a server."""

    def __init__(self, store, prefix, user):
        self._store = store
        self._prefix = prefix
        self._user = user

    def get_user_info(self):
        return {"username": self._user, "authentication": {"method": "none", "location": "bolt"}}

    @property
    def datastore_service(self):
        raise NeedsServer("action_service.datastore_service %s: use %s of action_service" % (DATASTORE, CALLS))

    def __getattr__(self, name):
        raise NoAttribute("action_service.%s belongs to StackStorm's server, which Bolt does not have" % name)

    def _name(self, name, local, scope, encrypted=False):
        if not local:
            raise NeedsServer("%s of another action (local=False) %s" % (name, DATASTORE))
        if scope not in ("system", "st2kv.system"):
            raise NeedsServer("%s of the scope %r %s" % (name, scope, DATASTORE))
        if encrypted:
            raise NeedsServer("the key for the encrypted value %s %s" % (name, DATASTORE))
        return self._prefix + str(name)

    def list_values(self, local=True, prefix=None, limit=None, offset=None):
        start = self._name(prefix or "", local, "system")
        values = self._store.read()
        names = sorted(name for name in values if name.startswith(start))
        names = names[offset or 0 :][: limit if limit else None]
        return [KeyValue(name, values[name][0]) for name in names]

    def get_value(self, name, local=True, scope="system", decrypt=False):
        pair = self._store.read().get(self._name(name, local, scope, decrypt))
        return pair[0] if pair else None

    def set_value(self, name, value, ttl=None, local=True, scope="system", encrypt=False):
        name = self._name(name, local, scope, encrypt)
        if not isinstance(value, str):
            raise ValueError("a value is text, not %s: use json.dumps" % type(value).__name__)
        if len(value.encode()) > MAX_VALUE or len(name) > 1024:
            raise ValueError("a value has at most %d bytes, a name 1024" % MAX_VALUE)
        expires = None if ttl is None else time.time() + ttl

        def put(values):
            values[name] = [value, expires]
            return True

        return self._store.change(put)

    def delete_value(self, name, local=True, scope="system"):
        name = self._name(name, local, scope)
        return self._store.change(lambda values: values.pop(name, None) is not None)
