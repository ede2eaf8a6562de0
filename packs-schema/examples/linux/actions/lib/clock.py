"""Reads the state of the clock: from the kernel, the daemon that keeps it, and a time server."""

import ctypes
import os
import socket
import struct
import time

from lib import tool
from lib.bolt_action import Stop, clean

NTP_EPOCH = 2208988800  # Seconds from 1900 to 1970.
UNSYNCHRONIZED = 0x40  # STA_UNSYNC of adjtimex(2).
TIMESYNC = "/run/systemd/timesync"
SILENT_POLLS, LONGEST_POLL = 4, 1024.0  # Seconds, of chrony's default maxpoll 10.


def kernel():
    """Returns whether the clock is synchronized, and the bound of its error in milliseconds (-1: unknown)."""
    timex = ctypes.create_string_buffer(512)  # All zero: mode 0 only reads.
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError):
        return False, -1.0
    if state < 0:
        return False, -1.0
    _, _, _, error, _, status = struct.unpack_from("@Illlli", timex)
    return not status & UNSYNCHRONIZED, round(error / 1000.0, 3)


def daemon():
    """Returns the daemon that keeps the clock, its state, and the offset in milliseconds that it knows (or None)."""
    if tool.has("chronyc"):
        try:
            status, out, _ = tool.run(["chronyc", "-c", "-n", "tracking"], 10, accept=None)
        except Stop:
            status, out = 1, b""
        fields = out.decode("ascii", "replace").strip().split(",")
        if status == 0 and len(fields) >= 14:
            try:
                return ("chrony",) + tracking(fields)
            except ValueError:
                pass
    # Neither timedatectl nor systemctl: the bus refuses the id of an execution, which has no account.
    if timesyncd_runs():
        return "systemd-timesyncd", "synchronized: %s" % ("yes" if kernel()[0] else "no"), None
    return "none", "", None


def tracking(fields):
    """Returns state and offset of chrony.

    While no server answers, chrony goes on with its last estimate, and reports an offset of 0 from that."""
    slow, last, interval = float(fields[4]), float(fields[3]), float(fields[12])
    detail = "server %s, stratum %s, %s" % (clean(fields[1], 60), clean(fields[2], 4), clean(fields[13], 40))
    if fields[13] == "Not synchronised":
        return detail, None
    # The time of the last answer is that of the server, or of this clock before it was corrected.
    silent = time.time() + min(slow, 0.0) - last
    if silent > SILENT_POLLS * max(interval, LONGEST_POLL):
        return "%s, without an answer of a server for %d s" % (detail, silent), None
    # Positive in chrony's report: the clock is slow (behind) of NTP time.
    return detail, -1000.0 * slow


def timesyncd_runs():
    """True if systemd-timesyncd runs: it has a directory while it does (systemd 239)."""
    return os.path.isdir(TIMESYNC)


def timesyncd_has_set():
    """True if systemd-timesyncd has set the clock since its start."""
    return os.path.exists(TIMESYNC + "/synchronized")


def measure(server, seconds=3.0):
    """Asks a time server (RFC 5905, client mode); returns the offset in milliseconds, positive if the clock is ahead, and a problem."""
    address, _, port = server.partition("#")
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(seconds)
            sock.connect((address, int(port or "123")))
            token = os.urandom(8)  # In the place of the transmit time, which the server returns.
            began, since = time.time(), time.monotonic()
            sock.send(b"\x23" + bytes(39) + token)
            answer = sock.recv(512)
            ended = began + (time.monotonic() - since)
    except (OSError, OverflowError) as error:
        return None, "time server %s: %s" % (clean(server, 60), clean(str(getattr(error, "strerror", None) or error), 100))
    if len(answer) < 48 or answer[0] & 7 != 4 or answer[24:32] != token or not 1 <= answer[1] <= 15:
        return None, "time server %s: the answer is not valid, or the server itself is not synchronized" % clean(server, 60)
    received, sent = (moment(answer, at) for at in (32, 40))
    return 1000.0 * ((began - received) + (ended - sent)) / 2.0, None


def moment(answer, at):
    whole, part = struct.unpack_from("!II", answer, at)
    return whole - NTP_EPOCH + part / 4294967296.0
