"""Looks for errors of block devices in the kernel log."""

import os
import re

from lib import tool
from lib.bolt_action import FAILED, Stop, clean, read

BLOCK = "/sys/class/block"
ERROR = re.compile(rb"error|corrupt|shutdown|abort|read-only", re.IGNORECASE)
# The mount option errors=remount-ro is in the message of every mount of ext4.
OPTION = re.compile(rb"\berrors=\S+")
MAX_NAMES = 64


def check(source, number, despite):
    """Returns the lines of the kernel log that report errors of a device; stops the action if the device is not good enough.

    `number` is major:minor. Hosts may call the source of the root file system /dev/root, which is no device."""
    found = os.path.realpath("/sys/dev/block/" + number)
    name = os.path.basename(found if os.path.isdir(found) else os.path.realpath(source))
    for device in names(name):
        if (read("%s/%s/ro" % (BLOCK, device), 8) or b"0").strip() != b"0":
            raise Stop(FAILED, "the block device %s itself is read-only" % clean(device))
    try:
        _, out, _ = tool.run(["dmesg"], 20)
    except Stop as stop:
        if not despite:
            raise Stop(FAILED, "the kernel log cannot be read, so errors of the device are unknown (%s); pass despite_errors=true to go on" % stop)
        return []
    lines = [clean(line, 300) for line in errors(out, names(name))][-20:]
    for line in lines:
        print("  | " + line)
    if lines and not despite:
        raise Stop(FAILED, "the kernel log has errors of %s: check the file system first; despite_errors=true remounts all the same" % clean(source))
    return lines


def names(name):
    """Returns a device and those below it: the disk of a partition, which the kernel names in I/O errors, and the devices of a
    logical volume."""
    found, left = [], [name]
    while left and len(found) < MAX_NAMES:
        device = left.pop()
        if device in found:
            continue
        found.append(device)
        path = os.path.realpath("%s/%s" % (BLOCK, device))
        if os.path.exists(path + "/partition"):
            left.append(os.path.basename(os.path.dirname(path)))
        try:
            left.extend(os.listdir(path + "/slaves"))
        except OSError:
            continue
    return found


def errors(log, devices):
    """Returns the lines of a kernel log that report an error and name one of these devices."""
    word = re.compile(rb"\b(?:" + b"|".join(re.escape(os.fsencode(device)) for device in devices) + rb")\b")
    return [line for line in log.splitlines() if word.search(line) and ERROR.search(OPTION.sub(b"", line))]
