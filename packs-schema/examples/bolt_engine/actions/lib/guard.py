"""Timer of systemd that installs the previous version if the upgrade does not end: a new version whose fault also stops this
action, or a kill that it cannot answer, must not leave a host without an agent."""

from lib.command import last_lines, run

UNIT = "bolt-engine-rollback"


def arm(command, seconds):
    """Starts the timer. Returns a problem, or None."""
    disarm()
    status, text = run(
        [
            "systemd-run",
            "--quiet",
            "--unit=" + UNIT,
            "--on-active=%d" % seconds,
            "--timer-property=AccuracySec=1s",
            "--property=Restart=on-failure",
            "--property=RestartSec=30",
            "--setenv=DEBIAN_FRONTEND=noninteractive",
            "--setenv=PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "--",
        ]
        + command,
        30,
    )
    return None if status == 0 else "the timer that would return to the installed version cannot be started: %s" % ("; ".join(last_lines(text, 2)) or "systemd-run failed")


def disarm():
    """Stops the timer and its retries, and forgets a failed run of it. An installation that it has begun goes on."""
    run(["systemctl", "stop", "--", UNIT + ".timer"], 30)
    if run(["systemctl", "is-active", "--", UNIT + ".service"], 30)[1].strip() != "active":
        run(["systemctl", "stop", "--", UNIT + ".service"], 30)
    run(["systemctl", "reset-failed", "--", UNIT + ".timer", UNIT + ".service"], 30)
