#!/usr/bin/env python3
"""Runs a script that was written for StackStorm with the arguments that its script runners pass: named ones first, as
`--name=value`, then positional ones. The script is executed without a shell, so that no value is ever shell text."""

import json
import os
import sys

sys.path[0] = os.path.dirname(os.path.abspath(__file__))
import bolt_common  # noqa: E402


def positional(value):
    """Text of a positional argument: 1 or 0, lists joined by commas, objects as JSON, nothing for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value) if value else ""
    return str(value)


def begins_with(entry, given, values, config, bolt):
    """Returns the parameter with whose value that of another begins; None for text of the author or of the site."""
    if given.get(bolt) is not None:
        return bolt
    for piece in entry["templates"].get(bolt, []):
        if bolt_common.text_of(bolt_common.parts_of([piece], values, config)):
            return begins_with(entry, given, values, config, piece["parameter"]) if "parameter" in piece else None
    return None


def check_dashes(entry, given, values, config):
    """Refuses a value of a caller that a program would take for an option, as Bolt does for its own positional arguments."""
    for bolt in entry["positional"]:
        source = begins_with(entry, given, values, config, bolt)
        if source is None or source != bolt and values.get(source) in entry["dashes"].get(source, []):
            continue
        value, allowed = values.get(bolt), entry["dashes"].get(bolt, [])
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item.startswith("-") and value not in allowed and item not in allowed:
                raise bolt_common.Unusable(
                    "%s must not start with '-': it is passed as a positional argument" % entry["names"][bolt]
                )


def named(name, value, operator):
    """Arguments of a named parameter: none, `--name` for true, or `--name=value`."""
    if value is None or value is False or value == "":
        return []
    if value is True:
        return [operator + name]
    return ["%s%s=%s" % (operator, name, value)]


def main():
    registry, entry = bolt_common.registered()
    values, config = bolt_common.standard_input()
    config = bolt_common.with_source_names(config, registry["config_names"])
    places = entry["positional"]
    given, values = values, bolt_common.with_defaults(entry, values, config)
    check_dashes(entry, given, values, config)
    parameters = bolt_common.parameters(entry, values)
    arguments = []
    for bolt, source in entry["names"].items():
        if bolt not in places:
            arguments += named(source, parameters[source], entry["kwarg_op"])
    arguments += [positional(parameters[entry["names"][bolt]]) for bolt in places]
    environment = dict(os.environ)
    environment.update(bolt_common.variables(entry, values, config))
    environment["ST2_ACTION_PACK_NAME"] = registry["pack"]
    environment["ST2_ACTION_EXECUTION_ID"] = environment.get("BOLT_EXECUTION_ID", "")
    directory = bolt_common.directory(entry, values, config)
    if entry["cwd_parameter"]:
        directory = values.get(entry["cwd_parameter"]) or directory
    if directory:
        os.chdir(directory)
    path = os.path.join(bolt_common.PACK, entry["file"])
    os.execve(path, [path] + arguments, environment)


if __name__ == "__main__":
    try:
        main()
    except (bolt_common.Unusable, OSError) as error:
        sys.stderr.write("%s\n" % error)
        sys.exit(1)
