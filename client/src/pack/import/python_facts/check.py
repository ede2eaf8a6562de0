"""Reads Python sources without running them: one JSON object of texts on standard input, facts about each on standard
output. A helper of `bolt pack import`, which computes from the facts whether an action can run under Python 3."""

import ast
import json
import sys
import warnings

# Names of Python 2 that Python 3 lacks.
NAMES = {"unicode", "basestring", "xrange", "raw_input", "long", "unichr", "reduce", "execfile", "cmp", "file"}
# Methods of Python 2's dict.
METHODS = {"iteritems", "itervalues", "iterkeys", "has_key"}
# Functions that Python 3 moved to urllib.parse and urllib.request.
URLLIB = {"urlencode", "quote", "quote_plus", "unquote", "unquote_plus", "urlopen", "urlretrieve"}


def guarded(node):
    """True for blocks whose author expected that an import or a name may be missing."""
    if isinstance(node, ast.Try):
        return any(isinstance(h.type, (ast.Name, ast.Tuple, type(None))) for h in node.handlers)
    if isinstance(node, ast.If):
        text = ast.dump(node.test)
        return "PY2" in text or "PY3" in text or "version_info" in text or "TYPE_CHECKING" in text
    return False


def walk(node, lazy, safe, facts):
    """Collects imports and names below `node`; `lazy` inside a function, `safe` inside a guarded block."""
    for child in ast.iter_child_nodes(node):
        line = getattr(child, "lineno", 0)
        if isinstance(child, ast.Import):
            for alias in child.names:
                facts["imports"].append([0, alias.name, [], line, safe])
        elif isinstance(child, ast.ImportFrom):
            names = [alias.name for alias in child.names]
            facts["imports"].append([child.level, child.module or "", names, line, safe])
            facts["bound"].update(alias.asname or alias.name for alias in child.names)
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load) and child.id in NAMES and not safe:
            facts["python2"].append([line, child.id])
        elif isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load):
            facts["bound"].add(child.id)
        elif isinstance(child, ast.arg):
            facts["bound"].add(child.arg)
        elif isinstance(child, ast.Attribute) and not safe:
            owner = child.value.id if isinstance(child.value, ast.Name) else ""
            if child.attr in METHODS and owner not in ("six", "utils"):
                facts["python2"].append([line, "." + child.attr])
            elif child.attr in URLLIB and owner == "urllib":
                facts["python2"].append([line, "urllib." + child.attr])
        elif isinstance(child, ast.BinOp) and isinstance(child.op, ast.RShift):
            if isinstance(child.left, ast.Name) and child.left.id == "print":
                facts["python2"].append([line, "print >>"])
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            facts["bound"].add(child.name)
        walk(child, lazy or isinstance(child, ast.FunctionDef), safe or guarded(child), facts)


def facts_of(text):
    facts = {"imports": [], "python2": [], "bound": set(), "classes": [], "error": None}
    try:
        tree = ast.parse(text)
        walk(tree, False, False, facts)
    except SyntaxError as error:
        facts["error"] = [error.lineno or 0, str(error.msg)[:200]]
    except (ValueError, RecursionError, MemoryError) as error:
        facts["error"] = [0, (str(error) or type(error).__name__)[:200]]
    else:
        facts["classes"] = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    bound = facts.pop("bound")
    facts["python2"] = [[line, name] for line, name in facts["python2"] if name not in bound]
    return facts


def main():
    warnings.simplefilter("ignore")
    sources = json.load(sys.stdin)
    json.dump({path: facts_of(text) for path, text in sources.items()}, sys.stdout)


if __name__ == "__main__":
    main()
