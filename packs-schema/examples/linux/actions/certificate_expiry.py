#!/usr/bin/env python3
"""Lists expiry dates of X.509 certificates in files and directories: expired, critical, warning or ok."""

import os
import stat
import sys
import time

sys.dont_write_bytecode = True  # The pack's directory is not ours to change.
from lib import x509  # noqa: E402
from lib.bolt_action import FAILED, UNAVAILABLE, Deadline, Stop, clean, finish, main, parameters, table, utc  # noqa: E402

ENDINGS = (".pem", ".crt", ".cer", ".cert", ".der")
MAX_FILES, MAX_DEPTH, MAX_FILE, MAX_CERTIFICATES = 5000, 5, 1 << 20, 5000
ORDER = ("expired", "not_yet_valid", "critical", "warning", "ok")


def action():
    given = parameters()
    scan = Scan(given, Deadline(100.0))
    missing = [path for path in given["paths"] if not scan.path(path)]
    if len(missing) == len(given["paths"]):
        raise Stop(UNAVAILABLE, "none of the paths exists: %s" % ", ".join(clean(path) for path in missing))
    scan.found.sort(key=lambda c: (c["days_left"], c["file"]))
    counts = {}
    for certificate in scan.found:
        counts[certificate["status"]] = counts.get(certificate["status"], 0) + 1
    result = {
        "complete": scan.complete,
        "files": scan.files,
        "counts": counts,
        "certificates": scan.found[:200],
        "not_read": scan.not_read[:50],
        "missing": [clean(path) for path in missing],
    }
    show(result)
    finish(result)
    bad = {"never": (), "critical": ORDER[:3], "warning": ORDER[:4]}[given["fail_on"]]
    return FAILED if any(counts.get(status) for status in bad) else None


class Scan:
    """Reads the certificates of paths, within limits. Records why a file could not be read."""

    def __init__(self, given, deadline):
        self._warn, self._critical, self._deadline = given["warn_days"], given["critical_days"], deadline
        self._now = time.time()
        self._seen = set()
        self.files = 0
        self.complete = True
        self.found, self.not_read = [], []

    def path(self, path):
        """Scans a file, or the certificate files below a directory. False if it does not exist."""
        try:
            info = os.stat(path)
        except OSError:
            return False
        if not stat.S_ISDIR(info.st_mode):
            self._file(path, named=True)
            return True
        for directory, directories, names in os.walk(path, onerror=self._unreadable):
            if directory[len(path.rstrip("/")) :].count("/") >= MAX_DEPTH:
                directories[:] = []
            for name in sorted(names):
                if self._full():
                    return True
                if name.lower().endswith(ENDINGS):
                    self._file(os.path.join(directory, name), named=False)
        return True

    def _full(self):
        if self.files >= MAX_FILES or len(self.found) >= MAX_CERTIFICATES or self._deadline.passed():
            self.complete = False
        return not self.complete

    def _unreadable(self, error):
        self._problem(error.filename or "?", error.strerror)

    def _problem(self, path, reason):
        if len(self.not_read) < 1000:
            self.not_read.append({"file": clean(path), "reason": clean(reason, 120)})

    def _file(self, path, named):
        try:
            # Symbolic links are followed: certificates in use often are links. O_NONBLOCK: do not wait for a named pipe.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            return self._problem(path, error.strerror)
        with open(fd, "rb") as file:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                return self._problem(path, "not a regular file")
            if (info.st_dev, info.st_ino) in self._seen:
                return None
            self._seen.add((info.st_dev, info.st_ino))
            self.files += 1
            if info.st_size > MAX_FILE:
                return self._problem(path, "larger than 1 MiB")
            text = file.read(MAX_FILE)
        found = x509.certificates(text)
        # A directory may contain keys and requests with the same suffixes; ignore those.
        if not found and (named or b"PRIVATE KEY-----" not in text and b"-----BEGIN " not in text):
            self._problem(path, "contains no certificate in PEM or DER")
        for der in found[:MAX_CERTIFICATES]:
            self._certificate(path, der)
        return None

    def _certificate(self, path, der):
        try:
            if isinstance(der, Exception):
                raise der
            fields = x509.parse(der)
        except x509.NotACertificate as error:
            return self._problem(path, "not a certificate: %s" % error)
        left = (fields["not_after"] - self._now) / 86400.0
        self.found.append(
            {
                "file": clean(path),
                "subject": clean(fields["subject"], 100),
                "issuer": clean(fields["issuer"], 100),
                "names": [clean(name, 100) for name in fields["names"][:5]],
                "serial": fields["serial"],
                "not_before": when(fields["not_before"]),
                "not_after": when(fields["not_after"]),
                "days_left": int(left // 1),
                "status": self._status(fields, left),
            }
        )
        return None

    def _status(self, fields, left):
        if left < 0:
            return "expired"
        if fields["not_before"] > self._now:
            return "not_yet_valid"
        if left < self._critical:
            return "critical"
        return "warning" if left < self._warn else "ok"


def when(moment):
    try:
        return utc(moment)
    except (ValueError, OverflowError, OSError):
        return "?"


def show(result):
    counts = ", ".join("%d %s" % (result["counts"][s], s) for s in ORDER if s in result["counts"]) or "none"
    print("Certificates in %d files: %s" % (result["files"], counts))
    rows = [
        (c["status"], c["days_left"], c["not_after"], c["subject"] or ",".join(c["names"]) or "(no name)", c["file"])
        for c in result["certificates"]
    ]
    table(rows, ("STATUS", "DAYS", "ENDS", "SUBJECT", "FILE"), right=(1,))
    for problem in result["not_read"]:
        print("  not read: %s: %s" % (problem["file"], problem["reason"]))
    for path in result["missing"]:
        print("  does not exist: %s" % path)
    if not result["complete"]:
        print("  INCOMPLETE: too many files, or the deadline was reached; give narrower paths")


main(action)
