"""State of the agent on this host: its unit, the program of its process, the api and its port."""

import json
import os
import re
import socket
import ssl
import time

from lib.bolt_action import UNAVAILABLE, Stop, clean, read
from lib.command import run

UNIT = "bolt-launch.service"
LAUNCHER = "/usr/lib/bolt/bolt-launch"
AGENT = "/usr/lib/bolt/bolt-agent"
CONFIG = "/etc/bolt/agent.toml"
API_STATE = "/run/bolt/api.json"


def state():
    """Returns the state of the launcher's unit: state, main_pid, restarts and seconds since the start of its process."""
    status, text = run(["systemctl", "show", "--no-pager", "--property=ActiveState,MainPID,NRestarts", "--", UNIT], 15)
    if status != 0:
        raise Stop(UNAVAILABLE, "systemctl show %s does not respond: %s" % (UNIT, clean(text)))
    found = dict(line.partition("=")[::2] for line in text.splitlines())
    pid = int(found.get("MainPID") or 0)
    return {
        "state": clean(found.get("ActiveState", "unknown"), 32),
        "main_pid": pid,
        "restarts": int(found.get("NRestarts") or 0),
        "seconds": age(pid),
    }


def age(pid):
    """Returns the number of seconds since a process started; 0 if there is none."""
    stat, uptime = read("/proc/%d/stat" % pid, 4096), read("/proc/uptime", 64)
    if not pid or not stat or not uptime:
        return 0
    started = int(stat.rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return max(0, int(float(uptime.split()[0]) - started))


def check(settled, root):
    """Returns (launcher, api state, address, problems)."""
    launcher, problems = state(), []
    if launcher["state"] != "active":
        problems.append("%s is %s; see journalctl -u %s" % (UNIT, launcher["state"], UNIT))
    else:
        problems += program_problems(launcher["main_pid"], root)
        if launcher["seconds"] < settled:
            problems.append("the launcher started %d seconds ago" % launcher["seconds"])
    api, found = api_state(settled, root)
    problems += found
    address, found = port(root)
    problems += found
    return launcher, api, address, problems


def program_problems(pid, root):
    """Returns a problem if the launcher's process does not run the installed program."""
    try:
        running, installed = os.stat("/proc/%d/exe" % pid), os.stat(root + LAUNCHER)
    except OSError as error:
        return ["the program of the launcher cannot be read: %s" % error]
    if (running.st_dev, running.st_ino) != (installed.st_dev, installed.st_ino):
        return ["the launcher still runs the previous program; restart %s" % UNIT]
    return []


def api_state(settled, root):
    """Returns the state of the api from the launcher's report, and problems."""
    text = read(root + API_STATE, 65536)
    try:
        record = json.loads(text or b"")
        found, since = clean(str(record["state"]), 32), int(record["since_ms"]) / 1000
    except (ValueError, KeyError, TypeError):
        return "unknown", ["%s cannot be read" % API_STATE]
    if found != "running":
        return found, ["the api is %s (%s failures); see journalctl -u %s" % (found, clean(str(record.get("failures")), 20), UNIT)]
    seconds = time.time() - since
    return found, ["the api is running for %d seconds only" % seconds] if 0 <= seconds < settled else []


def port(root):
    """Returns the api's address, and a problem if no TLS server answers there."""
    address = listen_address((read(root + CONFIG) or b"").decode("utf-8", "replace"))
    if not address:
        return "", ["%s contains no address to listen at" % CONFIG]
    host, _, number = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    # Only whether a TLS server answers: the certificate's name is the instance's, and its authority is the callers' business.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, int(number)), timeout=10) as plain:
            with context.wrap_socket(plain):
                return clean(address), []
    except (OSError, ValueError) as error:
        return clean(address), ["no TLS server answers at %s: %s" % (clean(address), clean(str(error)))]


def listen_address(text):
    """Returns `listen` of the table `api` in a TOML text, however it is written there; empty if there is none. Python reads TOML
    by itself from version 3.11 on only."""
    table, string = [], r"""("[^"\s]{1,200}"|'[^'\s]{1,200}')"""
    for line in text.splitlines():
        header = re.match(r"\s*\[+([^\[\]]+)\]", line)
        if header:
            table = words(header.group(1))
            continue
        key, _, value = line.partition("=")
        found = None
        if table + words(key) == ["api", "listen"]:
            found = re.match(r"\s*" + string, value)
        elif table + words(key) == ["api"]:
            found = re.match(r"\s*\{(?:.*,)?\s*listen\s*=\s*" + string, value)
        if found:
            return found.group(1)[1:-1]
    return ""


def words(dotted):
    """Returns the parts of a dotted key of TOML."""
    return [part.strip(" \t\"'") for part in dotted.split(".")]


def wait_until_healthy(start_wait, settle, root):
    """Waits until the agent is healthy, then for `settle` seconds that it stays so with the same process. Returns problems."""
    until = time.monotonic() + start_wait
    while True:
        launcher, _, _, problems = check(0, root)
        if not problems:
            break
        if time.monotonic() >= until:
            return problems
        time.sleep(0.5)
    time.sleep(settle)
    after, _, _, problems = check(0, root)
    if (after["main_pid"], after["restarts"]) != (launcher["main_pid"], launcher["restarts"]):
        problems.append("systemd restarted the launcher within %d seconds" % settle)
    return problems


def configuration_problems(unpacked, root):
    """Returns what the unpacked version's check-config says against the host's configuration."""
    program = unpacked + AGENT
    if not os.path.isfile(program):
        return ["the package contains no %s" % AGENT]
    status, text = run([program, "check-config", "--config", root + CONFIG], 60)
    if status is None:
        return ["the new programs cannot be run: %s" % text]
    if status == 0:
        return []
    return ["its check-config ends with status %s" % status] + [clean(line, 300) for line in text.strip().splitlines()[-10:]]
