"""Reads configuration and output of logrotate."""

import re

SCRIPTS = (b"prerotate", b"postrotate", b"firstaction", b"lastaction", b"preremove")
INCLUDE = re.compile(rb"^include[\s=]+[\"']?([^\"'\s]+)")
# These lines are the same in logrotate 3.8 (Amazon Linux 2) and 3.22.
LOSING = re.compile(rb"^rotating pattern: (.*?)(?: +forced from command line)? +\(no old logs will be kept\)$")
CONSIDERED = re.compile(rb"^considering log (.*)$")


def defaults(text, directory):
    """Returns the lines of a logrotate.conf that hold for the files of `directory`: its options outside of blocks, before the
    include of that directory."""
    kept, in_block, script = [], False, None
    for line in text.splitlines():
        word = line.strip()
        if script is not None:
            script.append(line)
            if word == b"endscript":
                script = None
        elif word in SCRIPTS:
            script = [] if in_block else kept  # What stands in a block is left out.
            script.append(line)
        elif in_block:
            in_block = b"}" not in word
        elif word and not word[:1].isalpha():  # A comment, or the names of logs in front of a block.
            in_block = not word.startswith(b"#") and b"{" in word and b"}" not in word.partition(b"{")[2]
        elif word.startswith(b"include"):
            match = INCLUDE.match(word)
            if match and match.group(1).rstrip(b"/") == directory.encode():
                break
        elif word:
            kept.append(line)
    return b"".join(line + b"\n" for line in kept)


class Plan:
    """Logs that are due, and patterns whose logs would be removed instead of kept under another name."""

    def __init__(self):
        self.due, self.losing = [], []


def plan(output):
    """Reads the output of `logrotate -d -v`."""
    found, log = Plan(), None
    for line in output.splitlines():
        losing, considered = LOSING.match(line), CONSIDERED.match(line)
        if losing:
            found.losing.append(losing.group(1))
        elif considered:
            log = considered.group(1)
        elif line.strip() == b"log needs rotating" and log is not None:
            found.due.append(log)
            log = None
    return found
