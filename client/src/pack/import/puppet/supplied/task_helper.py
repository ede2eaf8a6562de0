"""Stands in for the module python_task_helper of Puppet, which was not beside the imported module."""

import json
import sys


class TaskError(Exception):
    """Error with the kind and details that callers see."""

    def __init__(self, msg, kind, details=None, issue_code=None):
        super(TaskError, self).__init__(msg)
        self.kind = kind
        self.details = details or {}
        self.issue_code = issue_code

    def to_hash(self):
        error = {"kind": self.kind, "msg": str(self), "details": self.details}
        if self.issue_code:
            error["issue_code"] = self.issue_code
        return {"_error": error}


class TaskHelper(object):
    """Base of a task: `task` gets the parameters and returns the result."""

    def __init__(self):
        self.debug_statements = []

    def debug(self, statement):
        self.debug_statements.append(statement)

    def task(self, args):
        raise TaskError("TaskHelper.task is not implemented", "python.task.helper/exception", {}, "EXCEPTION")

    def run(self):
        try:
            print(json.dumps(self.task(json.load(sys.stdin))))
        except TaskError as error:
            print(json.dumps(error.to_hash()))
            sys.exit(1)
        except Exception as error:
            details = {"class": type(error).__name__, "debug": self.debug_statements}
            print(json.dumps(TaskError(str(error), "python.task.helper/exception", details, "EXCEPTION").to_hash()))
            sys.exit(1)
