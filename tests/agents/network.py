"""A network of its own for the whole run, with nothing but the loopback interface.

So no program under test reaches another machine, whatever it tries. It takes root, and a container
may forbid it to root as well: then the run uses the network as it is.
"""

import os
import subprocess
import sys

MARK = "PROMPTLY_AGENTS_ALONE"
UNSHARE = ["unshare", "--net"]


def is_possible() -> bool:
    """Return whether this process may create a network namespace."""
    if os.geteuid() != 0:
        return False
    try:
        probe = [*UNSHARE, "ip", "link", "set", "lo", "up"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def enter(module: str, arguments: list[str]) -> None:
    """Run a module again in a network of its own, in place of this process, if that is possible."""
    if MARK in os.environ or not is_possible():
        return
    os.environ[MARK] = "1"
    script = 'ip link set lo up && exec "$@"'
    command = [*UNSHARE, "sh", "-c", script, "sh", sys.executable, "-m", module, *arguments]
    os.execvp(command[0], command)
