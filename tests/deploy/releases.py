"""Releases below another root, deployed by the shipped script from the shipped systemd units."""

import fcntl
import os
import subprocess

from sandbox.process import tail
from tests.support.servers import PROJECT, Gateway
from tests.support.units import Systemd


def deploy(systemd: Systemd, version: str, *, code: int = 0) -> str:
    """Deploy an installed release; return the output of the script, which exits with `code`."""
    script = PROJECT / "deploy" / "deploy.sh"
    with script.open() as held:
        # Of one checkout only one deploy may run, and tests in other processes deploy from it too.
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(
            [script, "systemd", version],
            env={
                "PATH": f"{systemd.programs}:{os.environ['PATH']}",
                "DEPLOY_ROOT": str(systemd.root),
                "DEPLOY_WAIT_SECONDS": "120",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    logs = [tail(path) for path in (systemd.root / "log").glob("*")]
    assert done.returncode == code, "\n".join([done.stdout, *logs])
    return done.stdout


def configure(systemd: Systemd, gateway: Gateway) -> None:
    """Write the environment file with the variables of a gateway, which is not started itself."""
    variables = dict(gateway.environment)
    for name in ("PATH", "HOME", "PYTHONPATH"):
        variables.pop(name, None)
    systemd.configure(variables)
