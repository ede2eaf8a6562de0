"""Asks an HTTP service, over TCP or a Unix socket, with bounded time and size; follows no redirect and uses no proxy.

Addresses are written as `http://127.0.0.1:8080/path`, or `unix:/run/service.sock:/path` for a Unix socket.
"""

import http.client
import json
import re
import socket
import ssl
import time

from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Stop, clean

LIMIT = 8 << 20
TCP = re.compile(r"^(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(/[!-~]*)?$")
UNIX = re.compile(r"^unix:(/[^:\x00-\x1f\x7f]+)(?::(/[!-~]*)?)?$")


class Unreachable(Stop):
    """Error of a service that cannot be reached; the text is the reason."""


class _Unix(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Answer:
    """Status, headers (names in lower case) and body of an answer."""

    def __init__(self, status, headers, body, complete):
        self.status, self.headers, self.body, self.complete = status, headers, body, complete

    def json(self):
        """Returns the body as JSON."""
        try:
            if not self.complete:
                raise ValueError("larger than %d bytes" % LIMIT)
            return json.loads(self.body.decode("utf-8", "replace"))
        except ValueError as error:
            raise Stop(FAILED, "the service gave no JSON: %s" % clean(str(error)))


def ask(address, path="", method="GET", headers=None, body=None, seconds=10.0, limit=LIMIT, ca_file=None):
    """Returns the Answer, whatever its status. Raises Unreachable if there is none in time.

    What is beyond `limit` is not read; the answer is then not complete."""
    end = time.monotonic() + max(seconds, 0.1)
    connection, base = _connection(address, max(seconds, 0.1), ca_file)
    try:
        connection.request(method, base.rstrip("/") + path if path else base, body, dict(headers or {}, Connection="close"))
        answer = connection.getresponse()
        parts, total = [], 0
        while total < limit:
            left = end - time.monotonic()
            if left <= 0:
                raise socket.timeout("timed out")
            if connection.sock is not None:
                connection.sock.settimeout(left)
            part = answer.read1(min(1 << 16, limit - total))
            if not part:
                break
            parts.append(part)
            total += len(part)
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, b"".join(parts), total < limit)
    except (OSError, http.client.HTTPException) as error:
        reason = "no answer within %.0f s" % seconds if isinstance(error, socket.timeout) else getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unreachable(UNAVAILABLE, "%s cannot be asked: %s" % (clean(address), clean(reason)))
    finally:
        connection.close()


def _connection(address, seconds, ca_file):
    unix = UNIX.match(address)
    if unix:
        return _Unix(unix.group(1), seconds), unix.group(2) or "/"
    tcp = TCP.match(address)
    if not tcp or int(tcp.group(3) or 80) > 65535:
        raise Stop(WRONG, "%s is not an address of an HTTP service" % clean(address))
    scheme, host, port, path = tcp.groups()
    host, port = host.strip("[]"), int(port) if port else None
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=seconds), path or "/"
    return http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context(cafile=ca_file)), path or "/"
