#!/usr/bin/env python3
"""Cancels the statement of a session, or ends the session, that has exactly this pid and start."""

import fnmatch
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, config, finish, main, noop, parameters  # noqa: E402
from lib.sql import Server, text  # noqa: E402

KINDS = ("client backend", "autovacuum worker")
SESSION = """
SELECT pid, backend_start, datname, usename, application_name, state, backend_type, query_start,
       extract(epoch FROM now() - xact_start)::numeric(12, 1) AS transaction_seconds
FROM pg_stat_activity WHERE pid = :'pid'::int AND backend_start = :'start'::timestamptz"""
# The server compares the identity in the statement that signals, so that nothing can come between. A cancellation also names the
# statement: one that began after it was shown is left alone.
CANCEL = """
SELECT pg_cancel_backend(pid) AS sent FROM pg_stat_activity
WHERE pid = :'pid'::int AND backend_start = :'start'::timestamptz AND query_start = :'query'::timestamptz AND state = 'active'"""
TERMINATE = """
SELECT pg_terminate_backend(pid) AS sent FROM pg_stat_activity
WHERE pid = :'pid'::int AND backend_start = :'start'::timestamptz"""


def action():
    given, deadline = parameters(), Deadline(150.0)
    server = Server(deadline)
    who = {"pid": given["pid"], "start": given["backend_start"]}
    found = server.rows(SESSION, **who)
    if not found:
        raise Stop(WRONG, "there is no session %d that started at %s; see postgres.sessions" % (given["pid"], given["backend_start"]))
    session = found[0]
    refuse(session, given["terminate"])
    result = {
        "noop": noop(),
        "pid": session["pid"],
        "backend_start": text(session["backend_start"]),
        "database": text(session["datname"], 64),
        "role": text(session["usename"], 64),
        "application": text(session["application_name"], 64),
        "state": text(session["state"]) or text(session["backend_type"]),
        "transaction_seconds": session["transaction_seconds"] or 0,
    }
    print("session %d of %s in %s (%s, %s), transaction of %s s" % (
        result["pid"], result["role"] or "-", result["database"] or "-", result["application"] or "-", result["state"], result["transaction_seconds"],
    ))  # fmt: skip
    if noop():
        print("noop: would %s" % ("end the session" if given["terminate"] else "cancel its statement"))
        finish(dict(result, outcome="would_terminate" if given["terminate"] else "would_cancel"))
        return None
    sent = server.rows(TERMINATE, **who) if given["terminate"] else server.rows(CANCEL, query=session["query_start"] or "", **who)
    signalled = bool(sent and sent[0]["sent"])
    if not signalled:
        if not effective(server, session, who, given["terminate"]):
            raise Stop(FAILED, "the server did not signal session %d" % given["pid"])
        finish(dict(result, outcome="ended_meanwhile"))
        print("nothing was sent: the %s had ended" % ("session" if given["terminate"] else "statement"))
        return None
    done = False
    end = time.monotonic() + min(given["wait"], max(deadline.left() - 15, 0))
    while True:
        done = effective(server, session, who, given["terminate"])
        if done or time.monotonic() >= end:
            break
        time.sleep(0.2)
    if not done:
        finish(dict(result, outcome="still_running"))
        raise Stop(FAILED, "session %d is still there after %d s; a rollback, or an operation that does not check for signals, takes its time" % (given["pid"], given["wait"]))
    outcome = "terminated" if given["terminate"] else "cancelled"
    finish(dict(result, outcome=outcome))
    print(outcome)
    return None


def refuse(session, terminate):
    if session["backend_type"] not in KINDS:
        raise Stop(WRONG, "session %d is a %s; only client sessions and autovacuum workers are cancelled" % (session["pid"], text(session["backend_type"]) or "process of the server"))
    role = session["usename"] or ""
    if any(fnmatch.fnmatchcase(role, pattern) for pattern in config().get("protected_users", [])):
        raise Stop(WRONG, "sessions of %s are protected by protected_users in /etc/bolt/packs/postgres.yaml" % text(role))
    if not terminate and session["state"] != "active":
        raise Stop(WRONG, "session %d is %s: it has no statement to cancel; terminate=true ends the session" % (session["pid"], text(session["state"]) or "not active"))


def effective(server, session, who, terminate):
    found = server.rows(SESSION, **who)
    if terminate or not found:
        return not found
    return found[0]["query_start"] != session["query_start"] or found[0]["state"] != "active"


main(action)
