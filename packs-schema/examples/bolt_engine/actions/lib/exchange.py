"""Exchanges the installed version for another one, and waits until the agent is healthy with it."""

from lib import agent
from lib.command import last_lines, run
from lib.packages import install


def exchange(packages, path, start_wait, settle, root):
    """Installs a package file and returns problems; none if the agent runs it and stays healthy."""
    before = agent.state()
    problem = install(packages, path)
    if problem:
        return [problem]
    # The package restarts the launcher; this covers a package manager that was told not to run such scripts.
    if agent.program_problems(agent.state()["main_pid"], root) or agent.state()["main_pid"] == before["main_pid"]:
        status, text = run(["systemctl", "restart", "--", agent.UNIT], 120)
        if status != 0:
            return ["systemctl restart %s ended with status %s: %s" % (agent.UNIT, status, "; ".join(last_lines(text, 2)))]
    return agent.wait_until_healthy(start_wait, settle, root)
