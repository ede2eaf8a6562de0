"""What both runners share: the registry of imported actions, parameters with the names and defaults of the source."""

import ast
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


def parts_of(pieces, values, config):
    """Returns the values of the pieces of a template."""
    parts = []
    for piece in pieces:
        if "config" in piece:
            parts.append(at(config, piece["config"]))
        elif "parameter" in piece:
            parts.append(values.get(piece["parameter"]))
        else:
            parts.append(piece["text"])
    return parts


def text_of(parts):
    return "".join("" if part is None else str(part) for part in parts)


def cast(name, value, kind):
    """Returns a computed value in the type of its parameter, as StackStorm casts it."""
    if value is None or kind is None:
        return value
    if kind == "string" or not isinstance(value, str):
        return str(value) if kind == "string" else value
    try:
        if kind in ("integer", "number"):
            return int(value) if kind == "integer" else float(value)
        if kind == "boolean":
            return bool(ast.literal_eval(value.strip().capitalize()))
        try:
            return json.loads(value)
        except ValueError:
            return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise Unusable("the default of %s is computed as %r, which is no %s" % (name, value, kind))


def with_defaults(entry, values, config):
    """Returns the values by Bolt's name, with the defaults that are computed, each after those that it is made of."""
    values, templates = dict(values), entry["templates"]

    def compute(name, within):
        if values.get(name) is not None or name not in templates:
            return
        if name in within:
            named = ", ".join(entry["names"][one] for one in within)
            raise Unusable("the defaults of %s are made of one another" % named)
        for piece in templates[name]:
            if "parameter" in piece:
                compute(piece["parameter"], within + [name])
        parts = parts_of(templates[name], values, config)
        value = parts[0] if len(parts) == 1 else text_of(parts)
        values[name] = cast(entry["names"][name], value, entry["types"].get(name))

    for name in templates:
        compute(name, [])
    return values


def parameters(entry, values):
    """Returns all declared parameters by the name in the source; those without a value are none, as in StackStorm."""
    return {source: values.get(bolt) for bolt, source in entry["names"].items()}


def variables(entry, values, config):
    """Returns the variables of the environment that the action's file sets."""
    computed = {name: text_of(parts_of(pieces, values, config)) for name, pieces in entry["env_computed"].items()}
    return dict(entry["env"], **computed)


def directory(entry, values, config):
    """Returns the working directory that the action's file sets, or None."""
    if entry["cwd_computed"] is None:
        return entry["cwd"]
    parts = parts_of(entry["cwd_computed"], values, config)
    # With an empty value the script would run in another directory.
    if None in parts or "" in parts:
        raise Unusable("a value that the working directory needs is missing")
    if not text_of(parts).startswith("/"):
        raise Unusable("the working directory must begin with '/': %s" % text_of(parts))
    return text_of(parts)
