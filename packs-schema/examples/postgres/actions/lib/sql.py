"""Asks the server through psql.

A statement is constant text of an action; values reach it as psql variables, which psql quotes (`:'name'`), never as part of the
text. Sessions are read-only, with limits for the time of a statement and of a wait for a lock, so that no question makes an
incident worse. Rows come back as JSON.
"""

import json

from lib import tool
from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Stop, clean, config

OLDEST = 100000  # PostgreSQL 10
MAX_ROWS = 1000
CONNECT_SECONDS = 10


class Server:
    """The server of the site configuration, asked until the deadline."""

    def __init__(self, deadline, database=None, statement_seconds=30):
        self._deadline, self._seconds = deadline, statement_seconds
        self._site = config()
        self._database = database or self._site.get("database", "postgres")
        self.version = self.rows("SELECT current_setting('server_version_num')::int AS version")[0]["version"]
        if self.version < OLDEST:
            raise Stop(UNAVAILABLE, "this server has version %d; PostgreSQL 10 or later is needed" % self.version)

    def rows(self, statement, **values):
        """Returns the rows of a SELECT as dictionaries, at most MAX_ROWS."""
        wrapped = "SELECT coalesce(json_agg(r), '[]') FROM (SELECT * FROM (\n%s\n) q LIMIT %d) r;\n" % (statement, MAX_ROWS)
        arguments = ["psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]
        for name, value in values.items():
            arguments += ["-v", "%s=%s" % (name, value)]
        status, out, err = tool.run(arguments + ["-f", "-"], self._deadline.left(), wrapped.encode(), self._environment(), accept=(0, 1, 2, 3))
        if status == 2:
            self._unreachable(err)
        if status != 0:
            raise Stop(FAILED, "the server refused a question: %s" % tool.last(err or out))
        try:
            return json.loads(out.decode("utf-8", "replace"))
        except ValueError:
            raise Stop(FAILED, "psql gave no JSON: %s" % tool.last(out))

    def one(self, statement, **values):
        """Returns the only row of a SELECT."""
        return self.rows(statement, **values)[0]

    def _environment(self):
        options = {
            "statement_timeout": "%ds" % self._seconds,
            "lock_timeout": "2s",
            "default_transaction_read_only": "on",
            "search_path": "pg_catalog",  # Nothing that an owner of a database put into a schema is called.
            "TimeZone": "UTC",
            "jit": "off" if getattr(self, "version", 0) >= 110000 else None,
        }
        return {
            "PGHOST": self._site.get("host", "/var/run/postgresql"),
            "PGPORT": str(self._site.get("port", 5432)),
            "PGUSER": self._site.get("user", "postgres"),
            "PGDATABASE": self._database,
            "PGAPPNAME": "bolt",
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
            "PGCLIENTENCODING": "UTF8",
            "PGOPTIONS": " ".join("-c %s=%s" % pair for pair in options.items() if pair[1] is not None),
        }

    def _unreachable(self, err):
        text = tool.last(err)
        if 'database "%s" does not exist' % self._database in text:
            raise Stop(WRONG, "there is no database %s" % clean(self._database))
        raise Stop(
            UNAVAILABLE,
            "cannot connect to PostgreSQL at %s, port %s, as %s: %s; see /etc/bolt/packs/postgres.yaml"
            % (self._site.get("host", "/var/run/postgresql"), self._site.get("port", 5432), self._site.get("user", "postgres"), text),
        )


def text(value, limit=200):
    """Returns a value of a row as printable text; empty for NULL."""
    return "" if value is None else clean(str(value), limit)
