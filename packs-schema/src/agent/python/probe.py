"""Says, as one JSON object, which interpreter this is and where a pip is to be found for it. Changes nothing."""

import importlib.util
import json
import os
import sys
import sysconfig


def wheels():
    # Where ensurepip has its own: with the interpreter, or, on some distributions, beside other wheels.
    bundled = importlib.util.find_spec("ensurepip")
    places = [sysconfig.get_config_var("WHEEL_PKG_DIR")]
    places += [os.path.join(place, "_bundled") for place in (bundled and bundled.submodule_search_locations) or ()]
    for place in places:
        names = os.listdir(place) if place and os.path.isdir(place) else ()
        for name in sorted(names, reverse=True):
            if name.startswith("pip-") and name.endswith(".whl"):
                yield os.path.join(place, name)


json.dump(
    {
        "executable": os.path.realpath(sys.executable),
        "abi": sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag,
        "platform": sysconfig.get_platform(),
        "version": "%d.%d.%d" % sys.version_info[:3],
        "venv": importlib.util.find_spec("venv") is not None,
        "pip": next(wheels(), None),
    },
    sys.stdout,
)
