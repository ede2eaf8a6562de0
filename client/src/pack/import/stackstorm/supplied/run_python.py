#!/usr/bin/env python3
"""Runs a Python action that was written for StackStorm, as its python runner does.

The class in the action's file gets the site configuration as `self.config`, a logger, and `self.action_service`; `run` is
called with all declared parameters. What it returns is the structured result: an object as it is, anything else under
`result`. `(False, result)` and an exception are exit status 1; `(None, result)` has no status, and succeeds.
"""

import importlib.util
import inspect
import json
import os
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[0] = HERE
import bolt_common  # noqa: E402
import bolt_modules  # noqa: E402
import bolt_values  # noqa: E402

# Not the action's own imports: they come from its pack.
sys.path.remove(HERE)

MAX_RESULT = 64 << 10
# StackStorm's exit code for a status that is neither true, false nor none.
INVALID_STATUS = 220
STATUS_MESSAGE = (
    "Status returned from the action run() method must either be True or False, got: %s\n"
    "Return a list instead of a tuple, or a tuple of a status and the result.\n"
)


def search_path(path):
    """Returns where the action's imports are found: shared libraries, libraries of actions, and beside the file."""
    directory = os.path.dirname(path)
    shared = [os.path.join(bolt_common.PACK, "lib"), os.path.join(bolt_common.PACK, "actions", "lib")]
    return [found for found in shared if os.path.isdir(found)], directory


def module_name(path):
    """Returns the name of the action's module: that of its file, unless another module is found by it."""
    name = os.path.splitext(os.path.basename(path))[0]
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    own = found is not None and os.path.realpath(found.origin or "") == os.path.realpath(path)
    return name if own else "bolt_st2_" + name.replace(".", "_")


def load(path):
    """Imports the action's file and returns its class."""
    before, after = search_path(path)
    sys.path[0:0] = before
    if after not in sys.path:
        sys.path.append(after)
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # As in StackStorm: dataclasses, pickle and the action itself look it up there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    classes = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == name]
    actions = [kind for kind in classes if callable(getattr(kind, "run", None))]
    if not actions:
        raise bolt_common.Unusable("%s has no class with a method run" % path)
    derived = [kind for kind in actions if issubclass(kind, bolt_modules.Action)]
    return (derived or actions)[0]


def instance(kind, config, service):
    try:
        return kind(config=config, action_service=service)
    except TypeError as error:
        if "unexpected keyword argument 'action_service'" not in str(error):
            raise
    # Older actions: the service is set afterwards.
    action = kind(config=config)
    action.action_service = service
    return action


def write(result):
    """Writes the structured result; one that is too large is on standard output."""
    shaped = result if isinstance(result, dict) else {"result": result}
    try:
        text = json.dumps(shaped, allow_nan=False)
    except (TypeError, ValueError):
        text = json.dumps({"result": str(result)})
    if len(text.encode()) > MAX_RESULT:
        print(text)
        text = json.dumps({"result_in": "stdout", "result_bytes": len(text.encode())})
    with open(os.environ["BOLT_RESULT"], "w", encoding="utf-8") as file:
        file.write(text + "\n")


def main():
    registry, entry = bolt_common.registered()
    values, config = bolt_common.standard_input()
    config = bolt_common.with_source_names(config, registry["config_names"])
    values = bolt_common.with_defaults(entry, values, config)
    parameters = bolt_common.parameters(entry, values)
    os.environ.update(bolt_common.variables(entry, values, config))
    os.environ["ST2_ACTION_PACK_NAME"] = registry["pack"]
    os.environ["ST2_ACTION_EXECUTION_ID"] = os.environ.get("BOLT_EXECUTION_ID", "")
    bolt_modules.install(registry["pack"], entry["log_level"])
    kind = load(os.path.join(bolt_common.PACK, entry["file"]))
    name = "%s.%s" % (registry["pack"], os.environ["BOLT_ACTION"])
    prefix = "%s.%s:" % (registry["pack"], kind.__name__)
    service = bolt_values.ActionService(bolt_values.Store(name), prefix, os.environ.get("USER", ""))
    output = instance(kind, config, service).run(**parameters)
    succeeded = True
    if isinstance(output, tuple) and len(output) == 2:
        succeeded, output = output
        # None is no status: the action succeeded, as without a tuple.
        if succeeded is not None and not isinstance(succeeded, bool):
            sys.stderr.write(STATUS_MESSAGE % (succeeded,))
            return INVALID_STATUS
    write(output)
    return 1 if succeeded is False else 0


if __name__ == "__main__":
    try:
        status = main()
    except bolt_common.Unusable as error:
        sys.stderr.write("%s\n" % error)
        status = 1
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.exit(status)
