"""Speaks the protocol of Redis (RESP2), with bounded time and size.

A command is a list of words with their lengths: nothing in a word is ever understood as another command.
"""

import re
import socket
import ssl
import time

from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Stop, clean, config

MAX_ANSWER = 32 << 20
MAX_DEPTH = 8
INTEGER = re.compile(rb"^-?[0-9]{1,19}$")


class Refused(Exception):
    """Error that the server answered; the text is its message."""


class Server:
    """Connection to the server of the site configuration. `given` are the parameters, with the site's secrets."""

    def __init__(self, given, deadline, seconds=10.0, while_loading=False):
        self._site = dict(config(), **(given.get("bolt_config") or {}))
        self._deadline, self._seconds = deadline, seconds
        self.address = self._site.get("address", "127.0.0.1:6379")
        self._buffer, self._read = b"", 0
        try:
            self._socket = self._connect()
        except (OSError, ValueError) as error:
            self._lost(error)
        if self._site.get("password"):
            user = [self._site["user"]] if self._site.get("user") else []
            try:
                self.ask("AUTH", *user, self._site["password"])
            except Refused as error:
                raise Stop(UNAVAILABLE, "the server refuses the user of the site configuration: %s" % error)
        try:
            self.ask("PING")
        except Refused as error:
            # INFO is answered all the same; it says how far a server is with its data, or that its master is gone.
            if while_loading and str(error).startswith(("LOADING ", "MASTERDOWN ")):
                return
            raise Stop(UNAVAILABLE, "the server at %s refuses PING: %s; see user and password in /etc/bolt/packs/redis.yaml" % (self.address, error))

    def ask(self, *words):
        """Returns the answer to a command: bytes, int, None or a list. Raises Refused if the server answers an error."""
        answer = self.all([words])[0]
        if isinstance(answer, Refused):
            raise answer
        return answer

    def all(self, commands):
        """Returns the answers to several commands, sent at once; errors are among them as Refused."""
        text = b"".join(encode(words) for words in commands)
        self._read = 0
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(text)
            return [self._answer(0) for _ in commands]
        except OSError as error:
            return self._lost(error)

    def maybe(self, *words):
        """Returns the answer, or None if the server refuses the command (an earlier version, or a right that is missing)."""
        try:
            return self.ask(*words)
        except Refused:
            return None

    def _connect(self):
        if self.address.startswith("/"):
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            found.settimeout(self._left())
            found.connect(self.address)
            return found
        host, _, port = self.address.rpartition(":")
        found = socket.create_connection((host.strip("[]"), int(port)), self._left())
        if self._site.get("tls"):
            context = ssl.create_default_context(cafile=self._site.get("ca_file") or None)
            found = context.wrap_socket(found, server_hostname=host.strip("[]"))
        return found

    def _left(self):
        left = min(self._seconds, self._deadline.left())
        if left <= 0:
            raise socket.timeout("timed out")
        return left

    def _lost(self, error):
        reason = "it did not answer in time" if isinstance(error, socket.timeout) else getattr(error, "strerror", None) or str(error)
        raise Stop(UNAVAILABLE, "Redis at %s cannot be asked: %s; see address in /etc/bolt/packs/redis.yaml" % (clean(self.address), clean(reason)))

    def _more(self):
        self._socket.settimeout(self._left())
        part = self._socket.recv(1 << 16)
        if not part:
            raise ConnectionError("it closed the connection")
        self._read += len(part)
        if self._read > MAX_ANSWER:
            raise Stop(FAILED, "the server answers more than %d bytes" % MAX_ANSWER)
        self._buffer += part

    def _line(self):
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _bytes(self, count):
        parts, left = [], count + 2
        while left > 0:
            if not self._buffer:
                self._more()
            parts.append(self._buffer[:left])
            left -= len(parts[-1])
            self._buffer = self._buffer[len(parts[-1]) :]
        return b"".join(parts)[:-2]

    def _answer(self, depth):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refused(clean(rest, 300))
        if not INTEGER.match(rest) or kind not in b":$*" or depth > MAX_DEPTH:
            raise Stop(FAILED, "%s does not speak the protocol of Redis" % clean(self.address))
        number = int(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        if number > MAX_ANSWER:
            raise Stop(FAILED, "the server answers more than %d bytes" % MAX_ANSWER)
        return self._bytes(number) if kind == b"$" else [self._answer(depth + 1) for _ in range(number)]


def encode(words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode("utf-8")
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


def connect(given, deadline, seconds=10.0, while_loading=False):
    """Connects to the server of the site configuration; `while_loading`: also if it answers hardly more than INFO."""
    address = dict(config(), **(given.get("bolt_config") or {})).get("address", "127.0.0.1:6379")
    if not address.startswith("/") and not re.match(r"^(.+):([0-9]{1,5})$", address):
        raise Stop(WRONG, "address: %s is neither a path nor an address with a port" % clean(address))
    return Server(given, deadline, seconds, while_loading)


def info(server, *sections):
    """Returns the pairs of INFO; sections are joined. Stops the action if the server gives none."""
    found = {}
    # Redis 4 and 5 do not know `everything`, which adds only what modules say, and answer such a section with nothing.
    for section in sections or ("all",):
        try:
            text = server.ask("INFO", section)
        except Refused as error:
            raise Stop(FAILED, "the server refuses INFO: %s" % error)
        for line in (text if isinstance(text, bytes) else b"").decode("utf-8", "replace").splitlines():
            key, colon, value = line.partition(":")
            if colon and not line.startswith("#"):
                found[key] = value
    if not found:
        raise Stop(FAILED, "the server answers INFO %s with nothing" % " ".join(sections or ("all",)))
    return found


def number(pairs, key, default=0):
    """Returns a whole number of INFO."""
    try:
        return int(float(pairs.get(key, default)))
    except (ValueError, OverflowError):
        return default


def pairs(text):
    """Parses `a=1 b=2` or `a=1,b=2` to a dictionary."""
    return dict(item.partition("=")[::2] for item in re.split(r"[ ,]", text) if "=" in item)


def setting(server, name):
    """Returns a value of the configuration; empty if it is unknown or the user may not read it."""
    answer = server.maybe("CONFIG", "GET", name)
    return answer[1].decode("utf-8", "replace") if isinstance(answer, list) and len(answer) == 2 else ""


def steadily(deadline, seconds):
    """Sleeps for a while, at most until the deadline."""
    time.sleep(min(seconds, deadline.left()))
