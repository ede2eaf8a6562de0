#!/usr/bin/env python3
"""Closes the connection of one client with exactly this id and address."""

import sys

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import client_list, resp  # noqa: E402
from lib.bolt_action import FAILED, WRONG, Deadline, Stop, finish, main, noop, parameters  # noqa: E402


def action():
    given = parameters()
    server = resp.connect(given, Deadline(50.0))
    client = find(server, given)
    if client is None:
        raise Stop(WRONG, "there is no client %d at %s; see redis.clients" % (given["id"], given["address"]))
    if client["kind"] in ("replica", "master"):
        raise Stop(WRONG, "client %d is a %s: its replication would start again from the beginning" % (given["id"], client["kind"]))
    result = {key: client[key] for key in ("id", "address", "name", "kind", "command", "age_seconds")}
    result["noop"] = noop()
    print("client %(id)d at %(address)s, %(kind)s, %(age_seconds)d s old, last command %(command)s" % client)
    if noop():
        print("noop: would close its connection")
        return finish(dict(result, outcome="would_close"))
    try:
        # The server compares both.
        closed = server.ask("CLIENT", "KILL", "ID", given["id"], "ADDR", given["address"])
    except resp.Refused as error:
        raise Stop(FAILED, "the server refuses CLIENT KILL: %s" % error)
    if find(server, given) is not None:
        finish(dict(result, outcome="still_connected"))
        raise Stop(FAILED, "client %d is still connected" % given["id"])
    # The server says how many it has closed.
    outcome = "ended_meanwhile" if closed == 0 else "closed"
    print("closed" if closed != 0 else "the client had ended before its connection was to be closed")
    return finish(dict(result, outcome=outcome))


def find(server, given):
    return next((c for c in client_list.clients(server) if c["id"] == given["id"] and c["address"] == given["address"]), None)


main(action)
