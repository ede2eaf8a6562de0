#!/usr/bin/python3
"""Tries to outlive its execution, in the way that is asked for. Every process of it has the mark in its command line."""
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

HOW, MARK = os.environ["BOLT_PARAM_HOW"].split("+"), os.environ["BOLT_PARAM_MARK"]
SLEEP = [sys.executable, "-S", "-c", "import time\nwhile True: time.sleep(60)", MARK]
PR_SET_CHILD_SUBREAPER = 36
# Taken for as long as one of those lives who were forked and ran nothing else: no list of processes shows these reliably.
NAME = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
NAME.bind("\0" + MARK)


def deaf():
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
    # A child that ends is nobody's to wait for, but subprocess would like to.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def daemon():
    """Two forks, a session of its own, no descriptors, no environment, another directory."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            os.closerange(0, 256)
            for _ in range(3):
                os.open("/dev/null", os.O_RDWR)
            os.execve(SLEEP[0], SLEEP, {})
        os._exit(0)
    os.wait()


def bomb():
    """Everybody forks until the kernel says no, and then again."""
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)


def runner():
    """Never the same process for long: a child goes on, the parent ends. Until the pack is gone, should it survive."""
    if os.fork() == 0:
        os.setsid()
        while os.path.exists(sys.argv[0]):
            try:
                if os.fork() != 0:
                    os._exit(0)
            except OSError:
                pass
            time.sleep(0.002)


def leave_groups():
    """Moves itself to the top of every hierarchy; needs root."""
    for top, directories, files in os.walk("/sys/fs/cgroup"):
        depth = top[len("/sys/fs/cgroup"):].count("/")
        if depth >= 2:
            directories.clear()
        for name in ("tasks", "cgroup.procs"):
            if name in files and depth <= 1:
                try:
                    with open(os.path.join(top, name), "w") as door:
                        door.write("0" if name == "tasks" else str(os.getpid()))
                except OSError:
                    pass


def reaper():
    """Orphans become somebody else's children than the shim's."""
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.setsid()
        daemon()
        while True:
            time.sleep(60)


def namespace():
    """Into a process namespace of its own, where the host's allows one; needs root."""
    subprocess.Popen(["unshare", "--pid", "--fork", "--mount-proc", *SLEEP], start_new_session=True)


for step in HOW:
    if step == "deaf":
        deaf()
    elif step == "session":
        subprocess.Popen(SLEEP, start_new_session=True)
    elif step == "daemon":
        daemon()
    elif step == "bomb":
        bomb()
    elif step == "runner":
        runner()
    elif step == "leave":
        leave_groups()
    elif step == "reaper":
        reaper()
    elif step == "namespace":
        namespace()
    elif step == "stopped":
        os.kill(subprocess.Popen(SLEEP, start_new_session=True).pid, signal.SIGSTOP)
    elif step == "held":
        # Keeps our pipes open beyond our end.
        subprocess.Popen(SLEEP, stdout=1, stderr=2, start_new_session=True)
    elif step == "end":
        sys.exit(0)
    else:
        sys.exit("unknown: " + step)
print("ready", flush=True)
if "stop" in os.environ.get("BOLT_PARAM_LAST", ""):
    os.kill(os.getpid(), signal.SIGSTOP)
while True:
    time.sleep(60)
