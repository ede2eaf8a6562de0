"""Finds the disks of the host in /sys, and where they are mounted."""

import os
import re

from lib.bolt_action import clean, read

BLOCK = "/sys/class/block"
SERIAL = re.compile(rb"^vol-?([0-9a-f]{8,17})$")


def find():
    """Returns the disks that are devices of the instance: device, volume_id, model, bytes, mounts."""
    mounted, rows = mounts(), []
    try:
        names = sorted(os.listdir(BLOCK))
    except OSError:
        names = []
    for name in names[:500]:
        base = os.path.join(BLOCK, name)
        if os.path.exists(os.path.join(base, "partition")) or not re.match(r"^(nvme\d+n\d+|xvd[a-z]+|sd[a-z]+)$", name):
            continue
        serial = SERIAL.match((read(base + "/device/serial", 128) or b"").strip())
        sectors = (read(base + "/size", 64) or b"0").strip()
        rows.append({
            "device": "/dev/" + name,
            "volume_id": "vol-" + serial.group(1).decode() if serial else "",
            "model": clean((read(base + "/device/model", 128) or b"").strip(), 60),
            "bytes": 512 * int(sectors) if sectors.isdigit() else 0,
            "mounts": [{"path": clean(path, 300), "used_percent": used_percent(path)} for path in places(base, mounted)][:50],
        })  # fmt: skip
    return rows


def places(base, mounted):
    """Returns where a disk, its partitions and what lies on them (LVM, RAID, encryption) are mounted."""
    found, left, seen = [], [base], set()
    while left and len(seen) < 200:
        device = left.pop(0)
        number = (read(device + "/dev", 32) or b"").strip().decode("ascii", "replace")
        if number in seen:
            continue
        seen.add(number)
        found += mounted.get(number, [])
        try:
            names = sorted(os.listdir(device))
        except OSError:
            continue
        left += [os.path.join(device, name) for name in names if os.path.exists(os.path.join(device, name, "partition"))]
        try:
            left += [os.path.join(BLOCK, name) for name in sorted(os.listdir(device + "/holders"))]
        except OSError:
            pass
    return found


def mounts():
    """Returns mount points by device number."""
    found = {}
    for line in (read("/proc/self/mountinfo", 1 << 20) or b"").splitlines():
        fields = line.split()
        if len(fields) > 4:
            path = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8)]), fields[4])
            found.setdefault(fields[2].decode("ascii", "replace"), []).append(os.fsdecode(path))
    return found


def used_percent(path):
    try:
        info = os.statvfs(path)
    except OSError:
        return -1
    used = info.f_blocks - info.f_bfree
    return -(-used * 100 // (used + info.f_bavail)) if used + info.f_bavail else -1
