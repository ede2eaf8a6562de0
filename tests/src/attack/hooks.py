"""Hooks of schemathesis: which of its findings are explained, and checks that it does not have.

BOLT_TEST_ATTACK_SITE names a JSON file with the codes of problems, and the actions that exist. Each explained finding is a line of
the file that BOLT_TEST_ATTACK_EXPLAINED names.
"""

import json
import os
import re
import threading
import zlib

import jsonschema_rs
import schemathesis

with open(os.environ["BOLT_TEST_ATTACK_SITE"], encoding="utf-8") as file:
    SITE = json.load(file)
CODES = SITE["codes"]
ACTIONS = SITE["actions"]
DOCUMENT = SITE["document"]
OUTPUT = open(os.environ["BOLT_TEST_ATTACK_EXPLAINED"], "a", encoding="utf-8")
LOCK = threading.Lock()

# Name, finding, operations (none: all), status, code of the problem, part of its detail or of the finding.
EXPLAINED = [
    ("cursor of another history", "RejectedPositiveData", ["Events", "ListExecutions"], 410, "cursor_gone", ""),
    ("offset without follow", "RejectedPositiveData", ["GetStdout", "GetStderr"], 400, "bad_request", "offset goes with follow"),
    ("range with follow", "RejectedPositiveData", ["GetStdout", "GetStderr"], 400, "bad_request", "Range"),
    ("range beyond the output", "RejectedPositiveData", ["GetStdout", "GetStderr"], 416, "range_not_satisfiable", ""),
    ("range that is ignored", "AcceptedNegativeData", ["GetStdout", "GetStderr"], 200, None, "parameter `range` in header"),
    ("another instance", "RejectedPositiveData", ["CreateExecution"], 421, "wrong_instance", ""),
    ("parameters of the action", "RejectedPositiveData", ["CreateExecution"], 422, "invalid_parameters", ""),
    ("key of another request", "RejectedPositiveData", ["CreateExecution"], 422, "idempotency_mismatch", ""),
    ("not an archive", "RejectedPositiveData", ["PushPack"], 422, "invalid_pack", ""),
    ("time to live", "RejectedPositiveData", ["PushPack"], 422, "ttl_too_long", ""),
    ("digest of another archive", "RejectedPositiveData", ["PushPack"], 400, "bad_request", "digest"),
]


def problem_of(response):
    """Returns the problem of an answer, if it is one."""
    if not (response.headers.get("content-type") or [""])[0].startswith("application/problem+json"):
        return {}
    return json.loads(response.content)


def operation_id(case):
    return case.operation.definition.raw.get("operationId")


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops an explained finding, and counts it."""
    problem = problem_of(response)
    text = problem.get("detail") or str(failure.message)
    for name, finding, operations, status, code, part in EXPLAINED:
        if (
            type(failure).__name__ == finding
            and operation_id(case) in operations
            and response.status_code == status
            and problem.get("code") == code
            and part in text
        ):
            with LOCK:
                OUTPUT.write(name + "\n")
                OUTPUT.flush()
            return False
    return True


def valid(schema, value):
    """Returns true if a generated value conforms, so that another one that does may take its place."""
    return isinstance(value, str) and re.fullmatch(DOCUMENT["components"]["schemas"][schema]["pattern"], value)


def chosen(value, choices):
    """Returns one of the choices, the same for equal values."""
    return choices[zlib.crc32(repr(value).encode()) % len(choices)]


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Puts what exists in the place of names that nothing has."""
    if path_parameters:
        for name, schema, choices in (("action", "ActionRef", list(ACTIONS)), ("pack", "PackName", ["attack"])):
            if valid(schema, path_parameters.get(name)):
                path_parameters[name] = chosen(path_parameters[name], [*choices, path_parameters[name]])
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    """Puts an action that exists, and for three of four parameters that fit it, in the place of generated ones."""
    if isinstance(body, dict) and valid("ActionRef", body.get("action")):
        action = chosen(body["action"], [*ACTIONS, None])
        if action:
            body["action"] = action
            if isinstance(body.get("parameters", {}), dict) and chosen(body, [True, True, True, False]):
                body["parameters"] = chosen(str(body), ACTIONS[action])
        if valid("InstanceId", body.get("instance")) and chosen(body["instance"], [True, False]):
            body["instance"] = SITE["instance"]
        if valid("PackVersion", body.get("version")) and chosen(body["version"], [True, False]):
            body["version"] = SITE["version"]
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    """Asks for no stream of events that never ends."""
    if operation_id(case) == "Events" and case.query and str(case.query.get("follow")).lower() == "true":
        case.query["follow"] = "false"


@schemathesis.check
def problem_conformance(ctx, response, case):
    """Holds a problem against the list of codes, and against those that the document lists for the operation."""
    problem = problem_of(response)
    if response.status_code >= 400 and response.status_code != 503:
        assert problem, f"status {response.status_code} without a problem"
    if problem:
        code = problem["code"]
        assert code != "internal", problem["detail"]
        assert CODES.get(code) == response.status_code == problem["status"], f"{code} with {response.status_code}"
        assert problem["type"] == f"urn:bolt:problem:{code}", problem["type"]
        assert [problem["request_id"]] == response.headers.get("bolt-request-id"), "another request id"
        if response.request.method.lower() == case.operation.method.lower():
            listed = case.operation.definition.raw["x-bolt-problems"]
            assert code in listed, f"{code} is not among the problems of {operation_id(case)}"
    assert response.headers.get("cache-control") == ["no-store"], "may be cached"


@schemathesis.check
def lines_conformance(ctx, response, case):
    """Holds each line of an answer of lines against the schema of one line."""
    if not (response.headers.get("content-type") or [""])[0].startswith("application/x-ndjson"):
        return
    schema = case.operation.definition.raw["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
    validator = jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]})
    for line in response.content.splitlines():
        validator.validate(json.loads(line))
