"""What both runners share: the registry of imported actions, parameters with the names and defaults of the source."""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# The pack's top directory.
PACK = os.path.dirname(os.path.dirname(HERE))


class Unusable(Exception):
    """An action that cannot be run, with the reason for people."""


def registered():
    """Returns the registry and the entry of the action that runs."""
    with open(os.path.join(HERE, "actions.json"), encoding="utf-8") as file:
        registry = json.load(file)
    name = os.environ.get("BOLT_ACTION", "")
    if name not in registry["actions"]:
        raise Unusable("actions.json has no action %r: import the pack again" % name)
    return registry, registry["actions"][name]


def standard_input():
    """Returns the parameters by Bolt's name, and the site configuration."""
    values = json.loads(sys.stdin.read() or "{}")
    config = values.pop("bolt_config", None)
    if config is None:
        config = json.loads(os.environ.get("BOLT_CONFIG") or "{}")
    # Programs that the action starts must not read what was parameters.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return values, config


def with_source_names(config, names):
    """Returns the configuration with the names of the source, by `names` of those that differ."""
    return {names.get(name, name): value for name, value in config.items()}


def at(config, path):
    for key in path:
        config = config.get(key) if isinstance(config, dict) else None
    return config




def parameters(entry, values, config):
    """Returns all declared parameters by the name in the source; those without a value are none, as in StackStorm."""
    values = dict(values)
    for name, pieces in entry.get("templates", {}).items():
        if values.get(name) is not None:
            continue
        parts = []
        for piece in pieces:
            if "config" in piece:
                parts.append(at(config, piece["config"]))
            elif "parameter" in piece:
                parts.append(values.get(piece["parameter"]))
            else:
                parts.append(piece["text"])
        if len(parts) == 1:
            values[name] = parts[0]
        else:
            values[name] = "".join("" if part is None else str(part) for part in parts)
    return {source: values.get(bolt) for bolt, source in entry["names"].items()}
