"""Asks the instance metadata service, version 2: a token first, then every question with it.

Version 1, without a token, is never used: it can be reached by whoever makes a program on this host fetch an address.
"""

import json

from lib import web
from lib.bolt_action import FAILED, UNAVAILABLE, Stop, clean, config

LIMIT = 1 << 18


class Metadata:
    """The metadata service of the site configuration."""

    def __init__(self, seconds=5.0):
        self._endpoint = config().get("metadata_endpoint", "http://169.254.169.254")
        self._seconds = seconds
        try:
            answer = web.ask(self._endpoint, "/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "120"}, seconds=seconds, limit=4096)
        except web.Unreachable as error:
            raise Stop(UNAVAILABLE, "%s; is this an EC2 instance, with the metadata service enabled?" % error)
        if answer.status != 200:
            raise Stop(UNAVAILABLE, "the metadata service gives no token: HTTP status %d" % answer.status)
        self._token = answer.body.decode("ascii", "replace").strip()
        if not self._token.isprintable():
            raise Stop(FAILED, "the metadata service gives a token that is not text")

    def get(self, path):
        """Returns a value as text; None if the instance has no such value."""
        answer = web.ask(self._endpoint, "/latest/" + path, headers={"X-aws-ec2-metadata-token": self._token}, seconds=self._seconds, limit=LIMIT)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Stop(FAILED, "the metadata service refuses %s: HTTP status %d" % (path, answer.status))
        return answer.body.decode("utf-8", "replace")

    def text(self, path, limit=200):
        """Returns a value as printable text; empty if there is none."""
        return clean((self.get(path) or "").strip(), limit)

    def lines(self, path, most=100):
        """Returns the names below a path."""
        return [line.strip() for line in (self.get(path) or "").splitlines() if line.strip()][:most]

    def json(self, path):
        """Returns a value as JSON; None if there is none."""
        text = self.get(path)
        if not text or not text.strip():
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise Stop(FAILED, "the metadata service gives no JSON for %s" % path)
