"""Obtains a package file: from the host's repositories, or from the site's address with the digest of the caller."""

import hashlib
import os
import shutil
import ssl
import urllib.error
import urllib.request

from lib.bolt_action import FAILED, UNAVAILABLE, WRONG, Stop, human
from lib.command import last_lines, run
from lib.packages import PACKAGE

LARGEST = 256 << 20
DOWNLOAD_SECONDS = 600


def fetch(packages, site, version, sha256, directory, deadline):
    """Puts the package file of `version` into `directory` and returns its path. Stops with a reason if that fails."""
    source = site.get("source") or packages.source
    path = os.path.join(directory, "candidate" + packages.suffix)
    if source == "url":
        if not sha256:
            raise Stop(WRONG, "sha256 (rollback_sha256 for the installed version %s): required, because this host has source url" % packages.installed())
        download(address(packages, site, version), site, path, deadline)
    else:
        from_repository(source, version, directory, path, deadline)
        if source == "dnf" and not sha256:
            require_signature(path)
    found = digest(path)
    if sha256 and found != sha256:
        raise Stop(FAILED, "the file of version %s has sha256 %s, not the expected %s; nothing was installed" % (version, found, sha256))
    check(packages, path, version)
    print("obtained %s %s (%s, sha256 %s)" % (PACKAGE, version, human(os.path.getsize(path)), found))
    return path


def check(packages, path, version):
    """Stops unless the file is this version of the agent's package for this host."""
    shown = packages.describe(path)
    if shown is None:
        raise Stop(FAILED, "the file of version %s is not a package (%s)" % (version, packages.suffix))
    name, found, arch = shown
    expected = packages.architecture()
    if (name, found) != (PACKAGE, version) or arch not in (expected, "all", "noarch"):
        raise Stop(FAILED, "the file is %s %s for %s, not %s %s for %s" % (name, found, arch, PACKAGE, version, expected))


def address(packages, site, version):
    """Returns the address for this version and this host."""
    template = site.get("url")
    if not template:
        raise Stop(WRONG, "url: not set in /etc/bolt/packs/bolt_engine.yaml, which has source url")
    found = template.replace("{version}", version).replace("{arch}", packages.architecture())
    if "{" in found or "}" in found:
        raise Stop(WRONG, "url in /etc/bolt/packs/bolt_engine.yaml: only {version} and {arch} are replaced")
    return found


class OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith("https://"):
            raise urllib.error.URLError("redirected to an address without https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url, site, path, deadline):
    """Downloads `url` to `path`, at most LARGEST bytes."""
    if url.startswith("s3://"):
        status, text = run(["aws", "s3", "cp", "--only-show-errors", url, path], min(DOWNLOAD_SECONDS, deadline.left()))
        if status != 0:
            raise Stop(UNAVAILABLE, "aws s3 cp %s failed: %s" % (url, "; ".join(last_lines(text, 3))))
        return
    if url.startswith("file://"):
        try:
            shutil.copyfile(url[len("file://") :], path)
        except OSError as error:
            raise Stop(UNAVAILABLE, "%s: %s" % (url, error.strerror))
        return
    try:
        context = ssl.create_default_context(cafile=site.get("ca_file"))
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), OnlyHttps())
        with opener.open(url, timeout=30) as response, open(path, "wb") as out:
            total = 0
            while True:
                part = response.read(1 << 20)
                if not part:
                    return
                total += len(part)
                if total > LARGEST:
                    raise Stop(FAILED, "%s is larger than %s" % (url, human(LARGEST)))
                if deadline.passed():
                    raise Stop(FAILED, "%s: the time for the download is over after %s" % (url, human(total)))
                out.write(part)
    except (OSError, ValueError) as error:
        raise Stop(UNAVAILABLE, "%s: %s" % (url, getattr(error, "reason", error)))


def from_repository(source, version, directory, path, deadline):
    """Downloads the package with the host's package manager, which checks its signatures."""
    wanted = "%s=%s" % (PACKAGE, version) if source == "apt" else "%s-%s" % (PACKAGE, version)
    if source == "apt":
        # Without this option apt-get reports lists with a bad signature as a warning, and ends with 0.
        refresh = ["apt-get", "--quiet", "-o", "APT::Update::Error-Mode=any", "update"]
        command = ["apt-get", "--quiet", "-o", "APT::Sandbox::User=root", "download", wanted]
    else:
        # By itself dnf uses lists for two days, so that a version that was just published would not be found.
        refresh = ["dnf", "--quiet", "--assumeyes", "--refresh", "makecache"]
        command = ["dnf", "--quiet", "--assumeyes", "download", "--destdir", directory, wanted]
    status, text = run(refresh, min(DOWNLOAD_SECONDS, deadline.left()))
    if status != 0:
        print("%s %s failed (%s); using the existing lists" % (refresh[0], refresh[-1], "; ".join(last_lines(text, 1))))
    before = set(os.listdir(directory))
    status, text = run(command, min(DOWNLOAD_SECONDS, deadline.left()), directory)
    new = sorted(set(os.listdir(directory)) - before)
    if status != 0 or len(new) != 1:
        raise Stop(UNAVAILABLE, "%s cannot obtain %s: %s" % (command[0], wanted, "; ".join(last_lines(text, 3)) or "no file"))
    os.rename(os.path.join(directory, new[0]), path)


def require_signature(path):
    """Stops unless a key that rpm trusts signed the file; dnf download does not check that."""
    status, text = run(["rpm", "--checksig", path], 60)
    verdict = text.strip().rpartition(":")[2]
    if status != 0 or not ("signatures" in verdict or "pgp" in verdict):
        raise Stop(FAILED, "the file is not signed by a key that rpm trusts: %s" % "; ".join(last_lines(text, 1)))


def digest(path):
    """Returns the SHA-256 of a file in hexadecimal."""
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            hashed.update(part)
    return hashed.hexdigest()
